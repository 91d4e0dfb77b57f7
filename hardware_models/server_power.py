"""Watts of a whole server at the wall, from the watts of its GPUs and how busy its other parts are.

    heat = GPUs + CPUs + memory + drives + cards, switches and board
    watts = heat + fans(heat) + losses of the power supplies(heat + fans)

Each part goes from what it draws unused to its most, by the share of its capacity in use. The speed of the fans goes up
with the heat they carry away, their watts with its cube (affinity laws of fans). A supply's losses are lines between
the loads at which 80 PLUS certifies it. Fans are taken as settled: they follow heat within some ten seconds.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardware_models import catalog, power
from hardware_models.errors import ImpossibleError
from hardware_models.own_figures import own_figures
from hardware_models.server_parts_spec import ServerPartsSpec
from hardware_models.specs import CpuSpec, NodeSpec

Floats = NDArray[np.float64]
HALVINGS = 50  # of the interval in which watts of GPUs are sought


@dataclass(frozen=True, slots=True)
class Part:
    """Watts of all parts of one kind: unused, and at their most."""

    idle_w: float
    full_w: float

    def watts(self, share: ArrayLike) -> Floats:
        """At a share of its capacity, 0 to 1."""
        return np.asarray(self.idle_w + np.asarray(share, float) * (self.full_w - self.idle_w))


@dataclass(frozen=True, slots=True)
class Fans:
    """All fans of a server."""

    full_w: float  # at full speed
    still: float  # speed over full speed, without heat
    hot: float  # the same at `heat_w`
    heat_w: float  # the most that other parts draw

    def watts(self, heat_w: ArrayLike) -> Floats:
        """Of fans that carry away this heat."""
        speed = self.still + (self.hot - self.still) * np.asarray(heat_w, float) / self.heat_w
        return np.asarray(self.full_w * np.minimum(speed, 1.0) ** 3)


@dataclass(frozen=True, slots=True)
class Supply:
    """All power supplies of a server, sharing its load alike."""

    rated_w: float
    load: tuple[float, ...]  # over rated watts, from 0
    loss: tuple[float, ...]  # over rated watts

    def losses(self, given_w: ArrayLike) -> Floats:
        """Watts lost in giving so many; beyond the rated watts, the share lost there."""
        load = np.asarray(given_w, float) / self.rated_w
        inside = np.interp(load, self.load, self.loss)
        return np.asarray(self.rated_w * inside * np.maximum(load / self.load[-1], 1.0))


@dataclass(frozen=True, slots=True)
class ServerPower:
    """One kind of server."""

    name: str
    gpus: Part  # no process on any, all at their limit
    cpus: Part
    memory: Part
    drives: Part
    board_w: float  # cards, switches and the rest that draws the same at all times
    fans: Fans
    supply: Supply
    rated_w: float  # the maker's limit, else all parts at their most and fans at full speed
    sigma: float  # standard deviation of log(measured / predicted) watts where those of the GPUs are known
    grade: str
    source: str

    @property
    def idle_w(self) -> float:
        """Nothing runs, no process holds a GPU."""
        return float(self.watts(self.gpus.idle_w))

    @property
    def max_w(self) -> float:
        """All parts at their most, at usual temperatures of the room."""
        return float(self.watts(self.gpus.full_w, 1.0, 1.0, 1.0))

    def watts(
        self, gpu_w: ArrayLike, cpu_share: ArrayLike = 0.0, memory_share: ArrayLike = 0.0, drive_share: ArrayLike = 0.0
    ) -> Floats:
        """At the wall; gpu_w: of all its GPUs, the shares: of what CPUs, memory and drives can do (they broadcast)."""
        return np.asarray(sum(self.breakdown(gpu_w, cpu_share, memory_share, drive_share).values()))

    def breakdown(
        self, gpu_w: ArrayLike, cpu_share: ArrayLike = 0.0, memory_share: ArrayLike = 0.0, drive_share: ArrayLike = 0.0
    ) -> dict[str, Floats]:
        """Watts by what draws them; they add up to `watts`."""
        parts = {
            "gpus": np.asarray(gpu_w, float),
            "cpus": self.cpus.watts(cpu_share),
            "memory": self.memory.watts(memory_share),
            "drives": self.drives.watts(drive_share),
            "board": np.asarray(self.board_w),
        }
        heat = np.asarray(sum(parts.values()))
        fans = self.fans.watts(heat)
        return parts | {"fans": fans, "supply": self.supply.losses(heat + fans)}

    def gpu_watts_within(self, wall_w: float, cpu_share: float = 0.0, memory_share: float = 0.0) -> float:
        """The most that its GPUs may draw together for the server to stay within watts at the wall.

        Raises ImpossibleError for less than the server draws with GPUs that have no process.
        """
        least = float(self.watts(self.gpus.idle_w, cpu_share, memory_share))
        if wall_w < least:
            raise ImpossibleError(
                f"{wall_w:g} W for a whole {self.name}: it draws {least:.0f} W with idle GPUs; give it no less"
            )
        low, high = self.gpus.idle_w, self.gpus.full_w
        if float(self.watts(high, cpu_share, memory_share)) <= wall_w:
            return high
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.watts(middle, cpu_share, memory_share) <= wall_w else (low, middle)
        return low


@functools.cache
def server_power(node: NodeSpec) -> ServerPower:
    """Of a server, from the files of its parts and, for what they do not say, `server_parts/usual.toml`."""
    rules = catalog.server_part()
    gpu = catalog.gpu(node.gpu)
    gpus = Part(node.gpus * power.idle_w(gpu), node.gpus * gpu.tdp_w)
    cpu = catalog.cpu(node.cpu)
    cpus = Part(node.cpu_sockets * cpu_idle_w(cpu, rules), node.cpu_sockets * cpu.tdp_w)
    modules = node.dram_bytes / rules.dram_module_bytes
    memory = Part(modules * rules.dram_module_idle_w, modules * rules.dram_module_active_w)
    drive = catalog.ssd(node.ssd)
    drives = Part(node.ssds * drive.idle_w, node.ssds * drive.active_w)
    board_w = _board_w(node, rules)
    heat_w = sum(part.full_w for part in (gpus, cpus, memory, drives)) + board_w
    share = rules.fan_fraction if node.fan_fraction is None else node.fan_fraction
    fans = Fans(share * heat_w, rules.fan_speed_still, rules.fan_speed_hot, heat_w)
    worst_w = heat_w + fans.full_w
    supply = _supply(node.psu_w or rules.psu_factor * (node.max_power_w or worst_w), rules)
    rated_w = node.max_power_w or worst_w + float(supply.losses(worst_w))
    original = catalog.original_of(node)
    fitted = original is not None and original.name in rules.fitted_on and not own_figures(node)
    return ServerPower(
        name=node.name,
        gpus=gpus,
        cpus=cpus,
        memory=memory,
        drives=drives,
        board_w=board_w,
        fans=fans,
        supply=supply,
        rated_w=rated_w,
        sigma=rules.sigma if fitted else rules.sigma_unmeasured,
        grade=rules.source_of("fan_speed_still").grade if fitted else "assumed",
        source=rules.source_of("fan_speed_still").text,
    )


def cpu_idle_w(cpu: CpuSpec, rules: ServerPartsSpec) -> float:
    """Watts of a socket without work."""
    return cpu.idle_w if cpu.idle_w is not None else rules.cpu_idle_fraction * cpu.tdp_w


def _board_w(node: NodeSpec, rules: ServerPartsSpec) -> float:
    """Network cards, board, and the switches between GPUs where those are in the server."""
    cards_w = node.nics * rules.nic_w_per_byte_per_s * catalog.nic(node.nic).bandwidth_bytes_per_s
    switched = (
        node.scale_up is not None
        and node.scale_up_group <= node.gpus
        and catalog.link(node.scale_up).topology == "switch"
    )
    per_gpu_w = rules.board_w_per_gpu + (rules.switch_w_per_gpu if switched else 0.0)
    return cards_w + rules.board_w + node.gpus * per_gpu_w


def _supply(rated_w: float, rules: ServerPartsSpec) -> Supply:
    """Lines between the certified loads; below the first, the line through it and the second."""
    load = np.array(rules.psu_load)
    loss = load * (1.0 / np.array(rules.psu_efficiency) - 1.0)
    at_none = max(0.0, loss[0] - load[0] * (loss[1] - loss[0]) / (load[1] - load[0]))
    return Supply(rated_w, (0.0, *rules.psu_load), (float(at_none), *map(float, loss)))
