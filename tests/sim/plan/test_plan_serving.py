"""Plans of deployments: the optimum of brute force on small spaces, and what is said of everything else."""

import json

import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from sim.plan import Prices, Space, plan_serving
from sim.plan.demand import CLOSE, off_by
from sim.plan.deployments import DeploymentLadder
from sim.plan.judge import TO_THE_END, judge
from sim.plan.serving import ladder
from sim.plan.table import plan_json
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import load_scenario, scenario_toml
from sim.workload import load_requests
from workloads.request import RequestTable


def scenario(**keys) -> Scenario:
    generator = {
        "name": "synthetic",
        "arrivals": {"name": "poisson", "request_rate": 12.0},
        "prompt_tokens": {"name": "lognormal", "p50": 300, "p99": 2000},
        "output_tokens": 60,
    }
    tables = {
        "seed": 3,
        "model": {"config": "llama-3.1-8b"},
        "cluster": {"node": "l40s-1x"},
        "serving": {"max_num_seqs": 48, "max_num_batched_tokens": 1024, **keys.pop("serving", {})},
        "workload": {"generator": {**generator, **keys.pop("generator", {})}, "num_requests": 250},
        "slo": {"ttft_s": 1.0, "tbt_s": 0.12},
    }
    return Scenario.model_validate({**tables, **keys})


MINIMIZE = ("cost", "gpus", "energy")


def brute_force(asked, space):
    """By what is minimized: best (value, price, worst ratio) over every rung of every layout, each simulated to the
    end; the (name, rung) of all that have it; and how many there are.
    """
    prices = Prices.read()
    requests = load_requests(asked.workload, asked.seed)
    found = {minimize: [] for minimize in MINIMIZE}
    for layout in space.layouts(asked, prices, priced=True)[0]:
        ladders = {what: DeploymentLadder(layout, asked, requests, prices, what, space.max_gpus) for what in MINIMIZE}
        for rung in range(1, ladders["cost"].last + 1):
            try:
                verdict = judge(ladders["cost"].scenario(rung), requests, stop_at=TO_THE_END)
            except FleetcastError:
                continue
            for minimize, one in ladders.items():
                assert one.scenario(rung) == ladders["cost"].scenario(rung)
                value = one.floor(rung)
                if minimize == "energy" and verdict.met:
                    value = verdict.summary["mean_power_w_per_gpu"] * layout.gpus(rung)
                rank = (value, one.usd_per_h(rung), verdict.worst)
                found[minimize].append((verdict.met, rank, (layout.name, rung)))
    for minimize, ranks in found.items():
        best = min((rank for met, rank, _ in ranks if met), default=None)
        yield minimize, best, {who for met, rank, who in ranks if met and rank == best}, len(ranks)


SMALL_SPACES = {
    "one-gpu nodes": (scenario(), Space(nodes=("l40s-1x", "a10-1x", "a6000-1x"), max_gpus=5)),
    "eight-gpu nodes": (
        scenario(generator={"arrivals": {"name": "poisson", "request_rate": 150.0}}),
        Space(nodes=("dgx-h100", "h100-nvl-2x"), tensor_parallel_sizes=(1, 2), max_gpus=16),
    ),
    "schedulers and budgets": (
        scenario(slo={"ttft_s": 0.4, "tpot_s": 0.03, "percentile": 95.0}),
        Space(
            nodes=("l40s-1x", "h100-nvl-2x"),
            pipeline_parallel_sizes=(1,),
            schedulers=("chunked_prefill", "prefill_first", "orca"),
            max_num_batched_tokens=(512, 2048),
            max_gpus=4,
        ),
    ),
    "weights, nothing does": (
        scenario(slo={"tbt_s": 0.004, "ttft_s": 0.5}),
        Space(nodes=("l40s-1x",), weight_dtypes=("bf16", "fp8"), max_gpus=3),
    ),
    "no limits": (
        scenario(slo={}, generator={"arrivals": {"name": "poisson", "request_rate": 60.0}}),
        Space(nodes=("l40s-1x", "a10-1x"), pipeline_parallel_sizes=(1,), max_gpus=6),
    ),
}


