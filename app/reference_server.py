"""`fleetcast calibrate serve`: play requests on this machine's own device, and compare with the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands import FleetcastCommand
from calibration.reference_server.options import (
    ATTENTION,
    AUTO,
    DTYPES,
    ELEMENTWISE,
    EXPERTS,
    SCHEDULERS,
    ServerOptions,
)

if TYPE_CHECKING:
    import pandas as pd

DEFAULTS = ServerOptions()
NODE_HELP = "Catalog node whose GPU to simulate [default: by the device's name]."
ENGINE_HELP = "Profile of software overheads to simulate with; `ideal` has none."


def _choice(names: tuple[str, ...]) -> click.Choice[str]:
    return click.Choice((AUTO, *names))


Function = Callable[..., None]


def _options(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_workload = _options(
    click.option("--request-rate", type=float, help="Poisson arrivals at this rate in place of the file's, 1/s."),
    click.option("--rate-scale", type=float, default=1.0, show_default=True, help="Divide every arrival time by this."),
    click.option("--duration-s", type=float, help="Only requests that arrive before this."),
    click.option("--num-requests", type=int, help="Only so many requests."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of weights, prompts and drawn arrivals."),
)
_engine = _options(
    click.option("--scheduler", type=click.Choice(SCHEDULERS), default=DEFAULTS.scheduler, show_default=True),
    click.option("--max-num-seqs", type=click.IntRange(1), default=DEFAULTS.max_num_seqs, show_default=True),
    click.option(
        "--max-num-batched-tokens", type=click.IntRange(1), default=DEFAULTS.max_num_batched_tokens, show_default=True
    ),
    click.option("--max-model-len", type=click.IntRange(1), help="Turn longer requests away (prompt + output)."),
    click.option("--block-size", type=click.IntRange(1), default=DEFAULTS.block_size, show_default=True),
    click.option(
        "--gpu-memory-utilization",
        type=click.FloatRange(0, 1, min_open=True),
        default=DEFAULTS.gpu_memory_utilization,
        show_default=True,
    ),
    click.option("--num-gpu-blocks", "num_gpu_blocks_override", type=click.IntRange(1), help="KV blocks to have."),
    click.option("--budget-s", type=click.FloatRange(0, min_open=True), help="Admit nobody after this."),
    click.option(
        "--drain-s",
        type=click.FloatRange(0),
        default=DEFAULTS.drain_s,
        show_default=True,
        help="After the budget, let running requests finish for so long.",
    ),
)
_kernels = _options(
    click.option("--device", type=_choice(("cuda", "cpu")), default=AUTO, show_default=True),
    click.option("--dtype", type=_choice(DTYPES), default=AUTO, show_default=True),
    click.option("--attention", type=_choice(ATTENTION), default=AUTO, show_default=True, help="Decode attention."),
    click.option("--elementwise", type=_choice(ELEMENTWISE), default=AUTO, show_default=True),
    click.option("--experts", type=_choice(EXPERTS), default=AUTO, show_default=True),
    click.option("--no-graphs", is_flag=True, help="Launch every decode kernel from the host."),
)


@click.command("serve", cls=FleetcastCommand)
@click.argument("model")
@click.argument("requests")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for requests, steps and facts.")
@_workload
@_engine
@_kernels
@click.option("--compare", is_flag=True, help="Also simulate the same requests, and write comparison.csv.")
@click.option("--node", help=NODE_HELP)
@click.option("--engine", default="ideal", show_default=True, help=ENGINE_HELP)
def serve_command(
    model: str,
    requests: str,
    out: Path,
    request_rate: float | None,
    rate_scale: float,
    duration_s: float | None,
    num_requests: int | None,
    compare: bool,
    node: str | None,
    engine: str,
    no_graphs: bool,
    **settings: Any,
) -> None:
    """Serve REQUESTS (a trace file or catalog name) with random weights of MODEL, in real time, on this device."""
    from pydantic import ValidationError

    from calibration.reference_server.record import check_folder, requests_frame, write
    from calibration.reference_server.server import serve
    from hardware_models.errors import FleetcastError
    from sim.scenario import WorkloadSection
    from sim.workload import load_requests

    check_folder(out)
    try:
        workload = WorkloadSection(
            trace=requests,
            request_rate=request_rate,
            rate_scale=rate_scale,
            duration_s=duration_s,
            num_requests=num_requests,
        )
    except ValidationError as error:
        first = error.errors()[0]
        flag = str(first["loc"][-1]).replace("_", "-")
        raise FleetcastError(f"--{flag} {first['input']}: {first['msg'].lower()}") from None
    table = load_requests(workload, settings["seed"])
    started = time.monotonic()
    served = serve(
        model,
        table,
        ServerOptions(graphs=not no_graphs, **settings),
        lambda line: click.echo(f"[{time.monotonic() - started:6.1f} s] {line}", err=True),
    )
    write(served, out)
    frame = requests_frame(served.engine)
    click.echo(
        f"{served.engine.requests.finished} of {len(table)} requests in {served.facts['duration_s']:.1f} s on"
        f" {served.facts['device_name']}, {len(served.engine.steps)} steps; mean TTFT {frame['ttft_s'].mean():.4g} s,"
        f" TPOT {frame['tpot_s'].mean():.4g} s; written to {out}"
    )
    if compare:
        _compare(out, node, engine)


@click.command("compare-served", cls=FleetcastCommand)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--node", help=NODE_HELP)
@click.option("--engine", default="ideal", show_default=True, help=ENGINE_HELP)
def compare_served_command(folder: Path, node: str | None, engine: str) -> None:
    """Simulate the requests of a `calibrate serve` FOLDER and set both beside each other."""
    _compare(folder, node, engine)


def _compare(folder: Path, node: str | None, engine: str) -> None:
    from calibration.reference_server.comparison import compare_with_simulation
    from calibration.reference_server.record import COMPARISON

    frame = compare_with_simulation(folder, node=node, engine=engine)
    frame.to_csv(folder / COMPARISON, index=False, float_format="%.6g")
    for line in comparison_lines(frame):
        click.echo(line)


def comparison_lines(frame: pd.DataFrame) -> list[str]:
    """The comparison as a table, line by line."""
    header = f"{'metric':<20} {'steps':<30} {'of':<5} {'count':>7} {'measured':>11} {'simulated':>11} {'error':>8}"
    return [
        header,
        *(
            f"{row.metric:<20} {row.group:<30} {row.statistic:<5} {row.count:>7} {row.measured:>11.5g}"
            f" {row.simulated:>11.5g} {row.error_fraction:>+8.1%}"
            for row in frame.itertuples()
        ),
    ]


def add_commands(group: click.Group) -> None:
    """Register the commands of this file on `fleetcast calibrate`."""
    group.add_command(serve_command)
    group.add_command(compare_served_command)
