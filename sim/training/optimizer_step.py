"""A rank's optimizer step: passes over gradients, moments and weights, weights turned to fp8, norms agreed on."""

from __future__ import annotations

from hardware_models.device import Device
from hardware_models.ops import Elementwise
from policies.parallelism.optimizers import OPTIMIZERS
from sim.policy_choice import make_policy
from sim.training.deployment import TrainingDeployment

FP8_CAST_BYTES = 4.0  # a weight in 16 bits read, and written as fp8, as it is and turned
FP8_TURNED_BYTES = 2.0  # one in fp8 read, and written turned


class OptimizerStep:
    """Of any rank of a deployment."""

    def __init__(self, deployment: TrainingDeployment) -> None:
        self.deployment = deployment
        self.optimizer = make_policy("training.optimizer", deployment.scenario.training.optimizer, OPTIMIZERS, {})
        self._device = Device(deployment.gpu)

    def moved_bytes(self, updated: float, held: float) -> float:
        """Read and written where a rank updates so many parameters and computes with so many."""
        each = self.deployment.framework.optimizer_bytes_per_parameter + self.optimizer.more_bytes_per_parameter
        if self.deployment.cut.fp8 is None:
            return updated * each
        return updated * each + held * (FP8_TURNED_BYTES if self.deployment.fp8_weights else FP8_CAST_BYTES)

    def seconds(self, moved_bytes: float) -> float:
        """Of those passes, and of agreeing on tensors' norms where the optimizer scales by them."""
        passes = Elementwise(elements=moved_bytes / 4.0, reads=1, writes=0, dtype="fp32", streaming=True)
        return float(self._device.price(passes).seconds) + self._agreement_s

    @property
    def _agreement_s(self) -> float:
        """Two sums a tensor, among all ranks that hold parts of it."""
        if not self.optimizer.agrees_on_tensors:
            return 0.0
        copies = self.deployment.data_fabric if self.deployment.sharding.stage else None
        fabrics = [one for one in (self.deployment.tensor_fabric, copies) if one is not None]
        return sum(float(one.seconds("all_reduce", 8.0)) for one in fabrics)
