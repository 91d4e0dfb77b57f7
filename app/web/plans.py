"""The plans that the app keeps: a scenario and a question, answered by the command line's own search."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.web.families import Family, family_of
from app.web.guard import safe_tables
from app.web.jobs import Job, read_json
from app.web.store import RUN_ID, Store
from hardware_models.errors import FleetcastError
from sim.identity import HEX_DIGITS, scenario_id
from sim.plan.training.space import KEYS, RUN_BY_FRAMEWORKS
from sim.scenario_file import AnyScenario, read_toml, scenario_toml

QUESTIONS = {"deployment": "the cheapest that serves a demand", "capacity": "the highest rate of this deployment"}
OBJECTIVES = ("cost", "gpus", "energy")
SIZES = (1, 2, 4, 8)  # of tensor parallelism
SCENARIO = "scenario.toml"  # in the folder of the job


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the widgets ask; empty: the command's own default."""

    kind: str = "deployment"
    rate_per_s: float | None = None
    minimize: str = "cost"
    nodes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def arguments(self, store: Store) -> list[str]:
        """For `fleetcast plan SCENARIO`; raises FleetcastError for a node that nobody knows."""
        if self.kind == "capacity":
            return ["--capacity"]
        nodes = [safe_tables({"cluster": {"node": name}}, "plan", store)["cluster"]["node"] for name in self.nodes]
        found = ["--minimize", self.minimize]
        found += ["--rate", repr(self.rate_per_s)] if self.rate_per_s is not None else []
        found += ["--nodes", ",".join(nodes)] if nodes else []
        found += ["--tp", ",".join(map(str, self.sizes))] if self.sizes else []
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingQuestion:
    """The same of training: what is searched; empty: all that makes sense."""

    gpus: str = ""  # numbers as 64,128; empty: all of the scenario's cluster
    kept: tuple[str, ...] = ()  # keys of KEYS that stay as the scenario has them
    tensor: str = ""
    pipeline: str = ""
    micro_batches: str = ""
    schedules: tuple[str, ...] = RUN_BY_FRAMEWORKS
    sharding: tuple[str, ...] = ()

    def arguments(self, _store: Store) -> list[str]:
        """For `fleetcast plan SCENARIO`, which says what is wrong with them."""
        freed = ["all"] if not self.kept else [key for key in KEYS if key not in self.kept]
        found = [text for key in freed for text in ("--free", key)]
        for option, value in (
            ("--gpus", self.gpus), ("--tp", self.tensor), ("--pp", self.pipeline),
            ("--micro-batches", self.micro_batches), ("--sharding", ",".join(self.sharding)),
            ("--schedules", "" if self.schedules == RUN_BY_FRAMEWORKS else ",".join(self.schedules)),
        ):  # fmt: skip
            found += [f"{option}={value.replace(' ', '')}"] if value.strip() else []
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuestion:
    """The same of a row of servers behind a breaker: how many it carries."""

    allow: tuple[tuple[str, str], ...] = ()  # criteria and the most of each, as high_p99 and 5%
    policies: tuple[str, ...] = ()  # to compare with the scenario's own; empty: all
    built_for: int | None = None  # servers; absent: by their rated watts
    most_servers: int | None = None  # absent: twice as many
    seeds: int = 3
    confirm: int = 3

    def arguments(self, _store: Store) -> list[str]:
        """For `fleetcast plan SCENARIO`, which says what is wrong with them."""
        found = ["--oversubscribe", f"--seeds={self.seeds}", f"--confirm={self.confirm}"]
        found += [f"--allow={name}={most.replace(' ', '')}" for name, most in self.allow]
        found += [f"--policies={','.join(self.policies)}"] if self.policies else []
        for option, number in (("--built-for", self.built_for), ("--most-servers", self.most_servers)):
            found += [f"{option}={number}"] if number is not None else []
        return found


AnyQuestion = Question | TrainingQuestion | RowQuestion


@dataclass(frozen=True, slots=True)
class KeptPlan:
    """One plan of the store."""

    plan_id: str
    job_folder: Path

    @property
    def out(self) -> Path:
        """Where the command writes."""
        return self.job_folder / "out"

    @property
    def found(self) -> dict[str, Any] | None:
        """plan.json; None before it is there."""
        return read_json(self.out / "plan.json")

    @property
    def family(self) -> Family:
        """Of which kind its scenario is."""
        return family_of(read_toml(self.job_folder / SCENARIO))

    @property
    def running(self) -> bool:
        """Is the search under way?"""
        job = Job.read(self.job_folder)
        return job is not None and job.poll().running


def keep(scenario: AnyScenario, question: AnyQuestion, store: Store) -> tuple[KeptPlan, list[str]]:
    """Write the scenario down, and the command that answers; the same question is found again."""
    arguments = question.arguments(store)
    asked = repr((scenario_id(scenario), arguments))
    plan = _kept(store, hashlib.sha256(asked.encode()).hexdigest()[:HEX_DIGITS])
    plan.job_folder.mkdir(parents=True, exist_ok=True)
    path = plan.job_folder / SCENARIO
    path.write_text(scenario_toml(scenario), encoding="utf-8")
    return plan, ["plan", str(path), *arguments, "--out", str(plan.out)]


def kept(store: Store, plan_id: str) -> KeptPlan:
    """A plan by its identity; raises FleetcastError for one that is not there."""
    plan = _kept(store, plan_id)
    if not RUN_ID.fullmatch(plan_id) or not (plan.job_folder / SCENARIO).is_file():
        raise FleetcastError(f"plan {plan_id[:60]}: is not kept here (any more); ask again")
    return plan


def _kept(store: Store, plan_id: str) -> KeptPlan:
    return KeptPlan(plan_id, store.jobs / f"plan-{plan_id}")


def last_line(text: str) -> str:
    """Of what a search has said so far."""
    lines: Sequence[str] = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "starting"
