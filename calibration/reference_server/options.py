"""The settings of a reference run, in vLLM's words where it has one; written beside the results."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hardware_models.errors import FleetcastError

ATTENTION = ("torch", "triton", "flash")
ELEMENTWISE = ("torch", "triton")
EXPERTS = ("loop", "grouped")
SCHEDULERS = ("chunked_prefill", "prefill_first")
DTYPES = ("bf16", "fp32")
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """`auto` is resolved once, by the device, before anything runs; nothing falls back later."""

    device: str = AUTO  # cuda | cpu
    dtype: str = AUTO  # of weights, activations and KV cache; bf16 on a GPU, fp32 on a CPU
    attention: str = AUTO  # kernel of decode attention; triton on a GPU, torch on a CPU
    elementwise: str = AUTO  # norms, rotation, gating: fused by Triton, or PyTorch's operators one by one
    experts: str = AUTO  # grouped products on a GPU, one expert after another on a CPU
    graphs: bool = True  # CUDA graphs for steps that only decode; on a GPU
    scheduler: str = "chunked_prefill"
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int | None = None  # tokens; longer requests are turned away; None: as long as the longest
    block_size: int = 16  # KV tokens
    gpu_memory_utilization: float = 0.9
    num_gpu_blocks_override: int | None = None  # KV blocks; needed on a CPU
    budget_s: float | None = None  # after it nobody is admitted any more
    drain_s: float = 120.0  # after the budget, until running requests are cut off
    seed: int = 0

    def resolved(self, device: str) -> ServerOptions:
        """With every `auto` replaced by what it means on "cuda" or "cpu"; raises FleetcastError for combinations that
        cannot run.
        """
        gpu = device == "cuda"
        options = replace(
            self,
            device=device,
            dtype=_chosen(self.dtype, "bf16" if gpu else "fp32"),
            attention=_chosen(self.attention, "triton" if gpu else "torch"),
            elementwise=_chosen(self.elementwise, "triton" if gpu else "torch"),
            experts=_chosen(self.experts, "grouped" if gpu else "loop"),
            graphs=self.graphs and gpu,
        )
        options._check(gpu)
        return options

    def _check(self, gpu: bool) -> None:
        known = (
            ("--dtype", self.dtype, DTYPES),
            ("--attention", self.attention, ATTENTION),
            ("--elementwise", self.elementwise, ELEMENTWISE),
            ("--experts", self.experts, EXPERTS),
            ("--scheduler", self.scheduler, SCHEDULERS),
        )
        for flag, value, choices in known:
            if value not in choices:
                raise FleetcastError(f"{flag} {value}: must be one of {', '.join(choices)}")
        if gpu and self.dtype != "bf16":
            raise FleetcastError(f"--dtype {self.dtype}: GPU runs are in bf16; leave it out or give --device cpu")
        if self.graphs and self.attention == "torch":
            raise FleetcastError("--attention torch: its shapes change each step, so add --no-graphs")
        if self.graphs and self.experts == "loop":
            raise FleetcastError("--experts loop: waits for the router on the host, so add --no-graphs")
        if self.attention == "flash" and self.block_size % 256:
            raise FleetcastError(
                f"--block-size {self.block_size}: flash_attn reads pages of multiples of 256 tokens; give 256"
            )
        if not gpu and self.num_gpu_blocks_override is None:
            raise FleetcastError("--num-gpu-blocks: on a CPU the KV cache has no natural size; give its blocks")
        if self.scheduler == "chunked_prefill" and self.max_num_batched_tokens < self.max_num_seqs:
            raise FleetcastError(
                f"--max-num-batched-tokens {self.max_num_batched_tokens} is less than --max-num-seqs"
                f" {self.max_num_seqs}: each running sequence takes a token a step; raise it or lower the other"
            )


def _chosen(asked: str, default: str) -> str:
    return default if asked == AUTO else asked