@pytest.mark.parametrize("name", SMALL_SPACES)
def test_the_answer_is_that_of_brute_force(name):
    asked, space = SMALL_SPACES[name]
    for minimize, best, equals, count in brute_force(asked, space):
        plan = plan_serving(asked, space, minimize=minimize, confirm=0)
        assert (plan.winner is None) == (best is None)
        assert plan.outcome.simulations <= count
        if best is not None:
            trial = plan.trial
            assert trial.rank == pytest.approx(best, rel=1e-9)
            assert (plan.winner.ladder.name, trial.rung) in equals


def test_the_answer_is_a_scenario_that_runs_to_the_same_figures(tmp_path):
    asked, space = SMALL_SPACES["one-gpu nodes"]
    plan = plan_serving(asked, space, rate_per_s=20.0)
    (tmp_path / "best.toml").write_text(scenario_toml(plan.best))
    loaded = load_scenario(tmp_path / "best.toml")
    assert loaded == plan.best
    summary = run(loaded).summary
    assert summary["slo"]["met"]
    assert summary["slo"] == plan.trial.evidence.summary["slo"]
    assert plan.rate_per_s == pytest.approx(20.0, rel=CLOSE)


@pytest.mark.parametrize("workload", [{"trace": "azure-code-2023", "duration_s": 120.0}, {"duration_s": 60.0}])
def test_a_demand_is_planned_for_at_its_rate(workload):
    asked = scenario()
    workload = workload if "trace" in workload else asked.workload.model_dump() | workload | {"num_requests": None}
    asked = scenario(workload=workload)
    for rate in (7.0, 40.0):
        plan = plan_serving(asked, Space(nodes=("l40s-1x",), max_gpus=1), rate_per_s=rate, confirm=0)
        assert plan.rate_per_s == pytest.approx(rate, rel=CLOSE)
        assert not plan.notes


def test_a_rate_that_so_few_requests_cannot_have_is_said():
    few = RequestTable.build(source="t", arrival_s=[0.0, 1.0], prompt_tokens=[1, 1], output_tokens=[1, 1])
    assert off_by(1.0, few) == ""
    assert "asked for 2 requests/s" in off_by(2.0, few)


def test_a_higher_demand_never_takes_fewer_gpus():
    asked, space = SMALL_SPACES["one-gpu nodes"]
    counts = []
    for rate in (4.0, 16.0, 40.0):
        plan = plan_serving(asked, Space(nodes=space.nodes, max_gpus=32), rate_per_s=rate, minimize="gpus", confirm=0)
        counts.append(ladder(plan.winner).layout.gpus(plan.trial.rung))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_everything_has_a_reason_and_the_plan_is_json():
    asked, space = SMALL_SPACES["one-gpu nodes"]
    plan = plan_serving(asked, Space(nodes=(*space.nodes, "t4-1x", "dgx-h100"), max_gpus=8), rate_per_s=20.0)
    found = json.loads(json.dumps(plan_json(plan), allow_nan=False))
    rows = found["candidates"]
    assert rows[0]["status"] == "winner"
    assert {row["status"] for row in rows} >= {"winner", "misses", "dearer", "impossible"}
    assert all(row["reason"] for row in rows)
    unfit = next(row for row in rows if row["candidate"] == "t4-1x TP1")
    assert "does not fit" in unfit["reason"] or "no bf16 arithmetic" in unfit["reason"]
    assert len(found["confirmations"]) == 2


def test_no_answer_names_the_nearest_miss():
    asked, space = SMALL_SPACES["weights, nothing does"]
    plan = plan_serving(asked.model_copy(update={"slo": asked.slo.model_copy(update={"tbt_s": 0.02})}), space)
    assert plan.winner is None
    assert plan.best is None
    assert plan.nearest.nearest.miss > 1.0
    assert "misses p99 longest TBT" in plan.nearest.lost


def test_the_answer_is_simulated_with_other_seeds_where_these_change_anything():
    space = Space(nodes=("l40s-1x",), tensor_parallel_sizes=(1,), pipeline_parallel_sizes=(1,), max_gpus=4)
    steady = {"arrivals": {"name": "constant", "request_rate": 12.0}}
    assert len(plan_serving(scenario(generator=steady), space).confirmations) == 2  # prompts differ
    same = plan_serving(scenario(generator=steady | {"prompt_tokens": 300}), space)
    assert same.confirmations == ()
    assert any("not simulated with other seeds" in note for note in same.notes)


