import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.identity import scenario_id
from sim.scenario import Scenario
from sim.scenario_file import parse_scenario

TRACE = "arrival_s,prompt_tokens,output_tokens\n0,100,10\n"


def tables(**changes: Any) -> dict[str, Any]:
    return {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "workload": {"trace": "azure-conv-2023"},
        **changes,
    }


def identity(**changes: Any) -> str:
    return scenario_id(Scenario.model_validate(tables(**changes)))


def test_a_default_that_is_spelt_out_is_the_same_run() -> None:
    assert identity() == identity(seed=0, serving={"max_num_seqs": 256, "scheduler": {"name": "chunked_prefill"}})


@given(seed=st.integers(0, 10**9), seqs=st.integers(1, 2048), rate=st.floats(0.1, 10))
def test_runs_that_differ_have_names_that_differ(seed: int, seqs: int, rate: float) -> None:
    changed = {
        "seed": seed,
        "serving": {"max_num_seqs": seqs},
        "workload": {**tables()["workload"], "rate_scale": rate},
    }
    assert (identity(**changed) == identity()) == ((seed, seqs, rate) == (0, 256, 1.0))
    assert identity(**changed) == identity(**changed)


def test_another_process_gives_the_same_name() -> None:
    code = (
        "from sim.identity import scenario_id; from sim.scenario import Scenario;"
        f"print(scenario_id(Scenario.model_validate({tables()!r})))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == identity()


def test_what_a_named_file_holds_belongs_to_the_name(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text(TRACE)
    scenario = parse_scenario(tables(workload={"trace": str(trace)}), "x", tmp_path)
    before = scenario_id(scenario)
    assert scenario_id(scenario) == before
    trace.write_text(TRACE + "1,5,5\n")
    assert scenario_id(scenario) != before


def test_a_name_is_sixteen_hexadecimal_digits() -> None:
    name = identity()
    assert len(name) == 16
    assert int(name, 16) >= 0


@pytest.mark.parametrize("key", ["model", "cluster"])
def test_a_file_of_ones_own_that_changes_is_another_run(tmp_path: Path, key: str) -> None:
    from hardware_models import catalog
    from workloads.models import catalog as models

    if key == "model":
        file = tmp_path / "config.json"
        file.write_bytes((models.CATALOG / "llama-3.1-8b.json").read_bytes())
        changed = tables(model={"config": str(file)})
        edit = ('"num_hidden_layers": 32', '"num_hidden_layers": 16')
    else:
        file = tmp_path / "mine.toml"
        file.write_bytes((catalog.ROOT / "nodes" / "dgx-h100.toml").read_bytes())
        changed = tables(cluster={"node": str(file)})
        edit = ("gpus = 8", "gpus = 4")
    scenario = Scenario.model_validate(changed)
    before = scenario_id(scenario)
    text = file.read_text()
    assert edit[0] in text
    file.write_text(text.replace(*edit))
    assert scenario_id(scenario) != before
