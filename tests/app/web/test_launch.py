import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.web.launch import make_folder
from app.web.settings import Settings
from hardware_models.errors import FleetcastError


def test_a_port_that_is_taken_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], fleetcast: Callable[..., int]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert fleetcast("app", "--port", str(port)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fleetcast: --port {port}: cannot listen on 127.0.0.1 there (")
    assert said.endswith("give another --port or --host\n")


def test_a_folder_that_cannot_be_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetcastError, match=r"--runs .*: cannot be made \(Not a directory\)"):
        make_folder(tmp_path / "file" / "runs")


def test_settings_travel_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Settings(runs=tmp_path, time_limit_s=7.5, memory_limit_bytes=123, workers=1, job_limit_s=9.0)
    for name, value in told.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.of_environment() == told


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no such signal")
@pytest.mark.parametrize(("ignored", "said"), [(False, "ended\n"), (True, "")])
def test_a_closed_terminal_ends_the_app_unless_it_is_to_outlive_it(ignored: bool, said: str) -> None:
    program = (
        "import signal\n"
        "from app.web.launch import end_on_hangup\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('ended'))\n"
        "end_on_hangup()\n"
        "signal.raise_signal(signal.SIGHUP)"
    )
    found = signal.SIG_IGN if ignored else signal.SIG_DFL  # as under nohup, or not, however the tests were started
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, found),
    )
    assert done.stdout == said
