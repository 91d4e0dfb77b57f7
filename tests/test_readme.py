"""What the README shows works as shown."""

import re
import tomllib
from pathlib import Path

import pytest

from sim import load_scenario
from sim.scenario_file import load_any, parse_scenario

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_scenario_shown_is_the_one_shipped():
    shown = parse_scenario(tomllib.loads(blocks("toml")[0]), "README", ROOT)
    assert shown == load_scenario(ROOT / "scenarios" / "chat-70b-chunked.toml")


def test_the_python_shown_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert "Memory" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_scenario_loads(path):
    assert load_any(path).name == path.stem


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
