"""`fleetcast app`: the what-if app in the browser, warm and open on a finished example."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.commands import FleetcastCommand
from hardware_models.errors import FleetcastError

if TYPE_CHECKING:
    from sim.stored_run import AnyRun

SCRIPT = Path(__file__).parent / "entry" / "main.py"


@click.command("app", cls=FleetcastCommand)
@click.option("--port", type=click.IntRange(1, 65_535), default=8501, show_default=True, help="Port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 lets others in.")
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/app"),
    show_default=True,
    help="Folder for runs, sweeps and uploads.",
)
@click.option(
    "--time-limit-s",
    type=click.FloatRange(1.0, 86_400.0),
    default=120.0,
    show_default=True,
    help="Seconds that one simulation may take.",
)
def app_command(port: int, host: str, runs: Path, time_limit_s: float) -> None:
    """Ask what-if questions in the browser; everything stays on this machine."""
    check_port(host, port)
    from app.web.settings import Settings

    settings = Settings(runs=make_folder(runs), time_limit_s=time_limit_s)
    os.environ |= settings.environment()
    click.echo(f"Fleetcast: http://{'localhost' if host in ('0.0.0.0', '::') else host}:{port} (Ctrl-C ends it)")
    serve(host, port, settings.upload_limit_bytes)


def check_port(host: str, port: int) -> None:
    """Raises FleetcastError where nobody can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise FleetcastError(
            f"--port {port}: cannot listen on {host} there ({error.strerror}); give another --port or --host"
        ) from None


def make_folder(runs: Path) -> Path:
    """The folder, made where it is not; raises FleetcastError."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        if not os.access(runs, os.W_OK | os.X_OK):
            raise FleetcastError(f"--runs {runs}: may not be written to; give another folder")
    except OSError as error:
        raise FleetcastError(f"--runs {runs}: cannot be made ({error.strerror}); give another folder") from None
    return runs


def serve(host: str, port: int, upload_limit_bytes: int) -> None:
    """Run the server until it is told to end; what it takes is loaded while it starts."""
    from streamlit.web import bootstrap

    options = {
        "server_address": host,
        "server_port": port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "server_maxUploadSize": upload_limit_bytes // 1_000_000,
        "server_enableStaticServing": False,
        "browser_gatherUsageStats": False,
        "client_toolbarMode": "minimal",
        "client_showErrorDetails": "none",
        "theme_base": "light",
        "theme_primaryColor": "#0072B2",
        "global_developmentMode": False,
        "logger_hideWelcomeMessage": True,
    }
    end_on_hangup()
    bootstrap.load_config_options(options)
    threading.Thread(target=warm_up, daemon=True).start()
    try:
        bootstrap.run(str(SCRIPT), False, [], options)
    finally:
        cool_down()


def end_on_hangup() -> None:
    """A closed terminal ends the app as SIGTERM does, with the commands of its pages; not under `nohup`."""
    hangup = getattr(signal, "SIGHUP", None)  # absent on Windows
    if hangup is not None and signal.getsignal(hangup) == signal.SIG_DFL:
        signal.signal(hangup, lambda _number, _frame: signal.raise_signal(signal.SIGTERM))


def warm_up() -> None:
    """Load what pages need and answer the example of each, so that the first look finds it finished."""
    from app.web import resources
    from app.web.families import FAMILIES, POWER
    from app.web.guard import safe_any
    from app.web.pages import PAGES
    from app.web.pages.training import without_check
    from app.web.url_state import full_example

    store = resources.store()
    runs = []
    for family in sorted(FAMILIES, key=lambda one: one is POWER):  # a row of servers takes longest
        scenario = safe_any(full_example(family.default, store), family.default, store)
        runs.append(resources.runner().submit(without_check(scenario), "start"))
    for module in PAGES.values():
        importlib.import_module(module)
    for run in runs:
        while not run.wait(1.0, "start"):
            continue
        if run.state == "finished":
            draw_first(store.run(run.run_id))


def draw_first(run: AnyRun) -> None:
    """Keep the pictures of a run that are looked at first."""
    from app.web.answer import overview
    from app.web.offload_answer import job_overview, step_overview
    from app.web.training_answer import training_overview
    from sim.stored_run import StoredRun, StoredTraining

    if isinstance(run, StoredRun):
        overview(run)
    elif not isinstance(run, StoredTraining):
        job_overview(run)
    elif run.scenario.offload is not None:
        step_overview(run)
    else:
        training_overview(run)


def cool_down() -> None:
    """End the workers and the commands that pages started."""
    from app.web import resources
    from app.web.jobs import stop_all

    resources.runner().close()
    stop_all(resources.store().jobs)
