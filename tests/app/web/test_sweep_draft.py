"""A sweep in a form: texts become axes and back, and nothing but names of the app's own is let in."""

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.settings import Settings
from app.web.store import Store
from app.web.sweep_draft import SweepDraft, axis_keys, axis_text, axis_value
from app.web.sweeps import MOST_POINTS, all_kept, check, command, example_sweep, keep, kept
from hardware_models.errors import FleetcastError
from sim.sweep.points import expand


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def axes_of(draft: SweepDraft, *axes: tuple[str, str], **changes) -> dict:
    changed = copy.deepcopy(draft)
    changed.axes = list(axes)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed.tables()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64, 128", [64, 128]),
        ("bf16, fp8", ["bf16", "fp8"]),
        ("0.5", [0.5]),
        ('"a, b", c', ['"a', 'b"', "c"]),
        ('{ name = "orca" }, { name = "static" }', [{"name": "orca"}, {"name": "static"}]),
        ("1 to 4 in 7", {"low": 1.0, "high": 4.0, "points": 7}),
        ("0.5 to 4 in 8", {"low": 0.5, "high": 4.0, "points": 8}),
    ],
)
def test_a_text_is_a_list_or_a_range(text, value):
    assert axis_value("workload.rate_scale", text) == value


def test_a_range_of_a_key_of_whole_numbers_is_whole():
    whole = {"low": 16.0, "high": 512.0, "scale": "log", "integer": True, "points": 6}
    assert axis_value("serving.max_num_seqs", "16 to 512 log in 6") == whole
    assert axis_value("serving.scheduler.chunk_size", "16 to 512 log in 6") == whole
    assert axis_text(whole) == "16 to 512 log in 6"


PLAIN = st.text(st.characters(whitelist_categories=("Ll",)), min_size=1).filter(lambda t: t not in ("nan", "inf"))


@given(
    st.lists(
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), PLAIN), min_size=1
    )
)
def test_a_list_of_values_survives_the_form(values):
    back = axis_value("serving.max_num_seqs", axis_text(values))
    assert back == values
    assert [type(one) for one in back] == [type(one) for one in values]


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.booleans(), st.none() | st.integers(1, 99))
def test_a_range_survives_the_form(low, width, log, points):
    table = (
        {"low": low, "high": low + width} | ({"scale": "log"} if log else {}) | ({"points": points} if points else {})
    )
    assert axis_value("workload.rate_scale", axis_text(table)) == table


def test_a_range_of_words_is_refused():
    with pytest.raises(FleetcastError, match="write a range as"):
        axis_value("model.weight_dtype", "bf16 to fp8")


@pytest.mark.parametrize("end", ["1" + "0" * 400, "-1" + "0" * 400, "0x" + "f" * 1500])
def test_a_range_to_a_number_beyond_all_is_refused(end):
    with pytest.raises(FleetcastError, match="too many digits"):
        axis_value("serving.max_num_seqs", f"1 to {end}")


@pytest.mark.parametrize("place", ["axes", "scenario", "goal"])
def test_tables_that_lie_too_deep_in_each_other_are_refused(store, place):
    deep: list = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(FleetcastError, match="deep in each other"):
        check(example_sweep(store).tables() | {place: {"a": deep}}, store, Settings())


def test_every_key_of_a_scenario_is_offered(store):
    keys = axis_keys()
    assert {"serving.max_num_seqs", "model.config", "serving.scheduler.name", "slo.ttft_s"} <= set(keys)
    assert "name" not in keys


def test_the_shipped_example_is_a_sweep_and_survives_the_form(store):
    sweep, points = check(example_sweep(store).tables(), store, Settings())
    assert points == 8
    again = SweepDraft.of_tables(example_sweep(store).tables(), example_sweep(store).base)
    assert check(again.tables(), store, Settings())[0] == sweep


def test_a_sweep_is_kept_under_what_it_asks_and_found_again(store):
    draft = example_sweep(store)
    first = keep(check(draft.tables(), store, Settings())[0], store)
    assert keep(check(draft.tables(), store, Settings())[0], store) == first
    assert first.definition().toml() == check(draft.tables(), store, Settings())[0].toml()
    other = keep(check(axes_of(draft, ("serving.max_num_seqs", "8, 16")), store, Settings())[0], store)
    assert other.sweep_id != first.sweep_id
    assert {one.sweep_id for one in all_kept(store)} == {first.sweep_id, other.sweep_id}
    assert kept(store, first.sweep_id) == first
    assert command(first)[0] == "sweep"
    assert first.state.name == "died"


