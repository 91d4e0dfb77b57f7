"""What the Plan page asks at the side: a scenario of a kind, and what about it is searched."""

from __future__ import annotations

import copy
from math import isfinite
from typing import Any

import streamlit as st

from app.plan_oversubscribe_console import IMPACTS
from app.web.draft import Draft
from app.web.examples import example_names
from app.web.families import POWER, SERVING, TRAINING, Family
from app.web.forms.choices import names_for
from app.web.plans import OBJECTIVES, QUESTIONS, SIZES, AnyQuestion, Question, RowQuestion, TrainingQuestion
from app.web.scenario_page import draft_key
from app.web.store import Store
from app.web.url_state import full_example
from hardware_models import catalog
from policies.parallelism import SCHEDULES, SHARDING
from policies.power import ROW_POLICIES
from sim.plan.power.criteria import Criteria
from sim.plan.power.table import WORDS
from sim.plan.training.space import KEYS, RUN_BY_FRAMEWORKS

EXAMPLE = Question(nodes=("dgx-a100-80gb", "dgx-h100", "dgx-h200"), sizes=(4, 8))  # answered when the page is opened
TRAINING_EXAMPLE = TrainingQuestion()
ROW_EXAMPLE = RowQuestion(policies=("brake_only",), seeds=1, confirm=1)
EXAMPLES: dict[str, AnyQuestion] = {SERVING.name: EXAMPLE, TRAINING.name: TRAINING_EXAMPLE, POWER.name: ROW_EXAMPLE}
OF_A_MODEL = ("layers_per_stage", "expert_parallel_size", "expert_tensor_parallel_size")  # left out for another one
NAME_LIMIT = 200  # characters

Asked = tuple[dict[str, Any], AnyQuestion]  # tables of a scenario, and the question


def example(family: Family, store: Store) -> Asked:
    """What is answered before anything is asked."""
    return full_example(family.default, store), EXAMPLES[family.name]


def plan_form(family: Family, store: Store) -> Asked:
    """Draw it; returns what it says."""
    scenarios = {name: full_example(name, store) for name in example_names(family)}
    if family is POWER:  # a row that a training shares is not planned
        scenarios = {name: tables for name, tables in scenarios.items() if "training" not in tables["power"]}
    shown: Draft | None = st.session_state.get(draft_key(family))
    if shown is not None:
        scenarios = {f"what the {family.title} page shows": shown.current} | scenarios
    name = st.selectbox("scenario", list(scenarios), key=f"plan:{family.name}:scenario", help=_HELP[family.name])
    if family is TRAINING:
        return _training(scenarios[name], f"plan:training:{name}:", store)
    return scenarios[name], _row() if family is POWER else _serving(store)


_HELP = {
    "serving": "model, workload, SLO and engine",
    "training": "model, cluster, batch and framework; its own plan is set against the answer",
    "power": "servers, their traffic, the breaker and the policy; servers are added with traffic in proportion",
}


def _serving(store: Store) -> Question:
    kind = st.selectbox("question", list(QUESTIONS), format_func=QUESTIONS.__getitem__, key="plan:question")
    if kind != "deployment":
        return Question(kind=kind)
    rate = st.number_input("demand, requests/s", 0.0, 1e6, 0.0, key="plan:rate", help="0: the scenario's own rate")
    minimize = st.selectbox("minimize", OBJECTIVES, key="plan:minimize")
    nodes = st.multiselect("servers", names_for("cluster.node", store), list(EXAMPLE.nodes), key="plan:nodes",
                           help="none: one of the catalog for each measured GPU")  # fmt: skip
    sizes = st.multiselect("tensor_parallel_size", SIZES, list(EXAMPLE.sizes), key="plan:sizes")
    return Question(kind=kind, rate_per_s=rate or None, minimize=minimize, nodes=tuple(nodes), sizes=tuple(sizes))


def _row() -> RowQuestion:
    key = "plan:row:"
    policies = st.multiselect(
        "policies beside its own", list(ROW_POLICIES), list(ROW_EXAMPLE.policies), key=f"{key}policies",
        help="searched too, to be compared; none: all",
    )  # fmt: skip
    st.markdown(":gray[**the most that is safe**]")
    allow = [changed for name, most in Criteria().allowed.items() if (changed := _allowed(name, most, key))]
    st.markdown(":gray[**search**]")
    numbers = [
        st.number_input(label, low, 1_000_000, start, key=f"{key}{label}", help=said)
        for label, low, start, said in (
            ("seeds", 1, ROW_EXAMPLE.seeds, "each number of servers runs with each, with the policy and without limit"),
            ("confirm", 0, ROW_EXAMPLE.confirm, "further seeds, at the answer alone"),
            ("built for, servers", 0, 0, "what 0 % means; 0: as the rated watts of the servers have it"),
            ("most servers", 0, 0, "0: twice as many"),
        )
    ]
    seeds, confirm, built_for, most_servers = numbers
    return RowQuestion(
        allow=tuple(allow), policies=tuple(policies), built_for=built_for or None, most_servers=most_servers or None,
        seeds=seeds, confirm=confirm,
    )  # fmt: skip


