"""Training frameworks: which kernels they fuse, what they overlap, and what they keep in memory; dated data files."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.provenance import Frozen, Source

FOLDER = Path(__file__).parent / "frameworks" / "training"


class FusedKernels(Frozen):
    """What is fused is neither written to memory nor read again; names as in `workloads.training.cut.Kernels`."""

    fused_softmax: bool
    fused_softmax_keys: int = Field(default=16_384, ge=0)
    fused_gate: bool = True
    fused_bias: bool
    fused_norm: bool
    fused_weight_gradient: bool
    fused_rotary: bool
    fused_loss: bool
    parallel_loss: bool = True
    fp8_activation_input: bool = False
    gradient_dtype: Literal["fp32", "bf16"]


class ExpertKernels(Frozen):
    """How rows go to experts and back."""

    once_per_server: bool = False  # a row leaves for a server once, and is handed on there (DeepEP)
    fp8_dispatch: bool = False  # where products are in fp8, rows go in fp8, and come back in 16 bits
    collective_sms: int = Field(default=0, ge=0)  # multiprocessors of those exchanges; 0: as other collectives
    fused_router: bool = True  # this and what follows: as in `workloads.training.expert_share.ExpertPasses`
    fused_maps: bool = True
    counts_on_host: bool = False
    padded_rows: bool = False
    turned_apart: bool = False
    bias_apart: bool = False
    launch_s: float = Field(default=0.0, ge=0)  # of one kernel, in layers whose counts the host waits for
    wait_s: float = Field(default=0.0, ge=0)  # until the host knows what the device has counted


class WeightGathering(Frozen):
    """How weights that copies share out come together before a pass, and how their gradients go."""

    collectives_per_layer: int = Field(default=1, ge=1)  # one a layer, or one a matrix
    synchronizes: bool = False  # each waits until the device has done all before it, gradients too
    host_s_per_peer: float = Field(default=0.0, ge=0)  # of one collective, to list what goes to whom
    small_reduces: int = Field(default=0, ge=0)  # more collectives of gradients a layer: of biases and norms
    gather_copy_bytes: float = Field(default=0.0, ge=0)  # read and written on the device beside the collective,
    reduce_copy_bytes: float = Field(default=0.0, ge=0)  # a parameter
    kept_parameters: float | None = None  # of layers, from a forward done again to its backward; None: all


class TrainingFramework(Frozen):
    """One version of a training framework."""

    name: str
    date: str
    attention: str  # its kernel unless a scenario says otherwise: "standard", "flash1", "flash2", ...
    kernels: FusedKernels
    overlap_tensor_parallel: bool  # exchanges of the backward run beside products that do not need them
    overlap_p2p: bool  # sends between stages run while the next micro-batch computes
    overlap_grad_reduce: bool  # gradients are reduced bucket by bucket while the backward goes on
    overlap_param_gather: bool  # and gathered, after a sharded optimizer step, while the next forward goes on
    gradient_reduce_dtype: Literal["fp32", "bf16"]  # of what data-parallel ranks exchange
    matrix_factor: float = Field(gt=0)  # seconds of its matrix products over those of the calibration's library
    matrix_sigma: float = Field(default=0.05, ge=0)  # standard deviation of the logarithm of that
    collective_sms: int = Field(ge=0)  # multiprocessors that a collective's kernels occupy
    optimizer_bytes_per_parameter: float = Field(gt=0)  # read and written by an optimizer step
    bucket_bytes: int = Field(gt=0)  # of gradients reduced at once, where that overlaps
    launch_s: float = Field(ge=0)  # of one kernel, on the host
    host_s_per_step: float = Field(ge=0)  # data, loss scale, logging: the devices wait
    host_sigma: float = Field(default=0.5, ge=0)  # standard deviation of the logarithm of host times
    context_bytes: int = Field(ge=0)  # CUDA context, libraries and communication buffers, a GPU
    workspace_bytes: int = Field(ge=0)  # of matrix products
    fragmentation: float = Field(ge=0, lt=1)  # part of the allocator's memory that no tensor can use
    tensor_parallel_chunks: int = Field(default=1, ge=1)  # of a product and its exchange, run beside each other
    optimizer_state_bytes: float = Field(default=12.0, gt=0)  # fp32 weight and two moments, a parameter
    fp8_recipe: Literal["delayed", "current", "blockwise"] = "delayed"  # where products are in fp8
    fp8_factor: float = Field(default=1.0, gt=0)  # seconds of its fp8 products over those of the calibration's library
    fp8_param_gather: bool = False  # sharded weights are gathered in fp8, and kept so
    experts: ExpertKernels = ExpertKernels()
    gathering: WeightGathering = WeightGathering()

    @property
    def expert_sms(self) -> int:
        """Multiprocessors that exchanges among expert-parallel ranks occupy."""
        return self.experts.collective_sms or self.collective_sms

    source: dict[str, Source]


@functools.cache
def training_framework(name: str) -> TrainingFramework:
    """A profile by file name; raises UnknownNameError."""
    path = FOLDER / f"{name}.toml"
    if "/" in name or not path.is_file():
        raise UnknownNameError("training.framework", name, training_framework_names())
    try:
        return TrainingFramework.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        raise FleetcastError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def training_framework_names() -> list[str]:
    """All profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))
