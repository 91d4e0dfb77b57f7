"""From raw timings to calibrated kernels: every device and kind of kernel, then how well devices price each other."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import pandas as pd

from calibration.fit.collectives import fit_collectives
from calibration.fit.datasets import OPERATORS, Frames, datasets, published_devices
from calibration.fit.files import read_fit_files
from calibration.fit.kernel import fit_kernel
from calibration.fit.origins import OWN, preferred
from calibration.fit.own import COLLECTIVE, Measurements, links_of, read_own
from calibration.fit.transfer import FILE, Spread, read_spreads, spread_table, transfers, write_spreads
from calibration.fit.write import write_fit_file
from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.fits import FOLDER, FitFile, read_fit_file
from hardware_models.link_parameters import FOLDER as LINKS

T = TypeVar("T")
Watch = Callable[[str], None]  # a line about what is done


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest:
    """What to fit, and where to write it."""

    data: Path | None = None  # folder of published tables, one folder a source
    measurements: tuple[Path, ...] = ()  # our own folders, preferred to published tables
    devices: tuple[str, ...] = ()  # catalog names; none: every device there are timings of
    out: Path = FOLDER
    date: datetime.date = field(default_factory=datetime.date.today)
    jobs: int = 1  # processes


@dataclass(frozen=True, slots=True)
class _Task:
    """One file to fit."""

    data: Path | None
    operator: str
    device: str
    date: datetime.date
    own: Frames


def fit_all(request: FitRequest, watch: Watch = lambda _: None) -> list[FitFile]:
    """Fit and write all that a request names; returns the files written, in order of device and kind.

    Without published tables, fits of formats that were not measured this time stay in their files. relatives.toml is
    judged anew for kinds of kernels whose measured devices all have timings at hand. Raises FleetcastError for an
    unknown device, one without timings, and whatever `read_own` refuses.
    """
    if request.data is not None and not request.data.is_dir():
        raise FleetcastError(f"--data {request.data}: is no folder; give the one that holds a folder a source")
    for name in request.devices:
        catalog.gpu(name)
    own = read_own(request.measurements, request.devices)
    devices = request.devices or tuple(sorted({*own, *(published_devices(request.data) if request.data else ())}))
    tasks = [
        _Task(request.data, operator, device, request.date, own.get(device, {}))
        for operator in OPERATORS
        for device in devices
    ]
    with _workers(request.jobs) as workers:
        links = workers.submit(_fit_links, request, own)
        futures = {workers.submit(_fit, task): task for task in tasks}
        files = {(task.device, task.operator): files for task, files in _finished(futures, watch)}
        written = [_write(file, request, watch) for key in sorted(files) for file in files[key]]
        written += [_write(file, request, watch) for file in links.result()]
        _require(request, written)
        _judge_relatives(request, own, workers, watch)
    return written + _fit_powers(request, devices, watch)


def _fit_powers(request: FitRequest, devices: tuple[str, ...], watch: Watch) -> list[FitFile]:
    """Watts of the devices that were metered serving models, whose step times the shipped calibration tells."""
    from calibration.fit.power import fit_power

    files = []
    for device in devices if request.data is not None and request.out == FOLDER else ():
        file = fit_power(request.data, device, request.date) if request.data else None
        if file is not None:
            files.append(_write(file, request, watch))
    return files


def _require(request: FitRequest, written: list[FitFile]) -> None:
    """Raises FleetcastError where nothing at all was fitted, or nothing of a device that was asked for."""
    for device in request.devices:
        if not any(
            file.device == device or (file.device == LINKS and file.operator in links_of(device)) for file in written
        ):
            raise FleetcastError(
                f"--device {device}: there are no timings of it, or too few; measure it with"
                " `fleetcast calibrate measure`, or give --data the folder of tables that hold it"
            )
    if not written:
        where = request.data or ", ".join(str(folder) for folder in request.measurements)
        raise FleetcastError(f"{where}: holds no timings that a fit can use, or too few; give a folder of more")


def _fit(task: _Task) -> tuple[list[FitFile], list[str]]:
    """The file of a task, if there is anything to fit, and what is to say about it."""
    found = datasets(task.operator, task.data, task.device, task.own)
    chosen = preferred(found)
    instead = {one.key: one.origin for one in chosen}
    notes = [
        f"{task.device} {task.operator} {one.key}: {len(one.timings.seconds)} points of our own are too few for a fit"
        f" ({one.fewest}); "
        + (f"those of {instead[one.key]} are fitted" if one.key in instead else "there is no fit of it")
        for one in found
        if one.origin == OWN and instead.get(one.key) != OWN
    ]
    fits = [fit_kernel(dataset) for dataset in chosen]
    if not fits:
        return [], notes
    return [FitFile(device=task.device, operator=task.operator, date=task.date, fit=fits)], notes


def _finished(
    futures: dict[Future[tuple[list[FitFile], list[str]]], _Task], watch: Watch
) -> Iterator[tuple[_Task, list[FitFile]]]:
    for future in as_completed(futures):
        files, notes = future.result()
        for note in notes:
            watch(note)
        for file in files:
            for fit in file.fit:
                watch(f"{file.device} {file.operator} {fit.key}: median error {fit.held_out.median:.1%}")
        yield futures[future], files


def _fit_links(request: FitRequest, own: Measurements) -> list[FitFile]:
    tables = [kinds[COLLECTIVE] for kinds in own.values() if COLLECTIVE in kinds]
    chosen = {link for device in request.devices for link in links_of(device)} if request.devices else None
    table = pd.concat(tables, ignore_index=True) if tables else None
    return fit_collectives(request.data, request.date, table, chosen)


def _write(file: FitFile, request: FitRequest, watch: Watch) -> FitFile:
    """Write a file; without published tables, with the fits it held of other formats."""
    path = request.out / file.device / f"{file.operator}.toml"
    if request.data is None and path.is_file():
        new = {fit.key for fit in file.fit}
        kept = [fit for fit in read_fit_file(path).fit if fit.key not in new]
        if kept:
            watch(f"{file.device} {file.operator}: {', '.join(fit.key for fit in kept)} stay as they were")
        file = file.model_copy(update={"fit": sorted([*file.fit, *kept], key=lambda fit: fit.key)})
    write_fit_file(file, request.out)
    return file


def _judge_relatives(request: FitRequest, own: Measurements, workers: _Workers, watch: Watch) -> None:
    files = read_fit_files(request.out)
    futures = {}
    for operator in OPERATORS:
        measured = {device: file for (device, name), file in files.items() if name == operator}
        for device in measured:
            task = _Task(request.data, operator, device, request.date, own.get(device, {}))
            futures[workers.submit(_leave_out, task, measured)] = task
    found: list[Spread] = []
    unjudged: set[str] = set()
    for future, task in futures.items():
        spreads = future.result()
        if spreads is None:
            unjudged.add(task.operator)
        else:
            found += spreads
    table = spread_table(one for one in found if one.operator not in unjudged)
    for operator, before in read_spreads(request.out).items():
        if operator not in OPERATORS:  # power, which is judged by `errors_from_relatives`
            table[operator] = before
        elif operator in unjudged:
            watch(f"{FILE}: {operator} stays as it was, since not all devices it was judged by have timings at hand")
            table[operator] = before
    if table:
        write_spreads(dict(sorted(table.items())), request.out)


def _leave_out(task: _Task, measured: dict[str, FitFile]) -> list[Spread] | None:
    """How far off each format of a device is without its own fits; None where its timings are not at hand."""
    chosen = preferred(datasets(task.operator, task.data, task.device, task.own))
    if not {fit.key for fit in measured[task.device].fit} <= {dataset.key for dataset in chosen}:
        return None
    return [transfer.spread for dataset in chosen for transfer in transfers(dataset, measured)]


class _Workers:
    """Processes, or this one alone where there is one job."""

    def __init__(self, pool: ProcessPoolExecutor | None) -> None:
        self._pool = pool

    def submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        """Have `function` called."""
        if self._pool is not None:
            return self._pool.submit(function, *arguments)
        future: Future[T] = Future()
        future.set_result(function(*arguments))
        return future


@contextmanager
def _workers(jobs: int) -> Iterator[_Workers]:
    if jobs == 1:
        yield _Workers(None)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield _Workers(pool)