def _allowed(name: str, default: float, prefix: str) -> tuple[str, str] | None:
    """A criterion and its value as `--allow` has them; None where it stays as it is."""
    factor, unit = (100.0, "%") if name in IMPACTS else (1.0, "")
    start = round(factor * default, 9) if isfinite(default) else None
    label = f"{WORDS[name]}{f', {unit}' if unit else ''}"
    value = st.number_input(label, 0.0, None, start, format="%g", key=f"{prefix}{name}", help=f"`--allow {name}`")
    return None if value is None or value == start else (name, f"{value:g}{unit}")


def _training(tables: dict[str, Any], prefix: str, store: Store) -> Asked:
    """prefix: of the widgets' keys, another one for each scenario, so that they begin as it has them."""
    model, cluster, training = (tables[section] for section in ("model", "cluster", "training"))
    config = _one_of("model", "model.config", model["config"], prefix, store)
    node = _one_of("server", "cluster.node", cluster["node"], prefix, store)
    own = _gpus(cluster["node"], store) * cluster["nodes"]
    gpus = st.text_input("GPUs", str(own), key=f"{prefix}gpus", max_chars=100, help="a number, or several: 64, 128")
    batch = st.number_input("global_batch_size", 1, 100_000_000, training["global_batch_size"], key=f"{prefix}batch",
                            help="sequences of a step, over all GPUs")  # fmt: skip
    length = st.number_input("seq_length", 1, 100_000_000, training["seq_length"], key=f"{prefix}length",
                             help="tokens of a sequence")  # fmt: skip
    with st.expander("search"):
        question = _space(gpus, prefix)
    asked = copy.deepcopy(tables)
    asked["training"] |= {"global_batch_size": batch, "seq_length": length}
    if config != model["config"]:
        asked["model"] = {"config": config}
        for key in OF_A_MODEL:
            asked["training"].pop(key, None)
    most = max((int(text) for text in gpus.split(",") if text.strip().isdigit()), default=own)
    asked["cluster"] |= {"node": node, "nodes": max(1, most // _gpus(node, store))}
    if (config, asked["cluster"]) != (model["config"], cluster):
        asked["name"] = f"{config} on {gpus} GPUs of {node}"[:NAME_LIMIT]
    return asked, question


def _space(gpus: str, prefix: str) -> TrainingQuestion:
    kept = st.multiselect("keep as the scenario has it", KEYS, key=f"{prefix}kept", help="none: all of them searched")
    st.caption("Sizes to try, as 1, 2, 4; empty: all that make sense.")
    sizes = [
        st.text_input(label, "", key=f"{prefix}{label}", max_chars=100)
        for label in ("tensor_parallel_size", "pipeline_parallel_size", "micro_batch_size")
    ]
    schedules = st.multiselect("schedules", list(SCHEDULES), list(RUN_BY_FRAMEWORKS), key=f"{prefix}schedules")
    sharding = st.multiselect("sharding", list(SHARDING), key=f"{prefix}sharding",
                              help="none: without and ZeRO-1, without a pipeline ZeRO-2 and 3 too")  # fmt: skip
    return TrainingQuestion(
        gpus=gpus, kept=tuple(kept), tensor=sizes[0], pipeline=sizes[1], micro_batches=sizes[2],
        schedules=tuple(schedules) or RUN_BY_FRAMEWORKS, sharding=tuple(sharding),
    )  # fmt: skip


def _one_of(label: str, key: str, value: str, prefix: str, store: Store) -> str:
    names = names_for(key, store)
    options = list(names) if value in names else [value, *names]
    return str(st.selectbox(label, options, options.index(value), key=f"{prefix}{key}"))


def _gpus(node: str, store: Store) -> int:
    """Of one server."""
    own = store.files(store.hardware, (".toml",))
    return catalog.node(str(store.hardware.resolve() / node) if node in own else node).gpus
