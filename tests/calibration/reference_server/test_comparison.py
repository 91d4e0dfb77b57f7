"""The comparison with the simulator, held to the simulator itself, and the command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tiny import config_file, requests

from app.reference_server import compare_served_command, comparison_lines, serve_command
from calibration.reference_server import record
from calibration.reference_server.comparison import compare_with_simulation, matching_scenario, price_steps
from calibration.reference_server.options import ServerOptions
from calibration.reference_server.shape import model_shape
from hardware_models.errors import FleetcastError
from sim.run import run
from workloads.models.catalog import model as load_model

FACTS = {
    "schema": 1, "model": "llama-3.1-8b", "kv_blocks": 9000, "device_name": "NVIDIA H200",
    "options": {
        "seed": 3, "dtype": "bf16", "max_num_seqs": 16, "max_num_batched_tokens": 512, "block_size": 16,
        "gpu_memory_utilization": 0.9, "scheduler": "chunked_prefill",
    },
}  # fmt: skip


def simulated_folder(folder: Path, engine: str) -> Path:
    """A folder whose measurements are the simulator's own."""
    table = requests(60, prompt=900, output=60, span_s=2.0)
    table_path = folder / record.REQUESTS
    pd.DataFrame({"arrival_s": [0.0], "prompt_tokens": [1], "output_tokens": [1]}).to_csv(table_path, index=False)
    result = run(matching_scenario(FACTS, folder, None, engine), requests=table, exact=True)
    result.requests[list(record.REQUEST_COLUMNS)].to_csv(table_path, index=False)
    columns = result.run.runs.columns()
    steps = pd.DataFrame({name: columns[name] for name in (
        "start_s", "prefill_tokens", "chunks", "pairs", "chunk_context", "decode_seqs", "context_tokens",
    )})  # fmt: skip
    steps["duration_s"] = columns["first_s"]
    stage = result.run.deployment.stages[0]
    samples = steps["chunks"] + steps["decode_seqs"]
    steps["device_s"] = steps["duration_s"] - stage.host_s_per_step - stage.host_s_per_sequence * samples
    steps.to_csv(folder / record.STEPS, index=False)
    (folder / record.RUN).write_text(record._toml(FACTS))
    return folder


@pytest.mark.parametrize("engine", ["ideal", "vllm-0.10"])
def test_the_simulator_compared_with_itself_has_no_error(tmp_path, engine) -> None:
    frame = compare_with_simulation(simulated_folder(tmp_path, engine), engine=engine)
    assert {"ttft_s", "tpot_s", "e2e_s", "output_tokens_per_s", "step_s", "device_s"} <= set(frame["metric"])
    np.testing.assert_allclose(frame["simulated"], frame["measured"], rtol=1e-9, atol=1e-12)
    step_counts = frame[(frame["metric"] == "step_s") & (frame["statistic"] == "mean")].set_index("group")["count"]
    assert step_counts.drop("all").sum() == step_counts["all"]


def test_slower_steps_show_as_an_error_of_their_size(tmp_path) -> None:
    folder = simulated_folder(tmp_path, "ideal")
    steps = pd.read_csv(folder / record.STEPS)
    steps["duration_s"] *= 2
    steps.to_csv(folder / record.STEPS, index=False)
    frame = compare_with_simulation(folder)
    errors = frame[frame["metric"] == "step_s"]["error_fraction"]
    np.testing.assert_allclose(errors, -0.5)


def test_unserved_requests_are_left_out(tmp_path) -> None:
    folder = simulated_folder(tmp_path, "ideal")
    table = pd.read_csv(folder / record.REQUESTS)
    extra = table.iloc[-1].copy()
    extra[["queue_s", "ttft_s", "tpot_s", "max_tbt_s", "e2e_s"]] = np.nan
    pd.concat([table, extra.to_frame().T]).to_csv(folder / record.REQUESTS, index=False)
    frame = compare_with_simulation(folder)
    ttft = frame[frame["metric"] == "ttft_s"]
    assert set(ttft["count"]) == {len(table)}
    np.testing.assert_allclose(ttft["simulated"], ttft["measured"], rtol=1e-9)


