"""The scripts run as they stand, on less work where they take long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = """
[model]
config = "llama-3.1-8b"
[cluster]
node = "l40s-1x"
[workload]
trace = "azure-conv-2023"
rate_scale = 0.2
duration_s = 60
[slo]
ttft_s = 2.0
tbt_s = 0.3
"""
RUNS = {
    "gpu_shortlist.sh": (["--set", "workload.duration_s=20"], "best: "),
    "overnight.sh": (
        ["--set", "samples=4", "--set", "seeds=[1]", "--set", "workload.duration_s=20"],
        "what moves goodput",
    ),
    "latency_curve.py": (["workload.duration_s=[20]"], "max_tbt p99, ms"),
    "cheapest_fleet.sh": (["small.toml", "--nodes", "l40s-1x", "--tp", "1", "--pp", "1"], "USD over"),
}


def test_every_script_is_tried_and_described() -> None:
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.suffix in (".sh", ".py")}
    assert scripts == set(RUNS)
    described = (ROOT / "scripts" / "README.md").read_text()
    assert all(f"`{name}`" in described for name in scripts)


@pytest.mark.parametrize("name", RUNS)
def test_a_script_runs_and_prints_its_answer(name: str, tmp_path: Path) -> None:
    arguments, words = RUNS[name]
    (tmp_path / "small.toml").write_text(SMALL)
    starter = [sys.executable] if name.endswith(".py") else []
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*starter, str(ROOT / "scripts" / name), *arguments],
        cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
