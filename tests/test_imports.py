"""The house's one direction of import, and SimPy's one room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ["hardware_models", "workloads", "policies", "sim", "calibration", "app"]  # each may import those before it


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    above = set(ORDER[ORDER.index(room) + 1 :])
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & above, path


def test_simpy_is_imported_in_sim_alone() -> None:
    users = {
        path.relative_to(ROOT).parts[0]
        for room in ORDER
        for path in (ROOT / room).rglob("*.py")
        if "simpy" in imported(path)
    }
    assert users == {"sim"}


def test_engine_and_policies_draw_nothing() -> None:
    for room in ("hardware_models", "workloads", "policies", "sim"):
        for path in (ROOT / room).rglob("*.py"):
            assert not imported(path) & {"plotly", "streamlit"}, path
