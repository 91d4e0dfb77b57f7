import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.web.jobs import Job, JobState, read_json, stop_all
from hardware_models.errors import FleetcastError

EXAMPLE = Path(__file__).parent.parent.parent.parent / "scenarios" / "chat-70b-chunked.toml"
LONG = ("run", str(EXAMPLE), "--set", "workload.duration_s=360000", "--set", "workload.rate_scale=2")


def ended(job: Job, within_s: float = 60.0) -> JobState:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        state = job.poll()
        if not state.running:
            return state
        time.sleep(0.05)
    raise AssertionError(f"still running after {within_s} s: {job.stderr()}")


def test_a_command_runs_to_its_end_and_its_output_is_kept(tmp_path: Path) -> None:
    job = Job.start(["catalog", "gpus"], tmp_path / "a")
    assert ended(job) == JobState("finished", 0, job.poll().elapsed_s)
    assert "h100-sxm" in job.stdout()
    assert job.stderr() == ""
    assert Job.read(tmp_path / "a") == job


def test_a_mistake_is_a_failure_with_its_sentence(tmp_path: Path) -> None:
    job = Job.start(["run", "absent.toml"], tmp_path / "a")
    state = ended(job)
    assert (state.name, state.exit_code) == ("failed", 2)
    assert job.stderr() == "fleetcast: absent.toml: no such file; give a scenario file (TOML)\n"


def test_a_job_stops_and_may_be_started_anew(tmp_path: Path) -> None:
    job = Job.start(LONG, tmp_path / "a")
    assert job.poll().running
    with pytest.raises(FleetcastError, match="is running already"):
        Job.start(["catalog"], tmp_path / "a")
    job.stop()
    assert ended(job, 15).name == "stopped"
    assert ended(Job.start(["catalog"], tmp_path / "a")).name == "finished"


def test_a_job_ends_at_its_time_limit(tmp_path: Path) -> None:
    assert ended(Job.start(LONG, tmp_path / "a", time_limit_s=1.0), 20).name == "timed out"


def test_a_killed_supervisor_is_noticed(tmp_path: Path) -> None:
    job = Job.start(LONG, tmp_path / "a")
    time.sleep(0.3)
    os.killpg(job.pid, signal.SIGKILL)
    assert ended(job).name == "died"


def test_all_jobs_of_a_folder_are_stopped(tmp_path: Path) -> None:
    jobs = [Job.start(LONG, tmp_path / name) for name in "ab"]
    (tmp_path / "no-job").mkdir()
    stop_all(tmp_path)
    stop_all(tmp_path / "absent")
    assert [ended(job, 15).name for job in jobs] == ["stopped", "stopped"]


def test_nothing_is_no_job(tmp_path: Path) -> None:
    assert Job.read(tmp_path) is None
    assert read_json(tmp_path / "absent.json") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the system limits no addresses")
def test_a_commands_memory_is_limited() -> None:
    program = (
        "import subprocess, sys\n"
        "from app.web.supervisor import limit_memory\n"
        "limit_memory(2**30)\n"
        "subprocess.run([sys.executable, '-c', 'bytearray(5 * 2**29); print(\"within\"); bytearray(2**32)'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "within\n"
    assert "MemoryError" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no such limit")
def test_what_a_command_prints_is_limited(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys\n"
        "from app.web.supervisor import limit_files\n"
        "limit_files(1000)\n"
        "with open('out', 'wb') as out:\n"
        "    subprocess.run([sys.executable, '-c', 'print(5000 * \"x\")'], stdout=out, stderr=subprocess.DEVNULL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLE.parent.parent)}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "out").stat().st_size == 1000


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no such signal")
def test_a_job_ends_with_the_app_that_started_it_however_that_ends(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from app.web.jobs import Job\n"
        "Job.start(sys.argv[2:], Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a"), *LONG], check=False)
    assert done.returncode == -signal.SIGKILL
    job = Job.read(tmp_path / "a")
    assert job is not None
    assert ended(job, 20).name == "stopped"


def at_once(count: int, start: "object") -> list[str]:
    """What so many threads met that started at the same moment; empty where nothing."""
    assert callable(start)
    met: list[str] = []
    gate = threading.Barrier(count)

    def one(number: int) -> None:
        gate.wait()
        try:
            start(number)
        except FleetcastError as mistake:
            met.append(str(mistake))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return met


def test_sessions_that_start_the_same_job_at_once_start_one(tmp_path: Path) -> None:
    met = at_once(6, lambda _: Job.start(LONG, tmp_path / "a"))
    assert len(met) == 5
    assert all("is running already" in mistake for mistake in met)
    stop_all(tmp_path)


def test_sessions_that_start_jobs_at_once_start_no_more_than_may_run(tmp_path: Path) -> None:
    met = at_once(6, lambda number: Job.start(LONG, tmp_path / str(number), at_once=2))
    assert met == ["2 commands are running already; wait for one, or stop it"] * 4
    stop_all(tmp_path)
