"""Limits of an engine: what it sets aside for a sequence, KV blocks beyond its memory, slots of its micro-batches."""

from pathlib import Path

import numpy as np
import pytest

from hardware_models.errors import DoesNotFitError, FleetcastError
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import parse_scenario
from workloads.request import RequestTable


def tables(**serving) -> dict:
    return {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "serving": serving,
        "workload": {"trace": "sharegpt"},
    }


def served(count: int = 12, **serving):
    requests = RequestTable.build(
        source="made up",
        arrival_s=np.zeros(count),
        prompt_tokens=np.full(count, 50),
        output_tokens=np.full(count, 40),
    )
    return run(Scenario.model_validate(tables(**serving)), requests=requests)


# -- reservations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "most"),
    [
        ({"name": "orca"}, 16_000),
        ({"name": "static"}, 16_000),
        ({"name": "sarathi"}, 16_000),
        ({"name": "orca", "allocator": "buddy"}, 8192),  # 512 blocks: the largest power of two within 1000
    ],
)
def test_a_reservation_larger_than_the_cache_names_the_longest_that_fits(scheduler, most):
    blocks = {"scheduler": scheduler, "num_gpu_blocks_override": 1000}
    message = rf"serving\.max_model_len = 131072 \(the positions of .*'{scheduler['name']}'.* at most {most}, or"
    with pytest.raises(DoesNotFitError, match=message):
        served(**blocks)
    with pytest.raises(DoesNotFitError, match=rf"serving\.max_model_len = {most + 1}: .* at most {most}, or"):
        served(**blocks, max_model_len=most + 1)
    assert served(**blocks, max_model_len=most).summary["rejected"] == 0


def test_a_reservation_that_depends_on_the_request_is_refused_a_request_at_a_time():
    for reservation in ("pow2", "oracle"):
        chosen = {"name": "orca", "reservation": reservation}
        assert served(scheduler=chosen, num_gpu_blocks_override=1000).summary["rejected"] == 0


def test_a_paged_engine_sets_nothing_aside():
    assert served(max_model_len=131_072, num_gpu_blocks_override=1000).summary["rejected"] == 0


# -- KV blocks ---------------------------------------------------------------------------------------------------------


def test_more_blocks_than_memory_are_noted_with_how_many_fit():
    fit = served().summary["kv_blocks"]
    assert not [n for n in served(num_gpu_blocks_override=fit).summary["notes"] if "override" in n]
    (note,) = [n for n in served(num_gpu_blocks_override=fit + 1).summary["notes"] if "override" in n]
    assert note.startswith(f"serving.num_gpu_blocks_override = {fit + 1} is more than the {fit} KV blocks")


# -- slots of micro-batches --------------------------------------------------------------------------------------------


def in_flight(result, instants: np.ndarray) -> np.ndarray:
    """Sequences between first scheduling and last token at each instant."""
    columns = result.request_columns
    start = columns["arrival_s"] + columns["queue_s"]
    end = columns["arrival_s"] + columns["e2e_s"]
    return ((start[:, None] <= instants) & (instants < end[:, None])).sum(axis=0)


@pytest.mark.parametrize("name", ["chunked_prefill", "prefill_first", "orca", "static"])
@pytest.mark.parametrize(("slots", "stages", "used"), [(8, 4, 8), (10, 4, 8), (7, 3, 6), (3, 3, 3)])
def test_the_micro_batches_together_keep_to_max_num_seqs(name, slots, stages, used):
    result = served(40, max_num_seqs=slots, pipeline_parallel_size=stages, max_model_len=200, scheduler={"name": name})
    ends = result.request_columns["arrival_s"] + result.request_columns["e2e_s"]
    assert in_flight(result, np.linspace(0.0, ends.max(), 500)).max() == used
    notes = [note for note in result.summary["notes"] if "no multiple of" in note]
    assert len(notes) == (used < slots)
    assert all(f"{slots - used} of the sequence slots stay empty" in note for note in notes)


def test_fewer_slots_than_stages_are_refused():
    with pytest.raises(FleetcastError, match=r"serving\.max_num_seqs = 3 is less than .*pipeline_parallel_size = 4"):
        parse_scenario(tables(max_num_seqs=3, pipeline_parallel_size=4), "s", Path())


def test_the_budget_of_a_micro_batch_must_hold_its_own_decodes_and_no_others():
    chosen = {"max_num_seqs": 256, "max_num_batched_tokens": 64}
    parse_scenario(tables(**chosen, pipeline_parallel_size=4), "s", Path())
    with pytest.raises(FleetcastError, match=r"= 256 / pipeline_parallel_size = 2: each running sequence"):
        parse_scenario(tables(**chosen, pipeline_parallel_size=2), "s", Path())
    with pytest.raises(FleetcastError, match=r"serving\.max_num_seqs = 256: each running sequence"):
        parse_scenario(tables(**chosen), "s", Path())
