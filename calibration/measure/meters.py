"""Reads a GPU's power, clocks and limits: NVML where its Python binding is installed, else nvidia-smi. Sets nothing."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

QUERY = "uuid,power.draw,clocks.sm,power.limit,clocks.max.sm,clocks.mem,driver_version,name,memory.total"
SMI_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Power and core clock at one moment."""

    watts: float
    clock_hz: float


@dataclass(frozen=True, slots=True)
class Card:
    """What the driver says of a card."""

    driver: str
    name: str
    memory_bytes: float
    power_limit_w: float
    max_clock_hz: float
    memory_clock_hz: float


class Meter(Protocol):
    """A source of readings."""

    name: str

    def read(self) -> Reading:
        """Power and clock now."""

    def card(self) -> Card:
        """What the driver says of the card."""


class NvmlMeter:
    """Through the driver's management library (package nvidia-ml-py)."""

    name = "NVML"

    def __init__(self, uuid: str) -> None:
        self._nvml: Any = importlib.import_module("pynvml")
        self._nvml.nvmlInit()
        alone = self._nvml.nvmlDeviceGetCount() == 1
        by_index, by_uuid = self._nvml.nvmlDeviceGetHandleByIndex, self._nvml.nvmlDeviceGetHandleByUUID
        self._handle = by_index(0) if alone else by_uuid(f"GPU-{uuid}")

    def read(self) -> Reading:
        """Power and clock now."""
        watts = self._nvml.nvmlDeviceGetPowerUsage(self._handle) * 1e-3
        return Reading(watts, self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM) * 1e6)

    def card(self) -> Card:
        """What the driver says of the card."""
        nvml, handle = self._nvml, self._handle
        return Card(
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            name=_text(nvml.nvmlDeviceGetName(handle)),
            memory_bytes=float(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            power_limit_w=nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 1e-3,
            max_clock_hz=nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6,
            memory_clock_hz=nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM) * 1e6,
        )


class SmiMeter:
    """Through the nvidia-smi command: some ten readings a second."""

    name = "nvidia-smi"

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid

    def read(self) -> Reading:
        """Power and clock now."""
        fields = self._query()
        return Reading(float(fields[1]), float(fields[2]) * 1e6)

    def card(self) -> Card:
        """What the driver says of the card."""
        _, _, _, limit, clock, memory_clock, driver, name, memory = self._query()
        mebibytes = float(memory) * 2**20
        return Card(driver, name, mebibytes, float(limit), float(clock) * 1e6, float(memory_clock) * 1e6)

    def _query(self) -> list[str]:
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True)
        cards = [[field.strip() for field in line.split(",")] for line in done.stdout.strip().splitlines()]
        if len(cards) == 1:
            return cards[0]
        return next(card for card in cards if card[0] == f"GPU-{self._uuid}")


def find_meter(uuid: str = "") -> Meter | None:
    """The best meter of a card, or None: other sources are tried where one is missing or refuses.

    uuid: tells which card of several, as PyTorch prints it (without "GPU-").
    """
    with suppress(Exception):  # the binding raises types of its own; device.toml names the meter that was found
        return NvmlMeter(uuid)
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        meter = SmiMeter(uuid)
        meter.read()
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, StopIteration):
        return None
    return meter


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
