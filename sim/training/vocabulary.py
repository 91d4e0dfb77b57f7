"""What a device computes, keeps and holds of a vocabulary divided over a pipeline (Yeung et al., 2411.05288).

Each has as many rows of the token table and of the output layer. The first layer's input is looked up by all devices
and sent ahead of its use, the table's gradients go the other way behind the backwards; both are small beside a stage's
work and nobody waits for them, so their exchanges are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hardware_models.errors import ImpossibleError
from policies.parallelism.schedules import PipelineSchedule
from policies.parallelism.schedules.vocabulary import VocabularyParallel
from sim.training.pricing import NOTHING, total
from sim.training.stage import Pass, StagePricer, StageWork, padded_vocabulary
from sim.training_scenario import TrainingSection
from workloads.models.stages import LayerRange
from workloads.training.ends import embedding_operators, head_operators, loss_working_bytes
from workloads.training.products import ProductWriter


def mtp_layers(training: TrainingSection, schedule: PipelineSchedule) -> int:
    """Layers of multi-token prediction; raises ImpossibleError where no one stage has their output projection."""
    if training.mtp_num_layers and isinstance(schedule, VocabularyParallel):
        raise ImpossibleError(
            f"training.mtp_num_layers = {training.mtp_num_layers}: a schedule that divides the vocabulary over the"
            " pipeline has no stage with an output projection of its own; set it to 0, or take another schedule"
        )
    return training.mtp_num_layers


def stage_works(
    pricer: StagePricer, parts: Sequence[LayerRange], schedule: PipelineSchedule, devices: int
) -> tuple[StageWork, ...]:
    """Of each stage in the model's order; then each device's part of the vocabulary, where it is divided."""
    last = len(parts) - 1
    if not isinstance(schedule, VocabularyParallel):
        return tuple(pricer.stage(part, first=at == 0, last=at == last) for at, part in enumerate(parts))
    stages = [pricer.stage(part, first=False, last=False) for part in parts]
    stages[-1] = _with_final_norm(pricer, stages[-1])
    table = float(pricer.vocabulary / pricer.cut.tp * pricer.architecture.hidden_size)
    for at in (0, last):  # positions and norms stay where they were
        whole = pricer.stage(parts[at], first=at == 0, last=at == last)
        more = whole.parameters - stages[at].parameters - table
        stages[at] = replace(stages[at], parameters=stages[at].parameters + max(0.0, more))
    share = _share(pricer, devices, gradient_in_scores=schedule.gradient_in_scores)
    return (*stages, *(share for _ in range(devices)))


def _with_final_norm(pricer: StagePricer, stage: StageWork) -> StageWork:
    if not pricer.architecture.final_norm:
        return stage
    write = ProductWriter(architecture=pricer.architecture, cut=pricer.cut, kernels=pricer.kernels)
    norm = Pass.of((write.norm("final_norm"),), pricer.prices)
    return replace(
        stage,
        forward=stage.forward.plus(norm.forward),
        backward_input=stage.backward_input.plus(norm.backward_input),
        backward_weight=stage.backward_weight.plus(norm.backward_weight),
        activation_bytes=stage.activation_bytes + sum(one.saved_bytes for one in norm.operators),
    )


def _share(pricer: StagePricer, devices: int, *, gradient_in_scores: bool) -> StageWork:
    """Forward: logits, their exponentials and sums, and where devices meet once also what the softmax as it is so far
    makes of the weights. Backward: what is left of the gradients.
    """
    architecture, cut, kernels, prices = pricer.architecture, pricer.cut, pricer.kernels, pricer.prices
    rows = padded_vocabulary(architecture.vocab_size, cut.tp * devices) // devices
    head, loss = head_operators(architecture, cut, kernels, vocabulary=rows)[-2:]
    (table,) = embedding_operators(architecture, cut, kernels)
    write = ProductWriter(architecture=architecture, cut=cut, kernels=kernels)
    logits = float(cut.tokens) * rows / cut.tp
    cast = total([prices.op(write.stream(logits, reads=2, writes=1))])  # fp32 exponentials in the products' format
    of_input = prices.backward_input(head)
    forward = total([prices.forward(table), prices.forward(head), prices.forward(loss)])
    backward = total([prices.backward_input(loss), prices.backward_weight(head), prices.backward_weight(table)])
    if gradient_in_scores:
        forward = forward.plus(cast).plus(of_input)
    else:
        backward = backward.plus(of_input)
    tables = 1 if architecture.tie_word_embeddings else 2
    launch_s = prices.framework.launch_s
    return StageWork(
        forward=forward.launched(launch_s),
        backward_input=NOTHING,
        backward_weight=backward.launched(launch_s),
        recompute=NOTHING,
        activation_bytes=head.saved_bytes + loss.saved_bytes,
        weight_input_bytes=0.0,
        working_bytes=loss_working_bytes(cut, kernels, vocabulary=rows),
        parameters=float(tables * rows / cut.tp * architecture.hidden_size),
    )
