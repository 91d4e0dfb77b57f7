"""The tutorial works as written: its files are saved, its commands run in order, and they print what it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def words(line: str) -> str:
    """A line without its numbers and its spacing: what must be printed whatever the calibration of the day says."""
    return " ".join(NUMBER.sub("#", line).split())


def test_the_tutorial_runs_from_top_to_bottom(tmp_path: Path) -> None:
    bin_folder = Path(sys.executable).parent
    assert (bin_folder / "fleetcast").exists(), "fleetcast is not installed beside this Python: make test first"
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    printed: list[str] = []
    commands = 0
    for language, title, content in BLOCK.findall(TUTORIAL):
        if language == "toml":
            (tmp_path / title.strip()).write_text(content, encoding="utf-8")
        elif language in ("sh", "python"):
            shell = ["bash", "-euo", "pipefail", "-c", content]
            done = subprocess.run(
                shell if language == "sh" else [sys.executable, "-c", content],
                cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"
            printed = [words(line) for line in done.stdout.splitlines()]
            commands += 1
        elif language == "text":
            for line in content.splitlines():
                assert line == "..." or words(line) in printed, f"not printed: {line}\n" + "\n".join(printed)
        else:
            pytest.fail(f"a block of '{language}' is not tested; use toml NAME, sh, python or text")
    assert commands >= 6
