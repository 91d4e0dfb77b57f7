import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_cases import MakeSweep

from hardware_models.errors import FleetcastError
from sim.scenario import Scenario
from sim.sweep import Sweep, expand, load_sweep
from sim.sweep.definition import make_sweep as from_tables

TABLES = {
    "schema": 1,
    "scenario": {
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "dgx-h100"},
        "workload": {"trace": "azure-conv-2023", "duration_s": 5},
    },
}
FILES = [  # axes, other keys, goal, what the sentence must name
    ("", "", "", "axes: holds no key; give at least one"),
    ('"serving.max_num_seqs" = []', "", "", "'serving.max_num_seqs' is empty"),
    ('"serving.max_num_seqs" = 64', "", "", "give a list of values, or a range"),
    ('"serving.max_num_seqs" = [64, 64]', "", "", "has 64 twice"),
    ('"serving.max_num_seq" = [64]', "", "", "s.toml: axes: unknown key 'serving.max_num_seq'; did you mean"),
    ('"servings.max_num_seqs" = [64]', "", "", "unknown key 'servings'; did you mean 'serving'?"),
    ('"serving.max_num_seqs" = [64, 0]', "", "", "serving.max_num_seqs = 0: give at least 1"),
    ('"serving.max_num_seqs" = [64, "many"]', "", "", "serving.max_num_seqs = 'many': give a whole number"),
    ('"model.config" = ["llama-3.1-8b", "llama-3.1-8"]', "", "", "no point accepts it: model.config: unknown name"),
    ('"cluster.node" = ["dgx-h1000"]', "", "", "cluster.node = 'dgx-h1000': no point accepts it: "),
    ('"serving.scheduler.name" = ["fcfs"]', "", "", "unknown name 'fcfs'"),
    ('"serving.scheduler" = [{ name = "chunked_prefill", polic = "x" }]', "", "", "unknown name 'polic'"),
    ('"serving.scheduler" = ["chunked_prefill"]', "", "", 'give a table, { name = "..." }'),
    ('"serving.engine" = ["vllm-0.7"]', "", "", "unknown name 'vllm-0.7'"),
    ('"workload.trace" = ["absent.csv"]', "", "", "workload.trace"),
    ('"workload.trace" = ["./absent.csv"]', "", "", "no such file"),
    ('"name.x" = [1]', "", "", "'name' is a value, not a table"),
    ('"a..b" = [1]', "", "", "'a..b' is no key"),
    ('seed = [1, 2]', "", "", "'seed' is no axis; give 'seeds'"),
    ('"serving.max_num_seqs" = { low = 1, high = 9 }', "", "", "is a range without 'points'"),
    ('"serving.max_num_seqs" = { low = 1, hig = 9, points = 3 }', "", "", "unknown key 'hig'; did you mean 'high'?"),
    ('"serving.max_num_seqs" = { low = 9, high = 1, points = 3 }', "", "", "low = 9 is not below high = 1"),
    ('"serving.max_num_seqs" = { low = 0, high = 9, scale = "log" }', "", "", "a log scale has no zero"),
    ('"serving.max_num_seqs" = { low = 1, high = 9, scale = "cubic" }', "", "", "'cubic': give 'linear' or 'log'"),
    ('"serving.max_num_seqs" = { low = 1.5, high = 9, integer = true }', "", "", "give whole numbers"),
    ('"serving.max_num_seqs" = { low = 1, high = 9, points = 4 }', "", "", "whole numbers with integer = true"),
    ('"serving.max_num_seqs" = { low = 1, high = 9 }', 'method = "list"', "", "method 'list' needs a list"),
    ('a = [1, 2]\nb = [1]', 'method = "list"', "", "takes the values in step, but there are: a 2, b 1"),
    ('"slo.ttft_s" = [1]', 'method = "lhs"', "", "method = 'lhs' needs 'samples'"),
    ('"slo.ttft_s" = [1]', "samples = 3", "", "'samples' goes with method random or lhs"),
    ('"slo.ttft_s" = [1]', 'method = "sobol"', "", "method = 'sobol': give 'grid', 'list', 'random' or 'lhs'"),
    ('"slo.ttft_s" = [1]', "sample = 3", "", "unknown key 'sample'; did you mean 'samples'?"),
    ('"slo.ttft_s" = [1]', "seeds = []", "", "seeds"),
    ('"slo.ttft_s" = [1]', "seeds = [1, 1]", "", "seeds = [1, 1]: give different whole numbers"),
    ('"slo.ttft_s" = [1]', "seeds = [-1]", "", "seeds = [-1]"),
    ('"slo.ttft_s" = [1]', "seeds = 3", "", "seeds = 3: give a list"),
    ('"slo.ttft_s" = [1]', "point_timeout_s = 0", "", "point_timeout_s = 0: give a number above 0"),
    ('"slo.ttft_s" = [1]', 'constraints = ["slo.ttft_s"]', "", "neither true nor false; compare it"),
    ('"slo.ttft_s" = [1]', 'constraints = ["slo.ttft < 1"]', "", "did you mean 'slo.ttft_s'?"),
    ('"slo.ttft_s" = [1]', 'constraints = ["slo.ttft_s > 1"]', "", "the constraints keep out all 1 settings"),
    ('"slo.ttft_s" = [1]', 'constraints = ["import os"]', "", "is no condition"),
    ('"slo.ttft_s" = [1]', "", 'maximize = "goodput"', "goal.maximize: unknown name 'goodput'"),
    ('"slo.ttft_s" = [1]', "", 'maximise = "mfu"', "unknown key 'goal.maximise'; did you mean 'goal.maximize'?"),
    ('"slo.ttft_s" = [1]', "", 'maximize = "mfu"\nminimize = "mbu"', "gives both 'maximize' and 'minimize'"),
    ('"slo.ttft_s" = [1]', "", 'subject_to = ["ttft_s.p99 < fast"]', "is no limit; write one as"),
    ('"slo.ttft_s" = [1]', "", 'subject_to = ["ttft_s.p98 < 1"]', "unknown name 'ttft_s.p98'; did you mean"),
    ('"slo.ttft_s" = [1]', "", 'subject_to = ["ttft_s.p99 < 1 GB"]', "no unit 'GB'; give s, ms, us, min, h or a bare"),
    ('"slo.ttft_s" = [1]', "", 'subject_to = ["preemptions < 1 s"]', "has no unit 's'"),
    ('"slo.ttft_s" = [1]', "", 'subject_to = ["mfu > 1e999"]', "is not finite"),
    ('"slo.ttft_s" = [1]', "", 'pareto = ["mfu"]', "give two different metrics"),
    ('"slo.ttft_s" = [1]', "", 'pareto = ["mfu", "requests"]', "neither more nor less of 'requests' is better"),
    ('"slo.ttft_s" = { low = 1, high = 9, points = 999999 }\n"slo.tbt_s" = [1, 2]', "", "", "make 1,999,998 settings"),
    ('"slo.ttft_s" = { low = 1, high = 9, points = 200000 }', "", "", "200,000 points; at most 100,000 are run"),
    ('"slo.ttft_s" = { low = 1, high = 9, points = 99999999 }', "", "", "points = 99999999: give at most 1,000,000"),
]  # fmt: skip


