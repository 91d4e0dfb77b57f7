"""Notes on keys that the sizes of a plan leave without effect: a sweep over sizes may keep them, but not in silence.

What the model or another key rules out is refused (`contradictions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from policies.parallelism.gradient_reduce import GradientReduce
from sim.training.activation_copies import FROM_HOST, TO_HOST
from sim.training.contradictions import given
from sim.training.paired import paired_seconds
from sim.training.simulate import TrainingRun
from workloads.training.attention import STANDARD

SPLITS = ("layers_per_stage", "account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split")


def unused_keys(run: TrainingRun) -> list[str]:
    """A sentence for each key that is given and changes nothing in this plan."""
    training = run.deployment.scenario.training
    found = [f"training.{key} has no effect: {why}" for key, why in _by_size(run) if given(training, key)]
    return [*found, *_cluster_wide(run)]


def _by_size(run: TrainingRun) -> Iterator[tuple[str, str]]:
    """Keys that the plan's sizes leave without effect, and why."""
    deployment, layout = run.deployment, run.deployment.layout
    training = deployment.scenario.training
    if layout.tp == 1:
        if training.sequence_parallel:
            yield "sequence_parallel", "one rank computes each layer (tensor_parallel_size = 1)"
        yield "tp_comm_overlap", "one rank computes each layer (tensor_parallel_size = 1)"
    if layout.cp == 1:
        yield "context_parallel", "one rank has each sequence (context_parallel_size = 1)"
    yield from _between_experts(run)
    if layout.pp == 1:
        if layout.micro_batches == 1:
            yield "schedule", "one stage runs one micro-batch"
        yield "overlap_p2p_communication", "there is one pipeline stage"
    if len(deployment.stage_layers) == 1:
        for key in SPLITS:
            yield key, "one stage holds all layers"
    yield from _between_copies(run)
    if not any(kind in (TO_HOST, FROM_HOST) for kind in run.graph.kind):
        yield "activation_offload", "all activations are needed again within a turn of the schedule"
    if run.mapping is None:
        yield "node_mapping", "the cluster's links are all alike"


def _between_experts(run: TrainingRun) -> Iterator[tuple[str, str]]:
    if run.deployment.layout.ep == 1:
        for key in ("moe_token_dispatcher_type", "moe_load_imbalance", "overlap_moe_expert_parallel_comm"):
            yield key, "each rank holds all experts (expert_parallel_size = 1)"
    elif not _pairs_pay(run):
        why = "pairs would take no less time: exchanges among experts cost less than the multiprocessors left to them"
        yield "overlap_moe_expert_parallel_comm", why


def _between_copies(run: TrainingRun) -> Iterator[tuple[str, str]]:
    deployment, layout = run.deployment, run.deployment.layout
    exchanges = run.exchanges
    if layout.dp * layout.cp == 1 and layout.expert_copies == 1:
        why = "there is one copy of the model"
        keys = ["gradient_reduce", "grad_reduce_in_bf16", "sharding.overlap_grad_reduce"]
        yield from ((key, why) for key in (*keys, "sharding.overlap_param_gather"))
        if deployment.sharding.stage > 1:
            yield "sharding", why
        return
    if exchanges.agreement.after_backward:
        yield "sharding.overlap_grad_reduce", "gradient_reduce exchanges after the last backward"
    agreement, width = exchanges.agreement, exchanges.gradient_width
    if agreement.every_steps == 1 and _hops(run, agreement, width) == _hops(run, GradientReduce(), width):
        yield "gradient_reduce", "its exchange among these copies is the plain one"
    if _hops(run, agreement, 2.0) == _hops(run, agreement, 4.0):
        name = deployment.scenario.training.gradient_reduce.name
        yield "grad_reduce_in_bf16", f"gradient_reduce '{name}' has formats of its own"


def _hops(run: TrainingRun, agreement: GradientReduce, width: float) -> list[Any]:
    """All that copies exchange of a gradient of so many bytes."""
    sharding, ranks = run.deployment.sharding, run.exchanges.ranks
    return [
        agreement.reduce(sharding, ranks, run.exchanges.hops.in_server, width),
        agreement.finish(sharding, ranks, width),
        agreement.average(sharding, ranks, width),
    ]


def _pairs_pay(run: TrainingRun) -> bool:
    """Is a forward of some stage and a backward of some stage shorter as a pair?"""
    deployment = run.deployment
    share = deployment.framework.expert_sms / deployment.gpu.sm_count
    passes = ({one.forward for one in deployment.stages}, {one.backward for one in deployment.stages})
    return any(paired_seconds(ahead, back, share) < ahead.seconds + back.seconds for ahead, back in product(*passes))


def _cluster_wide(run: TrainingRun) -> Iterator[str]:
    scenario = run.deployment.scenario
    cluster, window = scenario.cluster, scenario.model.sliding_window
    if cluster.nodes == 1 and cluster.network is not None:
        yield "cluster.network has no effect: there is one node"
    if run.mapping is None:
        why = "there is one node" if cluster.nodes == 1 else "no pair of these nodes is slower than another"
        links = (key for key in ("node_links", "slow_links") if getattr(cluster, key))
        yield from (f"cluster.{key} has no effect: {why}" for key in links)
    cut = run.deployment.cut
    if window and (cut.cp > 1 or cut.attention == STANDARD):
        why = "ranks share each sequence" if cut.cp > 1 else f"attention '{STANDARD}' computes what its mask hides"
        yield f"model.sliding_window makes no step shorter: {why}; MFU alone leaves hidden pairs out"
    elif window and window >= scenario.training.seq_length:
        yield "model.sliding_window holds the whole sequence: every layer sees all of it"
    if scenario.seed and not scenario.training.jitter_fraction and run.mapping is None:
        yield "seed has no effect: nothing is drawn by chance (training.jitter_fraction = 0)"