def test_steps_beyond_what_the_simulation_met_can_be_priced(tmp_path) -> None:
    folder = simulated_folder(tmp_path, "ideal")
    result = run(matching_scenario(FACTS, folder, None, "ideal"), requests=requests(1))
    steps = pd.DataFrame(
        {"prefill_tokens": [9000], "chunks": [9], "pairs": [10**7], "chunk_context": [9000], "decode_seqs": [1000],
         "context_tokens": [10**6]}
    )  # fmt: skip
    assert price_steps(result.run.deployment, steps)[0, 0] > 0.05


def test_an_unknown_device_asks_for_its_node(tmp_path) -> None:
    with pytest.raises(FleetcastError, match="no catalog node has a 'NVIDIA Z9'; name the one to simulate with --node"):
        matching_scenario(FACTS | {"device_name": "NVIDIA Z9"}, tmp_path, None, "ideal")


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("mistral-7b", "sliding windows"),
        ("qwen3-8b", "norms of queries and keys"),
        ("deepseek-v3", "layers of several kinds"),
        ("opt-13b", "an output bias"),
        ("gpt-oss-20b", "layers of several kinds"),
    ],
)
def test_models_it_cannot_run_are_named_with_the_reason(name, lacks) -> None:
    with pytest.raises(FleetcastError, match=f"model '{name}': the reference server does not have {lacks}"):
        model_shape(load_model(name))


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen2.5-32b", "mixtral-8x7b"])
def test_the_wanted_models_can_be_run(name) -> None:
    assert model_shape(load_model(name)).layers > 0


@pytest.mark.parametrize(
    ("device", "change", "sentence"),
    [
        ("cuda", {"attention": "torch"}, "add --no-graphs"),
        ("cuda", {"experts": "loop"}, "add --no-graphs"),
        ("cuda", {"dtype": "fp32"}, "GPU runs are in bf16"),
        ("cuda", {"attention": "flash"}, "give 256"),
        ("cuda", {"max_num_batched_tokens": 8}, "takes a token a step"),
        ("cpu", {}, "--num-gpu-blocks"),
        ("cpu", {"attention": "fast"}, "must be one of"),
    ],
)
def test_settings_that_cannot_run_are_refused_in_one_sentence(device, change, sentence) -> None:
    with pytest.raises(FleetcastError, match=sentence):
        ServerOptions(**change).resolved(device)


def test_the_command_serves_writes_and_compares(torch, tmp_path) -> None:
    table, out = tmp_path / "trace.csv", tmp_path / "out"
    rows = requests(12, prompt=60, output=10)
    pd.DataFrame(
        {
            "request_id": range(12),
            "arrived_at_s": rows.arrival_s,
            "num_prefill_tokens": rows.prompt_tokens,
            "num_decode_tokens": rows.output_tokens,
        }
    ).to_csv(table, index=False)
    arguments = [
        config_file(tmp_path, "mixtral"), str(table), "--out", str(out), "--device", "cpu", "--num-gpu-blocks", "64",
        "--max-num-seqs", "8", "--max-num-batched-tokens", "32", "--compare", "--node", "dgx-h200",
    ]  # fmt: skip
    result = CliRunner().invoke(serve_command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "12 of 12 requests" in result.output
    assert {path.name for path in out.iterdir()} == set(record.FILES)
    served = pd.read_csv(out / record.REQUESTS)
    assert served["output_tokens"].sum() == rows.output_tokens.sum()
    assert (served["e2e_s"] >= served["ttft_s"]).all()
    steps = pd.read_csv(out / record.STEPS)
    assert ((steps["host_s"] + steps["device_s"]) <= steps["duration_s"] + 1e-6).all()
    assert (np.diff(steps["start_s"]) > 0).all()
    facts = record.read_facts(out)
    assert (facts["options"]["attention"], facts["options"]["experts"]) == ("torch", "loop")
    again = CliRunner().invoke(compare_served_command, [str(out), "--node", "dgx-h200"], catch_exceptions=False)
    frame = pd.read_csv(out / record.COMPARISON)
    assert len(comparison_lines(frame)) == len(again.output.splitlines())


def test_a_foreign_folder_is_refused_before_anything_runs(tmp_path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(FleetcastError, match=r"holds 'letter\.txt'"):
        record.check_folder(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path) -> None:
    with pytest.raises(FleetcastError, match="give a folder of `calibrate serve --out`"):
        compare_with_simulation(tmp_path)
