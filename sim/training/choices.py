"""What a scenario changes of the model and the framework that it names."""

from __future__ import annotations

from dataclasses import replace

from hardware_models.errors import ImpossibleError
from hardware_models.training_framework import TrainingFramework, training_framework
from sim.training_scenario import TrainedModelSection, TrainingScenario, TrainingSection
from workloads.models.architecture import AttentionSpec, DenseMlp, ModelArchitecture
from workloads.models.catalog import model as load_model

TP_COMM_SPLITS = 4  # of a product and its exchange: Transformer Engine's userbuffers


def trained_model(scenario: TrainingScenario) -> ModelArchitecture:
    """The scenario's model with its own vocabulary, block and window, if it gives them; raises ImpossibleError for a
    model whose layers have none of these.
    """
    own = scenario.model
    architecture = load_model(own.config)
    if own.vocab_size is not None:
        architecture = replace(architecture, vocab_size=own.vocab_size)
    if own.sliding_window is not None:
        architecture = _with_window(architecture, own.sliding_window)
    if own.parallel_block is not None and own.parallel_block != architecture.parallel_block:
        architecture = _with_block(architecture, own)
    return architecture


def chosen_framework(training: TrainingSection) -> TrainingFramework:
    """The profile, with products and tensor-parallel exchanges in pieces or whole where the scenario says so."""
    framework = training_framework(training.framework)
    if training.tp_comm_overlap is None:
        return framework
    splits = max(TP_COMM_SPLITS, framework.tensor_parallel_chunks) if training.tp_comm_overlap else 1
    return framework.model_copy(update={"tensor_parallel_chunks": splits})


def _with_window(architecture: ModelArchitecture, window: int) -> ModelArchitecture:
    if window and not all(isinstance(one.attention, AttentionSpec) for one in architecture.groups):
        raise ImpossibleError(
            f"model.sliding_window = {window}: layers of {architecture.name} have latent attention, which is modelled"
            " without a window; leave it out"
        )
    groups = tuple(replace(group, attention=replace(group.attention, window=window)) for group in architecture.groups)
    return replace(architecture, groups=groups)


def _with_block(architecture: ModelArchitecture, own: TrainedModelSection) -> ModelArchitecture:
    groups = architecture.groups
    plain = all(isinstance(one.attention, AttentionSpec) and isinstance(one.mlp, DenseMlp) for one in groups)
    if own.parallel_block and not plain:
        raise ImpossibleError(
            f"model.parallel_block = true: layers of {architecture.name} have experts or latent attention; only those"
            " of multi-head attention and a dense MLP can be parallel, leave it out"
        )
    norms = 1 if own.parallel_block else 2
    return replace(architecture, parallel_block=bool(own.parallel_block), norms_per_layer=norms)
