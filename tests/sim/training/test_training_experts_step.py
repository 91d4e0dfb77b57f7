"""Training steps of models with experts, latent attention and fp8 products."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import ImpossibleError
from hardware_models.topology.groups import RankGroup, group_fabric
from sim.training.deployment import TrainingDeployment, deploy_training
from sim.training.expert_links import ExpertLinks
from sim.training.paired import paired_seconds
from sim.training.phases import PHASES, phase_seconds
from sim.training.pricing import SOFTWARE, Spent
from sim.training.result import run_training
from sim.training.simulate import TrainingRun, simulate_training
from sim.training_scenario import TrainingScenario
from workloads.models.architecture import MoeMlp
from workloads.models.counts import parameters
from workloads.models.stages import LayerRange
from workloads.training.expert_share import ExpertShare
from workloads.training.operator import ExpertExchange

PAIRED = {
    "framework": "hai-llm-2024", "pipeline_parallel_size": 4, "schedule": "dualpipe", "expert_parallel_size": 16,
    "global_batch_size": 16 * 16, "precision": "fp8",
}  # fmt: skip


def scenario(nodes: int = 4, model: str = "qwen3-30b-a3b", node: str = "dgx-h100", **training: Any) -> TrainingScenario:
    keys = {"framework": "nemo-2024", "seq_length": 2048, "global_batch_size": 64, "check_memory": False}
    return TrainingScenario.model_validate(
        {"model": {"config": model}, "cluster": {"node": node, "nodes": nodes}, "training": keys | training}
    )


def paired(**training: Any) -> TrainingRun:
    return simulate_training(scenario(8, "deepseek-v2", **PAIRED | training))


def deployed(**training: Any) -> TrainingDeployment:
    return deploy_training(scenario(**training))


@given(ep=st.sampled_from([1, 2, 8, 32]), tp=st.sampled_from([1, 2]), whole=st.booleans(), pp=st.sampled_from([1, 2]))
@settings(max_examples=12, deadline=None)
def test_all_ranks_together_hold_the_model_once(ep: int, tp: int, whole: bool, pp: int) -> None:
    """Experts over ep x etp ranks, the rest over tensor-parallel ranks (all but norms and routers, which are small)."""
    keys = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp, "expert_parallel_size": min(ep, 32 // tp // pp)}
    made = deployed(**keys, expert_tensor_parallel_size=1 if whole else tp)
    ranks = made.layout.ep * made.layout.etp
    held = sum(one.expert_parameters * ranks + (one.parameters - one.expert_parameters) * tp for one in made.stages)
    assert held == pytest.approx(parameters(made.architecture), rel=0.003)
    assert held >= parameters(made.architecture)


def test_experts_have_as_many_copies_as_their_ranks_leave_and_move_fewer_gradients() -> None:
    spread, whole = (simulate_training(scenario(expert_parallel_size=ep)) for ep in (32, 1))
    assert (spread.exchanges.expert_ranks, whole.exchanges.expert_ranks) == (1, 32)
    assert spread.exchanges.device_parameters(0) < 0.2 * whole.exchanges.device_parameters(0)

    def reduce_s(run: TrainingRun) -> float:
        return run.exchanges.reduce_s(run.exchanges.device_parameters(0), run.exchanges.device_experts(0))

    assert reduce_s(spread) < reduce_s(whole)
    state = spread.exchanges.state_parameters(0)
    experts = spread.exchanges.device_experts(0)
    assert state == pytest.approx(experts + (spread.exchanges.device_parameters(0) - experts) / 32)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"expert_parallel_size": 3}, "expert_parallel_size = 3: does not divide the 128 experts"),
        ({"expert_parallel_size": 256}, "expert_parallel_size = 256: does not divide the 128 experts"),
        ({"expert_parallel_size": 64}, "does not divide the 32 ranks of a pipeline stage .* give a divisor of 32"),
        (
            {"tensor_parallel_size": 4, "expert_tensor_parallel_size": 2},
            "expert_tensor_parallel_size = 2: give 1, or tensor_parallel_size = 4",
        ),
        (
            {"tensor_parallel_size": 2, "sequence_parallel": False},
            "sequence_parallel = false: the 2 tensor-parallel ranks",
        ),
        ({"expert_parallel_size": 4, "moe_load_imbalance": 5.0}, "moe_load_imbalance = 5: of 4 expert-parallel ranks"),
        (
            {"mtp_num_layers": 1, "pipeline_parallel_size": 4, "schedule": "vocab_1", "global_batch_size": 256},
            "mtp_num_layers = 1: a schedule that divides the vocabulary",
        ),
        ({"fp8_recipe": "current"}, "fp8_recipe = 'current': products are in bf16"),
        ({"node": "dgx-a100-80gb", "precision": "fp8"}, "precision = 'fp8': a100-80gb-sxm has no fp8 arithmetic"),
        ({"model": "llama-3-8b", "expert_parallel_size": 2}, "does not divide the 1 expert of"),
    ],
)
def test_wrong_plans_with_experts_are_refused_in_a_sentence(training: dict[str, Any], said: str) -> None:
    with pytest.raises(ImpossibleError, match=said):
        deployed(**training)


def test_a_dense_model_knows_nothing_of_experts() -> None:
    run = simulate_training(scenario(model="llama-3-8b"))
    assert run.exchanges.device_experts(0) == 0.0
    assert run.deployment.stages[0].forward.expert_s == 0.0


def test_rows_sent_once_for_a_server_take_less_time() -> None:
    once, each = (
        run_training(scenario(expert_parallel_size=32, moe_token_dispatcher_type=kind)).summary
        for kind in ("flex", "alltoall")
    )
    assert once["step_s"] < each["step_s"]
    assert once["exposed"]["expert_parallel_fraction"] < each["exposed"]["expert_parallel_fraction"]


def test_exchanges_beside_another_micro_batch_take_less_time_and_their_shares_still_sum_to_one() -> None:
    keys = {"expert_parallel_size": 32, "global_batch_size": 256}
    alone, beside = (
        run_training(scenario(**keys, overlap_moe_expert_parallel_comm=wanted)).summary for wanted in (False, True)
    )
    assert beside["step_s"] < alone["step_s"]
    for summary in (alone, beside):
        assert sum(summary["bound_by"].values()) == pytest.approx(1.0, abs=1e-9)
        assert min(summary["bound_by"].values()) >= -1e-12


def test_paired_passes_are_on_the_clock_what_they_are_by_max_plus() -> None:
    run = paired()
    on_clock = simulate_training(scenario(8, "deepseek-v2", **PAIRED), exact=True)
    assert on_clock.step_s == pytest.approx(run.step_s, rel=1e-9)


def test_shares_and_phases_of_paired_passes_sum_to_the_step() -> None:
    summary = run_training(scenario(8, "deepseek-v2", **PAIRED)).summary
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0, abs=1e-9)
    run = paired()
    phases = phase_seconds(run)
    assert tuple(phases) == PHASES
    assert sum(phases.values()) == pytest.approx(run.step_s)
    assert phases["paired"] > phases["backward"] > phases["forward"] > 0.0 < phases["bubble"]


spent = st.builds(
    lambda work, exchange: Spent(compute_s=work, network_s=exchange, expert_s=exchange),
    st.floats(0.001, 1.0), st.floats(0.0, 1.0),
)  # fmt: skip


@given(forward=spent, backward=spent, share=st.floats(0.0, 0.5))
def test_a_pair_takes_at_least_its_work_and_its_exchanges(forward: Spent, backward: Spent, share: float) -> None:
    seconds = paired_seconds(forward, backward, share)
    assert seconds >= (forward.expert_s + backward.expert_s) * (1 - 1e-12)
    assert seconds >= (forward.compute_s + backward.compute_s) * (1 - 1e-12)
    assert paired_seconds(forward, backward, 0.0) <= seconds


def test_fp8_products_make_a_step_shorter_and_activations_smaller() -> None:
    plan = {"model": "llama-3-70b", "nodes": 8, "tensor_parallel_size": 4, "pipeline_parallel_size": 8}
    narrow, wide = (simulate_training(scenario(**plan, precision=one)) for one in ("fp8", "bf16"))
    assert 0.5 * wide.step_s < narrow.step_s < wide.step_s
    owners, others = (run.memory.peaks[0].owners for run in (narrow, wide))
    assert owners["activations"] < others["activations"]


def test_stages_held_twice_divide_their_optimizer_over_both() -> None:
    run = paired()
    exchanges, layout = run.exchanges, run.deployment.layout
    experts = exchanges.device_experts(1)
    dense = exchanges.device_parameters(1) - experts
    state = dense / (layout.dp * 2) + experts / (layout.expert_copies * 2)
    assert exchanges.state_parameters(1) == pytest.approx(state)


@pytest.mark.parametrize(
    ("node", "ep", "gb_per_s", "within"),
    [
        ("h800-8x", 8, (153.0, 158.0), 0.05),
        ("h800-8x", 16, (43.05, 42.47), 0.20),
        ("h800-8x", 32, (58.02, 56.96), 0.10),
        ("h800-8x", 64, (50.58, 48.54), 0.10),
        ("h800-8x", 128, (45.34, 41.6), 0.20),
        ("dgx-h100", 8, (319.0, 321.0), 0.15),
    ],
)
def test_exchanges_are_as_fast_as_deepep_was_measured(
    node: str, ep: int, gb_per_s: tuple[float, float], within: float
) -> None:
    """4,096 tokens of 7,168, eight experts in at most four servers; fp8 out, bf16 back: DeepSeek-V3 Insights (arXiv
    2505.09343), figure 7, DeepEP's README, and AI Configurator for H100. Rates count rows that stay in a server too.
    """
    links = ExpertLinks(group_fabric(catalog.node(node), RankGroup(1, ep), network="infiniband-ndr"))
    servers = links.servers
    share = ExpertShare(ep=ep, servers=servers, once_per_server=True)
    routing = MoeMlp(
        experts=256, top_k=8, expert_intermediate_size=2048, groups=servers, groups_per_token=min(servers, 4)
    )
    for width, measured in zip((1.0 + 4.0 / 128, 2.0), gb_per_s, strict=True):
        rows = [
            4096 * visits * 7168 * width for visits in (share.visited_ranks(routing), share.visited_servers(routing))
        ]
        exchange = ExpertExchange(kind="all_to_all", payload_bytes=rows[0], ranks=ep, across_bytes=rows[1])
        counted = rows[1] if servers > 1 else rows[0]
        assert counted / links.seconds(exchange) / 1e9 == pytest.approx(measured, rel=within)


def test_a_busier_rank_makes_the_step_longer_and_one_that_is_stated_makes_the_bar_shorter() -> None:
    random, even, uneven = (
        run_training(scenario(expert_parallel_size=32, moe_load_imbalance=load)).summary for load in (None, 1.0, 1.5)
    )
    assert even["step_s"] < random["step_s"] < uneven["step_s"]
    assert uneven["memory"]["peak_bytes"] > even["memory"]["peak_bytes"]
    assert random["unsure"]["uneven routing"] > 0.0 == even["unsure"]["uneven routing"]


def test_ranks_that_share_experts_have_the_rows_of_all_of_them() -> None:

    keys = {"tensor_parallel_size": 4, "expert_parallel_size": 4}
    shared, whole = (deployed(**keys, expert_tensor_parallel_size=etp).cut.experts.busiest for etp in (4, 1))
    assert shared - 1.0 == pytest.approx((whole - 1.0) / 2.0)  # four times the rows


def test_a_host_that_waits_for_counts_launches_no_layer_ahead_and_makes_the_bar_longer_before_it_binds() -> None:
    layers = {"model": "qwen3-30b-a3b", "nodes": 2, "framework": "megatron-bridge-2026", "precision": "fp8"}
    deployment = deployed(**layers, expert_parallel_size=8)
    forward, backward = deployment.stages[0].forward, deployment.stages[0].backward
    for work in (forward, backward):
        assert work.seconds >= work.kernels * deployment.framework.launch_s
    assert forward.seconds >= 48 * 190 * deployment.framework.experts.launch_s  # kernels of a layer's forward
    assert forward.unsure_s[SOFTWARE] > 0.0
    far = Spent(compute_s=1.0, kernels=10).launched(1e-3, sigma=0.5)
    near = Spent(compute_s=1.0, kernels=800).launched(1e-3, sigma=0.5)
    late = Spent(compute_s=1.0, kernels=2000).launched(1e-3, sigma=0.5)
    assert [one.seconds for one in (far, near, late)] == [1.0, 1.0, 2.0]
    assert far.unsure_s[SOFTWARE] == 0.0 < near.unsure_s[SOFTWARE] < late.unsure_s[SOFTWARE]


def test_multi_token_prediction_is_one_more_layer_and_output_projection_on_the_last_stage() -> None:
    keys = {"pipeline_parallel_size": 4, "expert_parallel_size": 8, "global_batch_size": 64}
    without, with_it = (deployed(**keys, mtp_num_layers=count) for count in (0, 1))
    assert without.stages[:3] == with_it.stages[:3]
    first, last, more = without.stages[0], without.stages[3], with_it.stages[3]
    layer = without.pricer.stage(LayerRange(0, 1, 48), first=False, last=False)
    hidden = without.architecture.hidden_size
    assert more.parameters - last.parameters == pytest.approx(layer.parameters + 2 * hidden**2 + 3 * hidden)
    assert more.expert_parameters - last.expert_parameters == layer.expert_parameters
    added, head = (
        more.forward.matrix_flop - last.forward.matrix_flop,
        last.forward.matrix_flop - first.forward.matrix_flop,
    )
    projection = 2.0 * 2048 * hidden * 2 * hidden
    assert added == pytest.approx(layer.forward.matrix_flop + head + projection)
