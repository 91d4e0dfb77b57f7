"""Plans of offloaded jobs: every policy's best, why others cannot, and what an addition gains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.plan_offload import offload_lines
from app.plan_offload_report import offload_plan_report
from hardware_models import catalog
from policies.offload import HOST
from sim.offload import trainable
from sim.plan.offload import planner, training
from sim.plan.offload.machines import additions
from sim.plan.offload.outcome import Refusal, Setting, Tried
from sim.plan.offload.planner import OffloadPlan, plan_offload
from sim.plan.offload.table import offload_plan_json
from sim.scenario_file import load_any
from sim.training.result import run_training
from sim.training_scenario import TrainingScenario

SCENARIOS = Path(__file__).parents[3] / "scenarios"
FEW = {
    "fuyou": {},
    "zero_infinity": {"optimizer_state": ("host",), "activations": ("host",)},
    "zero_offload": {},
}
CHANGED = (
    "model.config=gpt-3.6b", "training.global_batch_size=1", "training.micro_batch_size=1", "offload.drives=1",
    "offload.host_memory_bytes=40e9",
)  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> OffloadPlan:
    """A small model with one drive and too little host memory for its states."""
    scenario = load_any(SCENARIOS / "gpt-13b-4090-fuyou.toml", CHANGED)
    assert isinstance(scenario, TrainingScenario)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "PLACES", FEW)
        patch.setattr(trainable, "MOST_LAYERS", 48)
        return plan_offload(scenario)


def test_what_is_added_never_makes_the_best_plan_slower_nor_the_largest_model_smaller(plan: OffloadPlan) -> None:
    own = planner.tokens_per_s(plan.ranked[0].summary)
    assert [one.addition.kind for one in plan.purchases] == ["drive", "memory", "link", "gpu"]
    assert plan.largest is not None
    for one in plan.purchases:
        assert one.tokens_per_s is not None
        assert one.largest is not None
        if not one.addition.replaces:
            assert one.tokens_per_s >= own
            assert one.largest.parameters >= plan.largest.parameters
            assert one.used == (one.tokens_per_s > own)
    assert plan.purchases[0].tokens_per_s > 1.3 * own  # it waited for its one drive


def test_a_policy_that_cannot_run_says_which_tier_and_by_how_much(plan: OffloadPlan) -> None:
    refused = {one.setting.policy: one for one in plan.refused}
    assert set(refused) == {"zero_infinity", "zero_offload"}
    assert refused["zero_infinity"].tier == HOST
    assert refused["zero_infinity"].missing_bytes > 1e9
    assert "host memory is" in refused["zero_infinity"].reason


def test_the_plan_is_told_on_a_terminal_and_a_page_and_its_scenario_runs(plan: OffloadPlan) -> None:
    found = offload_plan_json(plan)
    lines, page = "\n".join(offload_lines(found)), offload_plan_report(found)
    for text in ("a drive more: 2 x intel-d7-p5510", "another GPU: a100-40gb-pcie", "fuyou", "zero_offload"):
        assert text in lines
        assert text in page
    assert "What each addition gains" in page
    assert isinstance(plan.best, TrainingScenario)
    assert planner.tokens_per_s(run_training(plan.best).summary) == found["policies"][0]["tokens_per_s"]
    gpu = found["purchases"][-1]
    dearer = catalog.price_usd_per_gpu_h("a100-40gb-pcie") / catalog.price_usd_per_gpu_h("rtx-4090")
    assert 1 + gpu["tokens_per_usd_gain_fraction"] == pytest.approx((1 + gpu["gain_fraction"]) / dearer)
    assert [row["tokens_per_usd_gain_fraction"] for row in found["purchases"][:-1]] == [None] * 3


def test_an_addition_that_no_plan_makes_use_of_gains_nothing(plan: OffloadPlan, monkeypatch: Any) -> None:
    worse = replace(plan.ranked[0].outcome, seconds=2 * plan.ranked[0].outcome.seconds)
    addition = plan.purchases[0].addition
    monkeypatch.setattr(training, "PLACES", FEW)
    monkeypatch.setattr(trainable, "MOST_LAYERS", 48)
    bought = planner._purchase(plan, addition, Tried([worse]))
    assert not bought.used
    assert bought.tokens_per_s == planner.tokens_per_s(plan.ranked[0].summary)
    assert bought.bottleneck == plan.ranked[0].summary["bottleneck"]


def test_measured_rates_of_an_inference_rise_with_what_they_were_measured_of(tmp_path: Path) -> None:
    key = "offload.rates"
    rates = "{ h2d_bytes_per_s = 10e9, storage_read_bytes_per_s = 1e9, prefill_matrix_flop_per_s = 1e12 }"
    scenario = load_any(SCENARIOS / "opt-175b-1xt4-offload.toml", (f"{key}={rates}",))
    drive, memory, link, gpu = additions(scenario, tmp_path)
    assert drive.scenario.offload.rates.storage_read_bytes_per_s > 1.5e9
    assert memory.scenario.offload.rates == scenario.offload.rates
    assert link.scenario.offload.rates.h2d_bytes_per_s == pytest.approx(10e9 * 25 / 12)
    assert link.remark == "the t4 itself ends at pcie3-x16"
    assert gpu.scenario.offload.rates.prefill_matrix_flop_per_s is None
    assert catalog.gpu(catalog.node(gpu.scenario.cluster.node).gpu).memory_bytes > 1.2 * catalog.gpu("t4").memory_bytes


def test_of_a_policy_that_runs_nowhere_the_setting_that_lacks_least_is_named() -> None:
    near, far = (Refusal(Setting("fuyou", (("buffer_count", n),)), "short", HOST, n * 1e9) for n in (1, 2))
    tried = Tried(refusals=[far, near, Refusal(Setting("fuyou"), "wrong")])
    assert tried.nearest("fuyou") is near
    assert tried.best is None
