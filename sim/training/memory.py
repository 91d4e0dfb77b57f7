"""Memory of a training step: what is held all along, what the schedule takes and gives back, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from hardware_models.dtypes import bytes_per_element
from sim.graph.memory import MemoryLedger, Peak
from sim.graph.times import Times
from sim.training.data_parallel import Exchanges
from sim.training.deployment import TrainingDeployment


def held_bytes(deployment: TrainingDeployment, exchanges: Exchanges, device: int) -> dict[str, float]:
    """Held from the first to the last moment of a step on one rank of a pipeline stage, by owner."""
    sharding, framework = deployment.sharding, deployment.framework
    gradient_width, weight_width = bytes_per_element(framework.kernels.gradient_dtype), deployment.held_weight_bytes
    parts = exchanges.parts(exchanges.device_parameters(device), exchanges.device_experts(device))
    held = {
        "weights": sum(one.sharding.weight_bytes(one.parameters, one.ranks, weight_width) for one in parts),
        "gradients": sum(one.sharding.gradient_bytes(one.parameters, one.ranks, gradient_width) for one in parts),
        "optimizer": exchanges.state_parameters(device) * framework.optimizer_state_bytes,
        "workspace": float(framework.workspace_bytes),
    }
    if more := exchanges.agreement.held_bytes:
        held["exchange state"] = sum(one.parameters / one.sharding.weight_parts(one.ranks) for one in parts) * more
    if exchanges.zero == 2:  # whole until their bucket has gone, while the next one fills
        whole = exchanges.device_parameters(device) * gradient_width
        held["gradients on their way"] = min(whole, 2.0 * framework.bucket_bytes)
    if exchanges.zero == 3:
        stages = deployment.schedule.stages_on(device, deployment.layout.pp)
        layer = max(deployment.stages[stage].parameters / deployment.stage_layers[stage] for stage in stages)
        held["gathered weights"] = layer * weight_width * (2 + sharding.prefetch)
        held["gradients on their way"] = 2.0 * layer * gradient_width
    return held


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Of one rank of each pipeline stage."""

    peaks: tuple[Peak, ...]
    budget_bytes: float
    host_bytes: float = 0.0  # most that one rank keeps in its server's memory
    host_budget_bytes: float = inf  # a GPU's share of that memory

    @property
    def worst(self) -> int:
        """The stage with the highest peak."""
        return max(range(len(self.peaks)), key=lambda device: self.peaks[device].used_bytes)

    @property
    def fits(self) -> bool:
        """Is every peak within what tensors may take?"""
        return self.peaks[self.worst].used_bytes <= self.budget_bytes and self.host_bytes <= self.host_budget_bytes

    def verdict(self) -> str:
        """How full the fullest stage gets, when, and of what."""
        if self.host_bytes > self.host_budget_bytes:
            return (
                f"a rank keeps {self.host_bytes / 1e9:.1f} GB of activations in its server's memory, of which"
                f" {self.host_budget_bytes / 1e9:.1f} GB are a GPU's share"
            )
        peak = self.peaks[self.worst]
        owners = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in list(peak.owners.items())[:4])
        return (
            f"pipeline stage {self.worst} holds {peak.used_bytes / 1e9:.1f} GB after {peak.t_s:.3g} s ({owners});"
            f" tensors of a GPU may take {self.budget_bytes / 1e9:.1f} GB"
        )


def memory_use(deployment: TrainingDeployment, ledger: MemoryLedger, times: Times) -> MemoryUse:
    """Read off an executed step."""
    usage = ledger.usage(times)
    hosts = [number for number, pool in enumerate(ledger.graph.pools) if pool.name == "host"]
    return MemoryUse(
        tuple(usage.peak(pool) for pool in range(deployment.layout.pp)),
        deployment.budget_bytes,
        max((usage.peak(pool).used_bytes for pool in hosts), default=0.0),
        deployment.node.dram_bytes / deployment.node.gpus,
    )