@pytest.mark.parametrize("sweep_id", ["../../etc", "0" * 16, "zz", ""])
def test_no_other_place_passes_for_a_sweep(store, sweep_id):
    with pytest.raises(FleetcastError):
        kept(store, sweep_id)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("workload.trace", "azure-conv-2023, /etc/passwd"),
        ("workload.trace", "../x.csv"),
        ("cluster.node", "dgx-h100, ./mine.toml"),
        ("model.config", "/etc/hostname"),
        ("workload", '{ trace = "/etc/passwd" }'),
        ("serving.engine", "a/b"),
    ],
)
def test_an_axis_names_no_file_but_the_apps_own(store, key, text):
    with pytest.raises(FleetcastError):
        check(axes_of(example_sweep(store), (key, text)), store, Settings())


def test_a_scenario_by_path_is_refused(store):
    tables = example_sweep(store).tables() | {"scenario": "../../scenarios/chat-70b-chunked.toml"}
    with pytest.raises(FleetcastError, match="give the scenario's tables inline"):
        check(tables, store, Settings())


def test_too_many_points_and_too_long_points_are_refused(store):
    draft = example_sweep(store)
    with pytest.raises(FleetcastError, match=f"at most {MOST_POINTS:,}"):
        check(axes_of(draft, ("serving.max_num_seqs", f"8 to 100000 in {MOST_POINTS + 1}")), store, Settings())
    with pytest.raises(FleetcastError, match="point_timeout_s = 500"):
        check(draft.tables() | {"point_timeout_s": 500.0}, store, Settings())


def test_a_point_is_stopped_at_the_apps_limit(store):
    assert check(example_sweep(store).tables(), store, Settings(time_limit_s=33.0))[0].point_timeout_s == 33.0


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ([("serving.max_num_seq", "1")], "did you mean"),
        ([("serving.max_num_seqs", "many")], "give a whole number"),
        ([], "holds no key"),
        ([("serving.max_num_seqs", "8"), ("serving.max_num_seqs", "16")], "stands twice"),
    ],
)
def test_mistakes_read_as_on_the_command_line(store, axes, words):
    with pytest.raises(FleetcastError, match=words):
        check(axes_of(example_sweep(store), *axes), store, Settings())


def test_a_checked_sweep_expands_to_what_was_promised(store):
    sweep, points = check(axes_of(example_sweep(store), ("slo.ttft_s", "1 to 2 in 3"), seeds="1, 2"), store, Settings())
    assert len(expand(sweep)) == points == 6


def test_a_sweep_over_a_file_that_changed_is_another_sweep(store):
    store.uploads.mkdir(parents=True)
    trace = "arrival_s,prompt_tokens,output_tokens\n0,100,10\n"
    (store.uploads / "mine.csv").write_text(trace)
    draft = example_sweep(store)
    draft.base = {**draft.base, "workload": {"trace": "mine.csv"}}
    first = keep(check(draft.tables(), store, Settings())[0], store)
    assert first.current
    (store.uploads / "mine.csv").write_text(trace + "1,50,5\n")
    assert keep(check(draft.tables(), store, Settings())[0], store).sweep_id != first.sweep_id


def test_a_sweep_of_another_simulator_says_so(store, monkeypatch):
    kept_one = keep(check(example_sweep(store).tables(), store, Settings())[0], store)
    monkeypatch.setattr("app.web.sweeps.simulator_fingerprint", lambda: "another")
    assert not kept_one.current


@pytest.mark.parametrize("file", ["job.json", "done.json", "sweep.toml", "simulator.json"])
@pytest.mark.parametrize("content", ["junk{", "[]", "{}"])
def test_a_damaged_sweep_is_left_out_and_said_when_asked_for(store, file, content):
    draft = example_sweep(store)
    good = keep(check(axes_of(draft, ("serving.max_num_seqs", "8")), store, Settings())[0], store)
    bad = keep(check(draft.tables(), store, Settings())[0], store)
    if file == "done.json":
        (bad.job_folder / "job.json").write_text(
            '{"arguments": [], "pid": 1, "started_unix_s": 0.0, "time_limit_s": 1.0}'
        )
    (bad.job_folder / file).write_text(content)
    assert good in all_kept(store)
    if (file, content) != ("simulator.json", "{}"):
        assert (bad in all_kept(store)) == (file == "simulator.json")
        with pytest.raises(FleetcastError):
            _ = bad.definition(), bad.state, bad.current