@pytest.mark.parametrize(("axes", "keys", "goal", "sentence"), FILES)
def test_a_mistake_is_found_before_anything_runs(
    make_sweep: MakeSweep, axes: str, keys: str, goal: str, sentence: str
) -> None:
    with pytest.raises(FleetcastError) as caught:
        expand(make_sweep(axes, keys, goal))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'scenario' is missing"),
        ("schema = 2\nscenario = 'small.toml'\n[axes]\na = [1]", "schema = 2: give 1"),
        ("schema = 1\n[axes]\na = [1]", "'scenario' is missing"),
        ("schema = 1\nscenario = 'absent.toml'\n[axes]\na = [1]", "absent.toml: no such file"),
        ("schema = 1\nscenario = 3\n[axes]\na = [1]", "scenario = 3"),
        ("schema = 1\nscenario = 's.toml'\n[axes]\na = [1]", "is a sweep file; give a scenario file"),
        ("schema = 1\nscenario = 'small.toml'\naxes = 3", "axes = 3"),
        ("schema = 1\nscenario = { model = { confg = 'x' } }\n[axes]\n'slo.ttft_s' = [1]", "mean 'model.config'?"),
        ("schema = 1\nscenario = 'small.toml'\n[axis]\na = [1]", "unknown key 'axis'; did you mean 'axes'?"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_sweep_says_what_it_lacks(folder: Path, text: str, sentence: str) -> None:
    Path("s.toml").write_text(text)
    with pytest.raises(FleetcastError) as caught:
        expand(load_sweep("s.toml"))
    assert sentence in str(caught.value)


def tables_of(sweep: Sweep) -> list[Scenario]:
    points = expand(sweep)
    return [Scenario.model_validate(points.job(point.index).tables) for point in points.points]


def test_points_are_settings_times_seeds_in_order(make_sweep: MakeSweep) -> None:
    scenarios = tables_of(make_sweep())
    found = [(s.serving.max_num_seqs, s.workload.rate_scale, s.seed) for s in scenarios]
    assert found == list(itertools.product([8, 64], [1.0, 4.0], [1, 2]))
    assert len({point.point_id for point in expand(make_sweep()).points}) == 8


@given(st.lists(st.integers(1, 8), min_size=1, max_size=4, unique=True), st.integers(1, 40))
def test_constraints_keep_what_brute_force_keeps(sizes: list[int], most: int) -> None:
    axes = {"serving.tensor_parallel_size": sizes, "serving.replicas": [1, 2, 4]}
    constraint = f"serving.tensor_parallel_size * serving.replicas <= {most} * cluster.nodes"
    sweep = from_tables({**TABLES, "axes": axes, "constraints": [constraint]}, Path("x.toml"))
    wanted = [(tp, replicas) for tp, replicas in itertools.product(sizes, [1, 2, 4]) if tp * replicas <= most]
    if not wanted:
        with pytest.raises(FleetcastError, match="keep out all"):
            expand(sweep)
        return
    points = expand(sweep)
    assert points.settings == wanted
    assert points.excluded == 3 * len(sizes) - len(wanted)


def test_a_constraint_sees_keys_inside_tables_and_defaults(make_sweep: MakeSweep) -> None:
    axes = '"serving.scheduler" = [{ name = "static" }, { name = "orca" }]'
    keys = "constraints = [\"serving.scheduler.name == 'static'\", 'serving.block_size == 16']"
    assert [s.serving.scheduler.name for s in tables_of(make_sweep(axes, keys))] == ["static"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_constraint_sees_the_defaults_of_each_setting_and_no_other_s_values(
    make_sweep: MakeSweep, order: int
) -> None:
    tables = ["{ replicas = 4, max_num_seqs = 32 }", "{ max_num_seqs = 64 }"][::order]
    sweep = make_sweep(f"serving = [{', '.join(tables)}]", "constraints = ['serving.replicas <= 1']\nseeds = [1]")
    assert [(s.serving.replicas, s.serving.max_num_seqs) for s in tables_of(sweep)] == [(1, 64)]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("constraint", "kept"),
    [
        ("serving.scheduler.reservation == 'max'", ["orca"]),
        ("serving.scheduler.reservation != 'max'", ["chunked_prefill"]),
        ("serving.scheduler.name != 'orca' or serving.scheduler.reservation == 'pow2'", ["chunked_prefill"]),
    ],
)
def test_a_key_that_only_other_settings_have_is_equal_to_nothing(
    make_sweep: MakeSweep, constraint: str, kept: list[str], order: int
) -> None:
    tables = ['{ name = "orca", reservation = "max" }', '{ name = "chunked_prefill" }'][::order]
    axes = f'"serving.scheduler" = [{", ".join(tables)}]\n"serving.max_num_seqs" = [8]'
    sweep = make_sweep(axes, f'constraints = ["{constraint}"]\nseeds = [1]')
    assert [s.serving.scheduler.name for s in tables_of(sweep)] == kept


def test_a_key_of_an_axis_inside_a_table_counts_as_the_axis_has_it(make_sweep: MakeSweep) -> None:
    axes = '"serving.replicas" = [1, 2]\nserving = [{ replicas = 4 }, { replicas = 8, max_num_seqs = 4 }]'
    sweep = make_sweep(axes, "constraints = ['serving.replicas == 2']\nseeds = [1]")
    assert [(s.serving.replicas, s.serving.max_num_seqs) for s in tables_of(sweep)] == [(2, 256), (2, 4)]


def test_a_setting_that_cannot_be_has_defaults_for_a_constraint_too(make_sweep: MakeSweep) -> None:
    axes = '"serving.max_num_seqs" = [4096, 64]\n"serving.max_num_batched_tokens" = [2048]'
    points = expand(make_sweep(axes, "constraints = ['serving.replicas <= 1 and slo.percentile > 0']\nseeds = [1]"))
    assert points.excluded == 0
    assert [bool(point.reason) for point in points.points] == [True, False]


@pytest.mark.parametrize("seed", ["seven", True, 1.5, -1])
@pytest.mark.parametrize("seeds", [{}, {"seeds": [1, 2]}])
def test_a_seed_of_the_scenario_that_is_no_whole_number_is_a_mistake(
    folder: Path, seed: object, seeds: dict[str, object]
) -> None:
    tables = {**TABLES, "scenario": {**TABLES["scenario"], "seed": seed}, "axes": {"slo.ttft_s": [1.0]}, **seeds}  # type: ignore[dict-item]
    with pytest.raises(FleetcastError, match=r"x\.toml: scenario: seed = .*give a whole number"):
        from_tables(tables, Path("x.toml"))


def test_whole_tables_and_their_keys_may_both_be_axes(make_sweep: MakeSweep) -> None:
    axes = '"serving.router.name" = ["random"]\n"serving.router" = [{ name = "round_robin" }]\n'
    assert [s.serving.router.name for s in tables_of(make_sweep(axes))] == ["random", "random"]


def test_keys_without_quotes_mean_the_same(make_sweep: MakeSweep) -> None:
    quoted = make_sweep('"serving.max_num_seqs" = [1, 2]\n"slo.ttft_s" = { low = 1, high = 2, points = 2 }')
    bare = make_sweep("serving.max_num_seqs = [1, 2]\nslo.ttft_s = { low = 1, high = 2, points = 2 }")
    assert quoted.axes == bare.axes


def test_a_value_is_a_mistake_only_if_no_point_accepts_it(make_sweep: MakeSweep) -> None:
    axes = '"serving.scheduler.name" = ["orca", "chunked_prefill"]\n"serving.scheduler.policy" = ["fcfs", "sjf"]'
    refused = make_sweep(axes.replace('"sjf"', '"lifo"'), "seeds = [1]")
    with pytest.raises(FleetcastError, match=r"serving\.scheduler\.policy = 'lifo': no point accepts it"):
        expand(refused)


def test_paths_are_seen_from_the_file_that_has_them(folder: Path) -> None:
    trace = "arrival_s,prompt_tokens,output_tokens\n0,100,10\n1,50,1\n"
    Path("base").mkdir()
    Path("sweeps").mkdir()
    for place in ("base/a.csv", "sweeps/b.csv"):
        Path(place).write_text(trace)
    base = Path("small.toml").read_text().replace('trace = "azure-conv-2023"\nduration_s = 20', 'trace = "a.csv"')
    Path("base/x.toml").write_text(base)
    Path("sweeps/s.toml").write_text(
        'schema = 1\nscenario = "../base/x.toml"\n[axes]\n"workload.trace" = ["./b.csv", "../base/a.csv"]\n'
    )
    found = [s.workload.trace for s in tables_of(load_sweep("sweeps/s.toml"))]
    assert found == [str(folder / "sweeps/b.csv"), str(folder / "base/a.csv")]
    Path("sweeps/s.toml").write_text('schema = 1\nscenario = "../base/x.toml"\n[axes]\n"slo.ttft_s" = [1]\n')
    assert [s.workload.trace for s in tables_of(load_sweep("sweeps/s.toml"))] == [str(folder / "base/a.csv")]


def test_identities_are_the_same_from_any_folder(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("three.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,100,10\n1,50,1\n")
    Path("elsewhere").mkdir()
    make_sweep('"workload.trace" = ["./three.csv"]\n"workload.duration_s" = [5]', "seeds = [1]")
    here = [point.point_id for point in expand(load_sweep("s.toml")).points]
    monkeypatch.chdir("elsewhere")
    assert [point.point_id for point in expand(load_sweep("../s.toml")).points] == here


def test_overrides_set_the_sweep_or_its_scenario(make_sweep: MakeSweep) -> None:
    overrides = ("seeds=[7]", "serving.tensor_parallel_size=2", "axes.serving.max_num_seqs=[3, 5]", "goal.maximize=mfu")
    sweep = make_sweep(overrides=overrides)
    found = [(s.seed, s.serving.tensor_parallel_size, s.serving.max_num_seqs) for s in tables_of(sweep)]
    assert set(found) == {(7, 2, 3), (7, 2, 5)}
    assert sweep.goal.metric.key == "mfu"
    with pytest.raises(FleetcastError, match=r"did you mean 'serving\.max_num_seqs'"):
        expand(make_sweep(overrides=("serving.max_num_seq=3",)))


def test_a_sweep_as_a_file_loads_to_an_equal_one(make_sweep: MakeSweep) -> None:
    axes = (
        '"serving.max_num_seqs" = { low = 4, high = 64, scale = "log", integer = true }\n'
        '"workload.rate_scale" = { low = 0.5, high = 2 }\n"serving.router" = [{ name = "random" }]'
    )
    sweep = make_sweep(axes, 'method = "lhs"\nsamples = 9\nseeds = [3, 4]\nconstraints = ["serving.max_num_seqs > 5"]')
    Path("again.toml").write_text(sweep.toml())
    again = load_sweep("again.toml")
    assert [p.point_id for p in expand(again).points] == [p.point_id for p in expand(sweep).points]
    assert (again.goal, again.axes, again.point_timeout_s) == (sweep.goal, sweep.axes, sweep.point_timeout_s)


def test_limits_take_units(make_sweep: MakeSweep) -> None:
    goal = 'subject_to = ["ttft_s.p99 <= 500ms", "goodput_fraction >= 99 %", "e2e_s.mean < 1.5", "duration_s < 2 min"]'
    limits = make_sweep(goal=goal).goal.limits
    assert [limit.value for limit in limits] == pytest.approx([0.5, 0.99, 1.5, 120.0])
    assert limits[0].keeps(0.5)
    assert not limits[2].keeps(1.5)
    assert not limits[0].keeps(float("nan"))


def test_the_scenario_s_own_seed_is_used_without_seeds(folder: Path) -> None:
    tables = {**TABLES, "scenario": {**TABLES["scenario"], "seed": 5}, "axes": {"slo.ttft_s": [1.0]}}  # type: ignore[dict-item]
    assert [point.seed for point in expand(from_tables(tables, Path("x.toml"))).points] == [5]


def test_settings_drawn_twice_count_once(make_sweep: MakeSweep) -> None:
    axes = '"serving.max_num_seqs" = { low = 1, high = 4, integer = true }'
    points = expand(make_sweep(axes, 'method = "random"\nsamples = 50'))
    assert sorted(points.settings) == [(1,), (2,), (3,), (4,)]
    assert points.repeated == 46


def test_a_list_may_hold_a_value_twice(make_sweep: MakeSweep) -> None:
    axes = '"serving.max_num_seqs" = [64, 64, 128]\n"serving.replicas" = [1, 2, 2]'
    points = expand(make_sweep(axes, 'method = "list"'))
    assert points.settings == [(64, 1), (64, 2), (128, 2)]
