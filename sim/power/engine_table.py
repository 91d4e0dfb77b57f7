"""Seconds and joules of an engine's steps by clock and load, from the prices that steps are simulated with."""

from __future__ import annotations

from hardware_models.power import Activity, power_model
from sim.power.governor import Key, StepTable
from sim.power.pace import Pace
from sim.power.throttle import Throttle
from sim.serving.deployment import Deployment


class EngineTable(StepTable):
    """As policies see an engine of one tensor-parallel size: an `EngineProfile`."""

    def __init__(self, pace: Pace, deployment: Deployment) -> None:
        """pace: one of its own."""
        gpu = deployment.gpu
        super().__init__(pace, gpu.boost_clock_hz / 1e6, deployment.limits.window)
        self._gpu_power, self._mhz = power_model(gpu), gpu.boost_clock_hz / 1e6
        self._draw = Throttle(deployment, 0.0)  # by how much a step exceeds no watts at all
        self._joules: dict[Key, float] = {}
        self._gpus = deployment.gpus_per_replica
        self._kv_tokens = deployment.limits.kv_blocks * deployment.limits.block_size

    @property
    def gpus(self) -> int:
        """Tensor-parallel size."""
        return self._gpus

    @property
    def kv_tokens(self) -> int:
        """KV tokens that its memory holds."""
        return self._kv_tokens

    def step_j(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        """Of all its GPUs; sizes are rounded up to those of the table."""
        key = self._key(mhz, prompt_tokens, sequences, context_tokens)
        if key not in self._joules:
            self._joules[key] = self._priced_j(*key)
        return self._joules[key]

    def awake_w(self, mhz: float) -> float:
        """Of all its GPUs without work."""
        return self._gpus * float(self._gpu_power.watts(Activity(0.0, 0.0, 0.0), mhz / self._mhz))

    def _priced_j(self, mhz: float, prompt_tokens: int, sequences: int, context_each: int) -> float:
        load, pool = self._composition(prompt_tokens, sequences, context_each)
        self._pace.lock(mhz / self._mhz)
        clock, seconds, _, _ = self._pace.price(load, sequences, 0, pool)
        return self._gpus * self._draw.at(clock).joules(seconds, load, sequences, 0, pool)
