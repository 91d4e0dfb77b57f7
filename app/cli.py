"""The `fleetcast` command."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands import INTERRUPTED, NOTHING_WRITTEN, USER_ERROR, FleetcastCommand

if TYPE_CHECKING:
    from app.outputs import Outputs
    from sim.offload.inference_scenario import OffloadedInferenceScenario
    from sim.training_scenario import TrainingScenario

COMMANDS = {  # beyond those of this file: where each is, so that asking for one loads no other
    "app": "app.web.launch:app_command",
    "calibrate": "app.calibrate_group:calibrate_group",
    "plan": "app.plan:plan",
    "sweep": "app.sweep:sweep",
}


class Commands(click.Group):
    """Loads a command of COMMANDS when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names, sorted."""
        return sorted({*super().list_commands(context), *COMMANDS})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """A command by name."""
        if name not in COMMANDS:
            return super().get_command(context, name)
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="fleetcast")
@click.pass_context
def cli(context: click.Context) -> None:
    """Forecast what an AI cluster will do before you buy, cable or re-configure it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Register a function as a Fleetcast command."""

    def register(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> None:
            function(*args, **kwargs)

        return cli.command(name, cls=FleetcastCommand)(call)

    return register


@command("run")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key, e.g. serving.max_num_seqs=64.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the run's frames, summary and report to this folder."
)
@click.option("--exact", is_flag=True, help="One event an iteration, instead of one a run of equal iterations.")
@click.option(
    "--trace-out", type=click.Path(path_type=Path), help="Write a timeline for ui.perfetto.dev (.json or .json.gz)."
)
@click.option(
    "--vllm-json", type=click.Path(path_type=Path), help="Write the result in the shape of `vllm bench serve`."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output, and nothing else.")
def run_command(
    scenario: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    exact: bool,
    trace_out: Path | None,
    vllm_json: Path | None,
    as_json: bool,
) -> None:
    """Simulate SCENARIO (a TOML file) and report what came of it."""
    from app.console import print_report
    from app.outputs import Outputs
    from app.progress import Progress
    from sim.offload.inference_scenario import OffloadedInferenceScenario
    from sim.run import run
    from sim.scenario_file import load_any
    from sim.training_scenario import TrainingScenario

    loaded = load_any(scenario, overrides)
    outputs = Outputs(out, trace_out, vllm_json)
    outputs.check(scenario, loaded)
    if isinstance(loaded, TrainingScenario):
        _run_training(loaded, outputs, exact=exact, as_json=as_json)
        return
    if isinstance(loaded, OffloadedInferenceScenario):
        _run_offload(loaded, outputs, exact=exact, as_json=as_json)
        return
    progress = Progress()
    try:
        result = run(loaded, exact=exact, watch=progress.watch)
    finally:
        progress.close()
    outputs.write(result)
    if as_json:
        click.echo(result.summary_json())
    else:
        print_report(result, out)


def _run_training(scenario: TrainingScenario, outputs: Outputs, *, exact: bool, as_json: bool) -> None:
    from app.training_report import print_training_report
    from sim.training.result import run_training

    result = run_training(scenario, exact=exact)
    outputs.write_training(result)
    if as_json:
        click.echo(result.summary_json())
    else:
        print_training_report(result, outputs.folder)


def _run_offload(scenario: OffloadedInferenceScenario, outputs: Outputs, *, exact: bool, as_json: bool) -> None:
    from app.offload_report import print_offload_report
    from sim.offload.inference_result import run_inference

    result = run_inference(scenario, exact=exact)
    outputs.write_offload(result)
    if as_json:
        click.echo(result.summary_json())
    else:
        print_offload_report(result, outputs.folder)


@command("compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
def compare_command(runs: tuple[Path, ...]) -> None:
    """Show how run folders differ from the first one, and why."""
    from app.compare import print_comparison

    print_comparison(runs)


@command("catalog")
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--copy-to", type=click.Path(path_type=Path), metavar="FILE", help="Write a copy of the entry (.toml).")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the copy: gpu.memory_bytes=2x.")
def catalog_command(kind: str | None, name: str | None, copy_to: Path | None, overrides: tuple[str, ...]) -> None:
    """List what Fleetcast knows of a KIND (gpus, models, traces, policies, ...), or one entry with its sources.

    NAME may be your own file of a GPU, link, network card or node.
    """
    if copy_to is not None or overrides:
        from app.catalog_copy import copy_entry

        copy_entry(kind, name, copy_to, overrides)
    else:
        from app.catalog_view import print_catalog

        print_catalog(kind, name)


@command("validate")
@click.argument("studies", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="List the studies.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON on standard output, and nothing else.")
@click.option("--point", "points", multiple=True, metavar="NAME", help="Of the one study named, only this point.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key in every scenario simulated.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Keep the rows in this file (.json).")
def validate_command(
    studies: tuple[str, ...],
    only_list: bool,
    as_json: bool,
    points: tuple[str, ...],
    overrides: tuple[str, ...],
    out: Path | None,
) -> None:
    """Simulate published STUDIES (FAMILY/NAME; all by default) and set the published figures beside."""
    from app.validate import print_list, print_validation

    if only_list:
        print_list(studies)
    else:
        print_validation(studies, as_json=as_json, points=points, overrides=overrides, out=out)


def main() -> None:
    """Entry point."""
    try:
        code = cli(prog_name="fleetcast", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx is not None else "fleetcast"
        message = error.format_message().rstrip(".")
        click.echo(f"{verb}: {message}; see {verb} --help", err=True)
        sys.exit(USER_ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"fleetcast: interrupted; {NOTHING_WRITTEN}", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader has had enough, as `| head -1` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    if isinstance(code, int):
        sys.exit(code)
