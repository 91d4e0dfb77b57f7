"""The app started by its real command, a real Chromium to look at it, and pages without either."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from browser_steps import LAPTOP

from app.web import resources, runner
from app.web.settings import Settings
from app.web.store import Store
from app.web.worker_process import Worker

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_S = 60.0
TIME_LIMIT_S = 60


@dataclass
class Server:
    """A running `fleetcast app`."""

    url: str
    runs: Path

    @property
    def store(self) -> Store:
        return Store(self.runs)


@dataclass
class Look:
    """What a browser complained of while a test looked."""

    complaints: list[str] = field(default_factory=list)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All looks at the running app happen in one process of the tests, so that it is started once."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("app"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app, answering; ended with all its workers at the end."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = Path(sys.executable).parent / "fleetcast"
    start = [str(command)] if command.exists() else [sys.executable, "-c", "from app.cli import main; main()"]
    options = ["app", "--port", str(port), "--runs", str(folder / "runs"), "--time-limit-s", str(TIME_LIMIT_S)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*start, *options], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_health(f"http://127.0.0.1:{port}/_stcore/health", process, folder / "log")
        yield Server(f"http://127.0.0.1:{port}", folder / "runs")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_health(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                assert answer.read() == b"ok"
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the app did not answer in {PATIENCE_S} s: {log.read_text()}")


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A browser's folder, which keeps the app's compiled scripts from one test to the next."""
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def context(profile: Path) -> Iterator[Any]:
    """Chromium of the system, without a window; a session of the app belongs to a page of it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as tool:
        context = tool.chromium.launch_persistent_context(
            profile, executable_path=program, viewport=LAPTOP, accept_downloads=True, reduced_motion="reduce"
        )
        yield context
        context.close()


@pytest.fixture
def look() -> Look:
    """Collects what the browser complains of; `page` writes into it."""
    return Look()


@pytest.fixture
def page(context: Any, look: Look) -> Iterator[Any]:
    """A new page, of a laptop's size."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    page.on("pageerror", lambda error: look.complaints.append(str(error)))
    page.on("console", lambda message: complain(message, look))
    yield page
    page.close()


def complain(message: Any, look: Look) -> None:
    """Streamlit itself asks for its endpoints below each page's path before it finds them at the root."""
    if message.type == "error" and "/_stcore/" not in message.location["url"]:
        look.complaints.append(f"{message.text} {message.location['url']}")


@pytest.fixture(scope="session")
def idle_workers() -> Iterator[list[Worker]]:
    """Warm processes that one test leaves to the next."""
    workers: list[Worker] = []
    yield workers
    for worker in workers:
        worker.end()
        worker.close()


@pytest.fixture
def app_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idle_workers: list[Worker]) -> Iterator[Path]:
    """The folder of an app whose pages run in this process; workers that are still at something end with the test."""
    for name, value in Settings(runs=tmp_path / "runs", workers=1).environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runner, "Worker", lambda limit: idle_workers.pop() if idle_workers else Worker(limit))
    st.cache_resource.clear()
    yield tmp_path / "runs"
    left = resources.runner()
    if left._idle.qsize() == len(left._workers):
        idle_workers.extend(left._workers)
    else:
        left.close()
    st.cache_resource.clear()


@pytest.fixture(autouse=True)
def _main_module_stays() -> Iterator[None]:
    """Streamlit's in-process pages leave themselves behind as the main module, which new processes would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
