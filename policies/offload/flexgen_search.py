"""FlexGen's policy search (arXiv 2303.06865, section 4.3): for each block size a linear programme over percentages.

What is minimised is a block's time over its sequences, under the capacities of three tiers. The released cost model
takes all of a model at once; the schedule's own goes turn by turn. Neither knows all that waits for what: the best few
of both are run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from hardware_models.errors import FleetcastError, ImpossibleError
from policies.offload.block_plan import TIERS, BlockPlan, Job, Prices, Split, Tier
from policies.offload.flexgen import Count
from policies.offload.flexgen_cost import KINDS, UNIT, Block, BlockCost, PublishedCost, Shares
from policies.offload.flexgen_turns import TurnCost

BATCH_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 20)  # of a block; the paper searches up to 20
COSTS: dict[str, type[BlockCost]] = {"schedule": TurnCost, "published": PublishedCost}
ROUNDING = 0.999  # of a tier, which shares rounded to hundredths of a percent may miss
TIE = 1e-6  # of the prompts' seconds: what a share on a lower tier costs, so that nothing goes there for nothing


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan, and seconds of its block by the cost model."""

    plan: BlockPlan
    block_s: float

    @property
    def s_per_sequence(self) -> float:
        """What the search minimises."""
        return self.block_s / self.plan.sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexGenSearch:
    """All percentages and block sizes found, given what is compressed and whether attention may run on the CPU.

    The `simulated` best by each cost model are run, and the fastest is taken.
    """

    gpu_batch_size: Count | None = None
    num_gpu_batches: Count | None = None
    compress_weights: bool = False
    compress_cache: bool = False
    cpu_attention: bool = True
    cost_model: Literal["schedule", "published", "both"] = "both"
    simulated: Annotated[int, Field(ge=1, le=100)] = 3

    def plan(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> BlockPlan:
        """The best by the cost model, the schedule's own of both."""
        return self.plans(job, prices, budgets)[0]

    def plans(self, job: Job, prices: Prices, budgets: dict[Tier, float]) -> list[BlockPlan]:
        """Those to be run: the best few of each cost model."""
        models = tuple(COSTS) if self.cost_model == "both" else (self.cost_model,)
        return [one.plan for model in models for one in self.candidates(job, prices, budgets, model)[: self.simulated]]

    def candidates(
        self, job: Job, prices: Prices, budgets: dict[Tier, float], cost_model: str = "schedule"
    ) -> list[Candidate]:
        """One a block size, best first by a cost model; raises ImpossibleError where not one sequence fits."""
        if self.cpu_attention and self.compress_cache:
            raise FleetcastError(
                "offload.policy.cpu_attention: the CPU reads keys and values as they are; set it to false, or leave"
                " out compress_cache"
            )
        sizes = (self.gpu_batch_size,) if self.gpu_batch_size else BATCH_SIZES
        counts = (self.num_gpu_batches,) if self.num_gpu_batches else BATCHES
        most = job.requests or sizes[-1] * counts[-1]
        found = [
            one
            for size in sizes
            for count in counts
            if size * count <= most
            and (one := self._solve(COSTS[cost_model](job, prices, self._block(size, count)), budgets))
        ]
        if not found:
            raise ImpossibleError(
                "offload.policy: no block of sequences fits GPU, host memory and drives together; give a server with"
                " more of them, compress_weights, or fewer tokens"
            )
        return sorted(found, key=lambda one: one.s_per_sequence)

    def _block(self, size: int, count: int) -> Block:
        return Block(size, count, self.compress_weights, self.compress_cache, self.cpu_attention)

    def _solve(self, cost: BlockCost, budgets: dict[Tier, float]) -> Candidate | None:
        """The linear programme of one block size; None: nothing fits."""
        import pulp

        problem = pulp.LpProblem("flexgen", pulp.LpMinimize)
        shares: Shares = {
            kind: {tier: problem.add_variable(f"{kind}_{tier}", 0, 1) for tier in TIERS} for kind in KINDS
        }
        if not budgets["storage"]:  # no drives, of which no rate is known
            for one in shares.values():
                one["storage"] = 0.0
        for one in shares.values():
            problem += one["gpu"] + one["host"] + one["storage"] == 1
        for tier, used in cost.memory(shares):
            if budgets[tier]:
                problem += used <= budgets[tier] * ROUNDING / UNIT
        block_s = cost.block_s(problem, shares)
        tie = TIE * cost.compute_s()
        problem += block_s + tie * sum(one["host"] + 2.0 * one["storage"] for one in shares.values())
        problem.solve(pulp.HiGHS(msg=False, threads=1))
        if problem.status != pulp.LpStatusOptimal:
            return None
        return Candidate(
            cost.block.plan({kind: _split(one) for kind, one in shares.items()}), float(pulp.value(block_s))
        )


def _split(shares: dict[Tier, Any]) -> Split:
    """Rounded to hundredths of a percent, towards the lower tier."""
    gpu = _rounded(shares["gpu"])
    storage = _value(shares["storage"])
    host = 1.0 - gpu if storage < 1e-6 else min(1.0 - gpu, _rounded(shares["host"]))
    return Split(gpu, host, max(0.0, 1.0 - gpu - host))


def _value(share: Any) -> float:
    import pulp

    return float(pulp.value(share))


def _rounded(share: Any) -> float:
    return int(max(0.0, _value(share)) * 1e4 + 1e-6) / 1e4
