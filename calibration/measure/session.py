"""One run of `fleetcast calibrate measure`: finds the machine, plans, measures, and leaves a folder that reads back."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.measure.attention import AttentionBench
from calibration.measure.collective import CollectiveBench, backend_name
from calibration.measure.cost import Costs
from calibration.measure.device import describe, threads
from calibration.measure.elementwise import ElementwiseBench
from calibration.measure.gemm import GemmBench
from calibration.measure.host import HostBench
from calibration.measure.machine import Machine, choose_device, load_torch
from calibration.measure.meters import Meter, find_meter
from calibration.measure.moe import MoeBench
from calibration.measure.plans import plan
from calibration.measure.plans.target import PlanTarget
from calibration.measure.point import Bench, Point
from calibration.measure.power import PowerBench
from calibration.measure.processor import ProcessorBench
from calibration.measure.results import Results
from calibration.measure.runner import Runner
from calibration.measure.storage import StorageBench
from calibration.measure.timer import Timer
from calibration.measure.transfers import CopyBench, MemoryBench
from calibration.measure.watch import ProgressLine, SessionWatch, Watchdog
from calibration.measurement import DEVICE_FILE, read_device, write_device
from hardware_models.errors import FleetcastError

RATES = {"cuda": (2e14, 1e12), "cpu": (2e10, 5e9)}  # flop/s and bytes/s for estimates: a slow device of its kind
SMALL_FILE_BYTES = 64 * 2**20  # of the scratch file in a run on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for."""

    device: str  # auto, cuda or cpu
    out: Path
    budget_s: float
    kinds: tuple[str, ...] = ()
    scratch: Path | None = None


class HostMemory:
    """The machine of a run without PyTorch."""

    def free_bytes(self) -> float:
        """Nothing is put on a device."""
        return float("inf")

    def recover(self) -> str | None:
        """Nothing to release."""
        return None


def planned(request: Request) -> list[Point]:
    """The points of a run, in their order."""
    return plan(_plan_target(choose_device(request.device)), request.kinds)


def measure(request: Request) -> Results:
    """Measure within the budget; the folder is complete whenever this returns or raises.

    Raises FleetcastError for a folder of another machine or of other software; KeyboardInterrupt passes through.
    """
    started = time.monotonic()
    device = choose_device(request.device)
    machine = Machine(device) if load_torch() is not None else None
    meter = find_meter(str(getattr(machine.properties, "uuid", ""))) if machine is not None and machine.is_gpu else None
    description = describe(machine, meter) | {"budget_s": request.budget_s}
    earlier = _earlier(request.out, description)
    description |= {"attention": earlier}
    write_device(request.out, description)
    results = Results(request.out)
    points = plan(_plan_target(device), request.kinds)
    with _benches(request, device, machine, (meter, earlier)) as (benches, attention):
        progress, watchdog = ProgressLine(), Watchdog(results)
        runner = Runner(
            benches=benches,
            target=machine or HostMemory(),
            results=results,
            costs=Costs(*RATES[device]),
            watch=SessionWatch(progress, watchdog),
        )
        try:
            runner.run(points, request.budget_s - (time.monotonic() - started))
        finally:
            watchdog.close()
            progress.close()
            if attention is not None:
                write_device(request.out, description | {"attention": earlier | attention.report})
    return results


def archive(folder: Path) -> Path:
    """One compressed file of a measurement folder beside it; returns its path."""
    path = folder.with_name(folder.name + ".tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(folder.iterdir()):
            if file.suffix in (".csv", ".toml"):
                tar.add(file, f"{folder.name}/{file.name}")
    return path


def _plan_target(device: str) -> PlanTarget:
    torch = load_torch()
    if device == "cpu":
        return PlanTarget(is_gpu=False, threads=threads(), ranks=(2,) if torch is not None else ())
    gpus = int(torch.cuda.device_count())
    properties = torch.cuda.get_device_properties(0)
    return PlanTarget(
        is_gpu=True,
        sm_count=int(properties.multi_processor_count),
        gpus=gpus,
        threads=threads(),
        link="scale-up" if gpus > 1 and torch.cuda.can_device_access_peer(0, 1) else "host",
        backend=backend_name(device),
        ranks=tuple(2**i for i in range(1, 8) if 2**i <= gpus),
    )


@contextmanager
def _benches(
    request: Request, device: str, machine: Machine | None, found: tuple[Meter | None, dict[str, str]]
) -> Iterator[tuple[Mapping[str, Bench], AttentionBench | None]]:
    """What measures each kind; scratch files and processes are gone afterwards."""
    scratch = request.scratch or request.out
    storage = StorageBench(scratch) if device == "cuda" else StorageBench(scratch, SMALL_FILE_BYTES, 0.03)
    collective = CollectiveBench(device)
    benches: dict[str, Bench] = {"storage": storage, "cpu": ProcessorBench()}
    attention = None
    if machine is not None:
        timer = Timer(machine)
        attention = AttentionBench(machine, timer, found[1])
        benches |= {
            "gemm": GemmBench(machine, timer),
            "attention_prefill": attention.prefill,
            "attention_decode": attention.decode,
            "moe": MoeBench(machine, timer),
            "elementwise": ElementwiseBench(machine, timer),
            "memory": MemoryBench(machine, timer),
            "copy": CopyBench(machine, timer),
            "host": HostBench(machine, timer),
            "collective": collective,
            "power": PowerBench(machine, found[0]),
        }
    try:
        yield benches, attention
    finally:
        storage.close()
        collective.close()


def _earlier(folder: Path, description: Mapping[str, Any]) -> dict[str, str]:
    """What an earlier run into the folder found of attention kernels.

    Raises FleetcastError for a folder of another machine or of other versions, since device.toml speaks for all rows.
    """
    if not (folder / DEVICE_FILE).exists():
        if folder.exists() and any(folder.glob("*.csv")):
            raise FleetcastError(f"--out {folder}: holds CSV files and no {DEVICE_FILE}; give a new folder")
        return {}
    before = read_device(folder)
    for key in ("device", "software"):
        if before.get(key) != description[key]:
            raise FleetcastError(
                f"--out {folder}: was measured with {key} = {before.get(key)}, this machine has {description[key]};"
                " give a new folder"
            )
    return {str(name): str(text) for name, text in before.get("attention", {}).items()}
