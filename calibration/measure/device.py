"""Names the machine for device.toml: the catalog's name of its GPU, software versions, clocks and limits as read."""

from __future__ import annotations

import os
import platform
import re
import tomllib
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from calibration.measure.machine import Machine
from calibration.measure.meters import Card, Meter

MEMORY_TOLERANCE = 0.06  # drivers and frameworks report total memory a few percent apart


def catalog_name(reported: str, memory_bytes: float) -> str | None:
    """The catalog's name of a card that the driver calls `reported`, or None.

    The name must be the same but for case, and the memory size that of the catalog's entry.
    """
    table = tomllib.loads((files("calibration.measure") / "gpu_names.toml").read_text(encoding="utf-8"))
    wanted = reported.strip().casefold()
    for entry in table["gpu"]:
        if wanted in (name.casefold() for name in entry["reported"]):
            for name in entry["catalog"]:
                if abs(memory_bytes / _catalog_memory(name) - 1.0) <= MEMORY_TOLERANCE:
                    return str(name)
    return None


def slug(reported: str) -> str:
    """A reported name in letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", reported.casefold()).strip("-") or "unknown"


def describe(machine: Machine | None, meter: Meter | None) -> dict[str, Any]:
    """Contents of device.toml but for the budget and what was chosen while measuring."""
    cpu = cpu_model()
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    host: dict[str, Any] = {
        "cpu": cpu,
        "threads": threads(),
        "memory_bytes": float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "system": f"{platform.system()} {platform.release()}",
    }
    software = {"python": platform.python_version()} | _versions(machine)
    if machine is None or not machine.is_gpu:
        return {"device": slug(cpu), "reported": cpu, "date": date, "host": host, "software": software}
    card = meter.card() if meter is not None else None
    reported = card.name if card else str(machine.properties.name)
    memory = card.memory_bytes if card else float(machine.properties.total_memory)
    return {
        "device": catalog_name(reported, memory) or slug(reported),
        "reported": reported,
        "date": date,
        "gpus": machine.torch.cuda.device_count(),
        "memory_bytes": memory,
        "l2_bytes": machine.l2_bytes,
        "sm_count": machine.properties.multi_processor_count,
        "timing": "device events around blocks of queued calls, median; copies and launches by the host's clock",
        "host": host,
        "software": software | ({"driver": card.driver} if card else {}),
    } | _read_state(card, meter)


def _read_state(card: Card | None, meter: Meter | None) -> dict[str, Any]:
    if card is None or meter is None:
        return {}
    state = {
        "power_limit_w": card.power_limit_w,
        "max_clock_hz": card.max_clock_hz,
        "memory_clock_hz": card.memory_clock_hz,
        "power_meter": meter.name,
    }
    return {"as_read": state}


def cpu_model() -> str:
    """The CPU's name as the kernel reports it, with its vendor's sockets left out."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions(machine: Machine | None) -> dict[str, str]:
    import numpy as np

    versions = {"numpy": np.__version__}
    if machine is not None:
        torch = machine.torch
        versions["torch"] = str(torch.__version__)
        if torch.version.cuda:
            versions["cuda"] = str(torch.version.cuda)
            versions["cudnn"] = str(torch.backends.cudnn.version())
            versions["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())
    return versions


def _catalog_memory(name: str) -> float:
    """Read without the catalog's checks, so that measuring needs no more than PyTorch, numpy and click."""
    return float(tomllib.loads((files("hardware_models") / "gpus" / f"{name}.toml").read_text())["memory_bytes"])
