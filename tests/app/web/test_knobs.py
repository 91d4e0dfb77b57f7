from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import pytest
from annotated_types import Interval
from pydantic import BaseModel, Field

from app.web.families import FAMILIES, SERVING
from app.web.forms.choices import FIELD_STARTS, GENERATOR_STARTS, STARTS, names_for, registry
from app.web.forms.knobs import MISSING, Knob, dataclass_knobs, leaves, lookup, put, scenario_groups
from app.web.store import Store
from policies.serving import ROUTERS, SCHEDULERS
from sim.scenario import Scenario
from sim.section import PolicyChoice
from sim.workload import load_requests
from workloads.generators import ARRIVALS, GENERATORS, LENGTHS, make_generator


class PowerSection(BaseModel):
    """[power]: limits of rows."""

    row_limit_w: float = Field(gt=0, le=1e6, description="breaker")
    policy: PolicyChoice = PolicyChoice(name="none")


class Later(BaseModel):
    """A scenario of a later version."""

    title: str = "x"
    power: PowerSection | None = None


def test_every_key_of_a_scenario_has_a_knob_that_describes_itself() -> None:
    groups = scenario_groups()
    knobs = [knob for group in groups for knob in group.knobs]
    keys = {knob.key for knob in knobs}
    for name, field in Scenario.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if hasattr(kind, "model_fields")]
        section = kinds[0].model_fields if kinds else None
        assert {f"{name}.{key}" for key in section} <= keys if section else name in keys
    assert all(knob.description and f"`{knob.key}`" in knob.help for knob in knobs)
    assert set(SERVING.important) <= keys
    every = {knob.key for family in FAMILIES for group in scenario_groups(family.model) for knob in leaves(group.knobs)}
    assert set(STARTS) <= every
    training = next(knob for knob in knobs if knob.key == "power.training")
    assert (training.kind, training.optional) == ("section", True)
    assert [knob.kind for knob in training.knobs] == ["text", "integer", "toml"]


def test_a_section_of_a_later_version_appears_by_itself() -> None:
    loose, power = scenario_groups(Later)
    assert [knob.key for knob in loose.knobs] == ["title"]
    assert (power.name, power.optional, power.description) == ("power", True, "[power]: limits of rows.")
    limit, policy = power.knobs
    assert (limit.kind, limit.low, limit.high, limit.default) == ("number", 0, 1e6, MISSING)
    assert limit.label == "row_limit, W"
    assert limit.help == "breaker; 0 to 1,000,000 (`power.row_limit_w`)"
    assert (policy.kind, policy.default) == ("policy", PolicyChoice(name="none"))


@dataclass(frozen=True)
class NewPolicy:
    """One that somebody adds."""

    max_num_seqs: int = 1
    depth: int = 3
    share_fraction: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    order: Literal["a", "b"] = "a"
    eager: bool = False
    limit: int | None = None


def test_a_new_policys_fields_become_knobs_but_for_those_that_the_run_gives() -> None:
    knobs = {knob.name: knob for knob in dataclass_knobs(NewPolicy, "serving.scheduler.", ("max_num_seqs",))}
    assert [(name, knob.kind) for name, knob in knobs.items()] == [
        ("depth", "integer"),
        ("share_fraction", "number"),
        ("order", "choice"),
        ("eager", "flag"),
        ("limit", "integer"),
    ]
    assert (knobs["share_fraction"].low, knobs["share_fraction"].high) == (0, 1)
    assert knobs["order"].choices == ("a", "b")
    assert knobs["limit"].optional


@pytest.mark.parametrize("family", [SCHEDULERS, ROUTERS, ARRIVALS, LENGTHS, GENERATORS])
def test_every_registered_class_has_a_form(family: dict[str, type]) -> None:
    for kind in family.values():
        for knob in dataclass_knobs(kind, "x."):
            assert knob.kind != "policy" or registry(knob.key, knob.family)
            assert knob.default is not MISSING or knob.name in FIELD_STARTS or knob.kind == "toml", knob


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_begins_with_something_that_runs(name: str) -> None:
    assert len(make_generator(GENERATOR_STARTS[name]).generate(1, num_requests=20)) == 20
    tables = {"generator": GENERATOR_STARTS[name], "num_requests": 20}
    assert len(load_requests(Scenario.model_fields["workload"].annotation(**tables), 1)) == 20  # type: ignore[misc]


def test_catalogs_and_the_users_own_files_are_offered(tmp_path) -> None:
    store = Store(tmp_path)
    store.keep_upload("mine.csv", b"x", 10)
    assert "mine.csv" in names_for("workload.trace", store)
    assert "azure-conv-2023" in names_for("workload.trace", store)
    assert "llama-3.1-70b" in names_for("model.config", store)
    assert "fp8" in names_for("model.weight_dtype", store)
    assert names_for("name", store) == ()


def test_dotted_keys_reach_into_tables() -> None:
    tables: dict = {}
    put(tables, "a.b.c", 1)
    assert tables == {"a": {"b": {"c": 1}}}
    assert lookup(tables, "a.b") == {"c": 1}
    assert lookup(tables, "a.x.y") is MISSING
    assert lookup({"a": 1}, "a.b") is MISSING


def test_a_knob_says_the_limits_it_has() -> None:
    assert Knob(key="a.wait_s", kind="number").help == "`a.wait_s`"
    assert Knob(key="a.wait_s", kind="number", low=1).help == "at least 1 (`a.wait_s`)"
    assert Knob(key="a.wait_s", kind="number", high=2, description="a while").help == "a while; at most 2 (`a.wait_s`)"