def test_a_file_that_cannot_be_read_is_no_impossible_deployment(monkeypatch):
    def broken(_scenario):
        raise FleetcastError("gemm.toml: not valid TOML")

    monkeypatch.setattr("sim.plan.request_work.deploy", broken)
    with pytest.raises(FleetcastError, match="not valid TOML"):
        plan_serving(scenario(), Space(nodes=("l40s-1x",)), confirm=0)


def test_a_gpu_without_a_price_is_named_not_skipped(tmp_path):
    (tmp_path / "p.toml").write_text(
        'name = "mine"\ndate = 2026-01-01\n[usd_per_gpu_h]\nl40s = 0.5\n[source]\n'
        'default = { grade = "quoted", text = "our contract" }\n'
    )
    asked, space = SMALL_SPACES["one-gpu nodes"]
    prices = Prices.read(str(tmp_path / "p.toml"))
    plan = plan_serving(asked, space, prices=prices, confirm=0)
    assert ladder(plan.winner).usd_per_h(plan.trial.rung) == 0.5 * plan.trial.rung
    assert "a10-1x (a10), a6000-1x (a6000)" in plan.notes[0]
    assert "our contract" in plan.prices.sources()[0]
    by_gpus = plan_serving(asked, space, prices=prices, minimize="gpus", confirm=0)
    assert len(by_gpus.outcome.candidates) == 6


def test_blocks_measured_on_other_hardware_are_not_carried_over():
    asked = scenario(serving={"num_gpu_blocks_override": 900})
    space = Space(nodes=("l40s-1x", "h100-nvl-2x"), tensor_parallel_sizes=(1,), pipeline_parallel_sizes=(1,))
    layouts, _ = space.layouts(asked, Prices.read(), priced=True)
    assert [one.scenario(asked, 1).serving.num_gpu_blocks_override for one in layouts] == [900, None]


def test_replicas_fill_their_nodes_and_large_ones_take_whole_nodes():
    asked = scenario()
    space = Space(nodes=("dgx-h100", "l40s-1x"), tensor_parallel_sizes=(2,), pipeline_parallel_sizes=(1, 2))
    layouts, _ = space.layouts(asked, Prices.read(), priced=True)
    shapes = [(one.name, one.nodes_a_rung, one.replicas_a_rung, one.gpus(3)) for one in layouts]
    assert shapes == [
        ("dgx-h100 TP2", 1, 4, 24),
        ("dgx-h100 TP2 PP2", 1, 2, 24),
        ("l40s-1x TP2", 2, 1, 6),
        ("l40s-1x TP2 PP2", 4, 1, 12),
    ]


def test_the_scenario_s_own_scheduler_keeps_its_keys():
    asked = scenario(serving={"scheduler": {"name": "prefill_first", "preemption_mode": "swap"}})
    space = Space(nodes=("l40s-1x",), schedulers=("prefill_first", "orca"), pipeline_parallel_sizes=(1,))
    layouts, _ = space.layouts(asked, Prices.read(), priced=True)
    assert [one.scenario(asked, 1).serving.scheduler.keys for one in layouts] == [{"preemption_mode": "swap"}, {}]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"nodes": ("dgx-h1000",)}, "did you mean 'dgx-h100'"),
        ({"schedulers": ("chunked",)}, "--schedulers: unknown name 'chunked'"),
        ({"tensor_parallel_sizes": (0,)}, "tensor_parallel_sizes = 0"),
        ({"max_gpus": 0}, "--max-gpus 0"),
        ({"nodes": ()}, "--nodes: names none"),
        ({"nodes": ("l40s-1x",), "weight_dtypes": ("fp7",)}, "fp7"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(space, message):
    with pytest.raises((FleetcastError, UnknownNameError), match=message):
        plan_serving(scenario(), Space(**space), confirm=0)


def test_an_unknown_objective_and_an_impossible_rate_are_refused():
    with pytest.raises(FleetcastError, match="give one of cost, gpus, energy"):
        plan_serving(scenario(), minimize="money")
    with pytest.raises(FleetcastError, match="requests/s above 0"):
        plan_serving(scenario(), rate_per_s=-1.0)
