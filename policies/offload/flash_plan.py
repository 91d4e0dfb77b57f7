"""LLM in a flash (arXiv 2312.11514): neurons are read from a drive by need, and those of the latest tokens stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from hardware_models.errors import ImpossibleError
from policies.offload.block_plan import ON_GPU, BlockPlan, Job, Prices, Split, Tier
from policies.offload.expert_plan import IN_HOST, Worker
from policies.offload.flexgen import Count
from workloads.generators.expert_activation import ActivationLaw

Share = Annotated[float, Field(ge=0.0, le=1.0)]
# Neurons of a layer differ more than experts, which training balances; assumed
NEURONS = ActivationLaw(skew=1.0, topic=0.5, locality=0.1, affinity=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashPlan(BlockPlan):
    """What `policies.offload.flash_graph` writes."""

    worker: Worker
    predictor: bool
    kept_fraction: float
    active_fraction: float
    window_tokens: int
    bundled: bool
    threads: int
    predictor_rank: int
    law: ActivationLaw

    @property
    def near(self) -> Tier:
        """The worker's memory."""
        return "gpu" if self.worker == "gpu" else "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmInFlash:
    """One sequence; without a predictor all that is not kept is read for every token, in the order of computing.

    kept_fraction: of the weights, without a predictor; with one, all but the MLPs' neurons is kept. active_fraction:
    neurons that the predictor names for a token. window_tokens: whose neurons stay, the one at hand included; 0: none.
    bundled: rows and columns of a neuron lie together. threads: that read at once.
    """

    worker: Worker = "cpu"
    predictor: bool = True
    kept_fraction: Share = 0.0
    active_fraction: Share = 0.1
    window_tokens: Annotated[int, Field(ge=0, le=64)] = 5
    bundled: bool = True
    threads: Count = 32
    predictor_rank: Count = 128
    activation: ActivationLaw | None = None  # None: that of neurons above

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """Raises ImpossibleError for a model of experts."""
        rows = sum(part.weight_bytes for part in job.parts if part.neurons)
        if not rows:
            raise ImpossibleError("offload.policy: the model's MLPs are experts; take experts_on_storage")
        here = ON_GPU if self.worker == "gpu" else IN_HOST
        kept = 1.0 - rows / job.weight_bytes if self.predictor else self.kept_fraction
        return FlashPlan(
            weights=Split(kept * here.gpu, kept * here.host, 1.0 - kept),
            kv=here,
            activations=here,
            gpu_batch_size=1,
            overlap="asynchronous",
            worker=self.worker,
            predictor=self.predictor,
            kept_fraction=self.kept_fraction,
            active_fraction=self.active_fraction,
            window_tokens=self.window_tokens,
            bundled=self.bundled,
            threads=self.threads,
            predictor_rank=self.predictor_rank,
            law=self.activation or NEURONS,
        )
