"""Puts a scaler into a serving simulation: engines of every tensor-parallel size that it may choose, and its loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import simpy

from hardware_models import catalog
from hardware_models.collectives import Fabric
from hardware_models.errors import DoesNotFitError, ImpossibleError
from hardware_models.power import power_model
from hardware_models.topology.groups import tensor_fabric
from policies.power import SCALERS, Scaler
from policies.power.governor import Objective
from policies.power.packing import Place
from policies.power.scaler import Terms
from policies.serving import Router
from sim.policy_choice import make_policy
from sim.power.clocks import phase_clocks
from sim.power.engine_states import EngineStates
from sim.power.engine_table import EngineTable
from sim.power.locks import ClockLock
from sim.power.scaled_placement import Lobby, ScaledPlacement
from sim.power.scaler import Load, ScalerLoop
from sim.power.start import governor_clocks_mhz, pace
from sim.scenario import Scenario
from sim.serving.deployment import Deployment, Shape, deploy
from sim.serving.replica import Replica
from sim.serving.shapes import first_gpus, ranks_of, replicas_of, shapes_of
from workloads.models.counts import weight_bytes
from workloads.randomness import stream
from workloads.request import RequestTable


def make_scaler(scenario: Scenario) -> Scaler | None:
    """The scenario's, if it has one; raises ImpossibleError for what no scaler knows."""
    if scenario.power is None or scenario.power.scaler is None:
        return None
    serving, slo = scenario.serving, scenario.slo
    if slo.ttft_s is None and slo.tbt_s is None:
        raise ImpossibleError("power.scaler: keeps limits on TTFT or TBT, and there are none; give slo.ttft_s or tbt_s")
    if serving.pipeline_parallel_size > 1:
        raise ImpossibleError(
            f"power.scaler with serving.pipeline_parallel_size = {serving.pipeline_parallel_size}: it shards each layer"
            " over GPUs, and knows replicas of one stage; give 1"
        )
    if serving.low_priority_replicas:
        raise ImpossibleError(
            f"power.scaler with serving.low_priority_replicas = {serving.low_priority_replicas}: its pools are by"
            " length, not by priority; leave one of them out"
        )
    return make_policy("power.scaler", scenario.power.scaler, SCALERS, {})


def with_shapes(scenario: Scenario, deployment: Deployment, scaler: Scaler, requests: RequestTable) -> Deployment:
    """The deployment, with replicas of the other tensor-parallel sizes that hold every request that its own do;
    raises ImpossibleError for sizes that do not divide one another.
    """
    serving, others = scenario.serving, []
    own, first = serving.tensor_parallel_size, serving.replicas
    gpus = own * serving.replicas
    own_tokens = deployment.limits.kv_blocks * serving.block_size
    longest = min(int((requests.prompt_tokens + requests.output_tokens).max()), own_tokens)
    sizes = scaler.tensor_parallel_sizes_of(own)
    unit = max(sizes)
    if any(size < 1 or unit % size for size in sizes) or gpus % unit or deployment.node.gpus % unit:
        raise ImpossibleError(
            f"power.scaler.tensor_parallel_sizes = {list(sizes)}: each must divide the largest, and that the GPUs of a"
            f" server ({deployment.node.gpus}) and those of all replicas ({gpus}); give others"
        )
    for size in sizes[1:]:
        keys = {"tensor_parallel_size": size, "replicas": gpus // size}
        try:
            other = deploy(scenario.model_copy(update={"serving": serving.model_copy(update=keys)}))
        except DoesNotFitError:
            continue  # fewer GPUs than hold the model: no choice
        if other.limits.kv_blocks * serving.block_size < longest:
            continue
        others.append(Shape(other, first, gpus // size))
        first += gpus // size
    return replace(deployment, others=tuple(others))


class Scaling:
    """What of a scaler there is before the engines are; `start` begins its loop."""

    def __init__(
        self,
        env: simpy.Environment,
        scenario: Scenario,
        deployment: Deployment,
        scaler: Scaler,
        requests: RequestTable,
        router: Router,
    ) -> None:
        assert scenario.power is not None
        self._env, self._scenario, self._deployment, self._scaler = env, scenario, deployment, scaler
        own = scenario.serving.replicas
        self.replicas = replicas_of(deployment, own)
        pairs = zip(requests.prompt_tokens.tolist(), requests.output_tokens.tolist(), strict=True)
        classes = np.array([scaler.class_of(prompt, output) for prompt, output in pairs])
        self._load = Load(requests, classes, scenario.power)
        self.lobby = Lobby()
        gpus = zip(first_gpus(deployment, self.replicas).tolist(), ranks_of(deployment, self.replicas), strict=True)
        places = [Place(first, int(ranks)) for first, ranks in gpus]
        self._unit = max(place.gpus for place in places)
        self._states = EngineStates(env, places, own, self._unit, self._start_s, self._release)
        self._random = stream(scenario.seed, "router")
        self.placement = ScaledPlacement(
            requests, router, classes.tolist(), self._states.serving, self.replicas, self._random
        )
        self._engines: Sequence[Replica] = ()

    def start(self, engines: Sequence[Replica], locks: Sequence[ClockLock], working: Callable[[], bool]) -> ScalerLoop:
        """Begin to decide for these engines."""
        power = self._scenario.power
        assert power is not None
        self._engines = engines
        self._states.begin(engines, [lock.history for lock in locks])
        return ScalerLoop(
            self._env, power, self._scaler, self._terms(), self._load, self._states, self.placement, working
        )

    def _terms(self) -> Terms:
        scenario, deployment = self._scenario, self._deployment
        power, serving, slo = scenario.power, scenario.serving, scenario.slo
        assert power is not None
        boost_mhz = deployment.gpu.boost_clock_hz / 1e6
        clocks_mhz = [boost_mhz * phase_clocks(power, deployment.gpu).lock]
        if power.governor is not None:
            clocks_mhz = governor_clocks_mhz(power, deployment.gpu)
        shapes = [shape.deployment for shape in shapes_of(deployment, self.replicas)]
        profiles = {one.gpus_per_replica: EngineTable(pace(scenario, one), one) for one in shapes}
        return Terms(
            profiles, clocks_mhz, Objective(slo.ttft_s, slo.tbt_s, slo.percentile), serving.max_num_batched_tokens,
            serving.max_num_seqs, power_model(deployment.gpu).idle_w,
            serving.replicas * serving.tensor_parallel_size, self._unit,
        )  # fmt: skip

    def _start_s(self, gpus: int, before: int | None) -> float:
        """Until an engine serves: from the host each GPU gets its share of the weights, from its neighbours what it
        did not hold of it for another tensor-parallel size.
        """
        power, deployment = self._scenario.power, self._deployment
        assert power is not None
        dtype = self._scenario.model.weight_dtype
        needed = weight_bytes(deployment.architecture, dtype, tp=gpus)
        if before is None:
            return power.engine_start_s + needed / Fabric(catalog.link(deployment.node.pcie), 2).bytes_per_s
        missing = max(0.0, needed - weight_bytes(deployment.architecture, dtype, tp=before))
        fabric = tensor_fabric(deployment.node, self._unit, self._scenario.cluster.network)
        inner = fabric if isinstance(fabric, Fabric) else fabric.inner
        return power.sharding_start_s + missing / inner.bytes_per_s

    def _release(self) -> None:
        """Hand over what waited for an engine to serve."""
        serving = self._states.serving()
        for index in self.lobby.release() if serving and self._engines else ():
            chosen = self.placement.replica(index, self._engines, self._env.now, self._random)
            self._engines[chosen].deliver(index, self._env.now)
