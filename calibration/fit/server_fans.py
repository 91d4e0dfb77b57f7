"""Fits the speed of a server's fans: what its other parts leave over of watts measured at the wall, idle and at work.

Two whole servers are known, both with eight GPUs of the Hopper generation; a server's speed goes in a line from one to
the other. The two speeds stand in `hardware_models/server_parts/usual.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models.server_power import ServerPower

HALVINGS = 60


@dataclass(frozen=True, slots=True)
class WallReading:
    """What a server drew, and what its parts did."""

    watts: float  # at the wall
    gpu_w: float  # of all its GPUs
    cpu_share: float
    memory_share: float
    drive_share: float


# Lead-in and tail of runs on eight H200s, before and after any process: median of the first and last five seconds of
# four runs, 2,383 to 2,399 W (MLPerf Inference v4.1, NVIDIA, H200-SXM-141GBx8_TRT_MaxQ, 1 Hz).
IDLE_H200_W = 2391.0
# The most that eight H100s drew in training, "GPUs near full utilisation" (LBNL, eScholarship qt6rm197hd): taken as at
# their limit; how busy CPUs, memory and drives were is not said, and half is the middle.
BUSY_H100_W = 8400.0
UNSAID_SHARE = 0.5


def idle_reading(server: ServerPower) -> WallReading:
    """Eight H200s without a process."""
    return WallReading(IDLE_H200_W, server.gpus.idle_w, 0.0, 0.0, 0.0)


def busy_reading(server: ServerPower, share: float = UNSAID_SHARE) -> WallReading:
    """Eight H100s in training."""
    return WallReading(BUSY_H100_W, server.gpus.full_w, share, share, share)


def fan_speed(server: ServerPower, reading: WallReading) -> tuple[float, float]:
    """Heat over the most that the server's parts give off, and the speed over full speed that explains the reading."""
    parts = server.breakdown(reading.gpu_w, reading.cpu_share, reading.memory_share, reading.drive_share)
    heat = sum(float(watts) for name, watts in parts.items() if name not in ("fans", "supply"))
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        given = heat + server.fans.full_w * middle**3
        low, high = (middle, high) if given + float(server.supply.losses(given)) <= reading.watts else (low, middle)
    return heat / server.fans.heat_w, low


def fan_speeds(idle: tuple[float, float], busy: tuple[float, float]) -> tuple[float, float]:
    """Speeds without heat and at the most of it, on the line through two (heat, speed) points."""
    slope = (busy[1] - idle[1]) / (busy[0] - idle[0])
    return idle[1] - slope * idle[0], idle[1] + slope * (1.0 - idle[0])
