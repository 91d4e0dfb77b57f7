"""A server with figures changed: what that does at once, kept as a file under a name, and opened for a simulation."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app.hardware_figures import roofline
from app.variation_answer import answers, formats, parallel_sizes, weight_dtypes
from app.web import resources
from app.web.cards import Card, Verdict
from app.web.components import as_text, cards, error, figure
from app.web.examples import DEFAULT
from app.web.forms.knobs import put
from app.web.hardware_table import figure_changes, forget_changes
from app.web.links import open_page
from app.web.own_hardware import (
    changes_of,
    copy_names,
    figure_text,
    node_names,
    node_reference,
    remove_copy,
    save_copy,
    tried,
)
from app.web.store import Store
from app.web.url_state import full_example, query
from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.specs import LinkSpec, Spec
from hardware_models.variation import Change, parse_change, vary_node
from sim.metrics import plain
from workloads.models import catalog as models

FACTORS = {  # what is asked first: key of the change -> how people call it, and the widget's key
    "gpu.memory_bandwidth_bytes_per_s": ("memory bandwidth", "hbm"),
    "gpu.memory_bytes": ("memory", "memory"),
    "gpu.peak_flop_per_s": ("arithmetic, all formats", "flops"),
    "gpu.l2_bytes": ("L2 cache", "l2"),
    "scale_up.bandwidth_bytes_per_s": ("GPU to GPU link", "scale_up"),
    "pcie.bandwidth_bytes_per_s": ("PCIe", "pcie"),
    "network.bandwidth_bytes_per_s": ("network (matters across nodes)", "network"),
}
MODEL = "llama-3.1-70b"
NAME_FIELD, NAME = "copy-name", "hardware.name"
SAID, NOT_REMOVED, RESET = "hardware.said", "hardware.not-removed", "hardware.reset"


def show_copy() -> None:
    """Draw it."""
    st.header("What if the hardware were different?", anchor=False)
    st.markdown(
        "Choose a server, multiply or set any figure, and see at once what a model makes of it. The changed device is"
        " priced with the calibration of the one it varies, whose parameters are shares of the data sheet: graded"
        " *assumed*, with wider error bars."
    )
    store = resources.store()
    left, right = st.columns([1, 1], gap="large")
    with left:
        names = node_names(store)
        original = st.selectbox("server", names, names.index("dgx-h100"), key="node", bind="query-params")
    try:
        with left:
            changes = _changes(original, store)
        with right:
            _answer(original, changes, store)
    except FleetcastError as mistake:
        with right:
            error(str(mistake))
    _own(store)


def _changes(original: str, store: Store) -> list[Change]:
    """Factors for what matters most, and a table of all else."""
    parts = _parts(original, store)
    changes = []
    st.markdown(":gray[times what it is]")
    columns = st.columns(2)
    shown = [key for key in FACTORS if key.partition(".")[0] in parts]
    reset = st.session_state.pop(RESET, False)
    for number, key in enumerate(shown):
        label, name = FACTORS[key]
        part, _, figure_key = key.partition(".")
        if reset:
            st.session_state[name] = 1.0
        factor = columns[number % 2].number_input(
            label,
            0.01,
            100.0,
            "min" if reset else 1.0,  # Streamlit warns of a value that is given twice
            0.25,
            key=name,
            bind="query-params",
            format="%g",
            help=figure_text(parts[part], figure_key),
        )
        if factor != 1.0:
            changes.append(parse_change(f"{key}={factor!r}x"))
    with st.expander("Any other figure"):
        changes += figure_changes(original, parts, shown)
    return changes


def _answer(original: str, changes: list[Change], store: Store) -> None:
    """The copy beside the original, and the way to keep it."""
    reference = node_reference(original, store)
    model, dtype, size = _question(reference)
    variation = vary_node(reference, "copy", changes)
    with tried(variation, store) as file:
        found = answers(reference, str(file), model, size, dtype)
    cards([_card(row) for row in found.to_dict("records")])
    if "gpu" in variation.parts and any(change.part == "gpu" for change in changes):
        before, after = catalog.gpu(catalog.node(reference).gpu), variation.parts["gpu"]
        st.caption(f"Rooflines by the figures: {before.name} solid, the copy dashed.")
        figure(roofline([before, after]), key="copy-roofline")  # type: ignore[list-item]
    _keep(original, changes, _asked(model, dtype, size), store)


def _asked(model: str, dtype: str, size: int) -> dict[str, Any]:
    """The question as keys of a scenario."""
    keys = {f"model.{key}": value for key, value in formats(dtype).items()}
    return {"model.config": model, **keys, "serving.tensor_parallel_size": size}


def _question(reference: str) -> tuple[str, str, int]:
    """Model, number format, and over how many GPUs."""
    columns = st.columns(3)
    names = models.names()
    model = columns[0].selectbox("model", names, names.index(MODEL), key="model", bind="query-params")
    dtypes = weight_dtypes(reference)
    dtype = columns[1].selectbox("weights", dtypes, key=f"weights-{dtypes[0]}", bind="query-params")
    sizes = parallel_sizes(reference, model)
    size = columns[2].selectbox("tensor parallel", sizes, len(sizes) - 1, key=f"tp-{sizes[-1]}", bind="query-params")
    return model, dtype, size


def _card(row: dict[Any, Any]) -> Card:
    ratio = float(row["ratio"])
    if ratio != ratio:  # noqa: PLR0124
        missing = "the copy" if row["copy"] != row["copy"] else "the original"
        return Card(label=row["question"], value="-", note=f"it does not fit {missing}")
    verdict: Verdict = "same"
    if abs(ratio - 1.0) > 5e-4:
        verdict = "better" if (ratio > 1.0) == row["larger_is_better"] else "worse"
    delta = f"{plain(ratio)} x the original's {plain(row['original'])}, {verdict}"
    delta = "unchanged" if verdict == "same" else delta
    return Card(label=row["question"], value=plain(row["copy"]), unit=row["unit"], delta=delta, verdict=verdict)


def _keep(original: str, changes: list[Change], question: dict[str, Any], store: Store) -> None:
    """A name for it, and the same from the command line."""
    name = _name()
    known = f"{name}.toml" in copy_names(store)
    st.button(
        "Replace the copy of that name" if known else "Save the copy", icon=":material/save:", type="primary",
        disabled=not name or not changes, on_click=_save, args=(original, name, changes, store),
        help=None if changes else "Change a figure first.",
    )  # fmt: skip
    said = st.session_state.pop(SAID, None)
    if said is not None:
        (st.success if said[0] else error)(as_text(said[1]) if said[0] else said[1])
    if known and is_kept(original, name, changes, store):
        _simulate(f"{name}.toml", question, store)
    elif known:
        st.caption(as_text(f"The kept {name} has other figures than these: save first, to simulate these."))
    if changes:
        st.caption("The same from the command line:")
        st.code(command_line(original, name or "copy", changes, store), "sh", wrap_lines=True)


def _name() -> str:
    """What the user calls the copy, also after another view was shown, when Streamlit has forgotten it."""
    if NAME_FIELD not in st.session_state:
        st.session_state[NAME_FIELD] = st.session_state.get(NAME, "")
    name = st.text_input("name of the copy", key=NAME_FIELD, max_chars=64, placeholder="h100-twice-the-hbm")
    st.session_state[NAME] = name
    return name


def command_line(original: str, name: str, changes: Sequence[Change], store: Store) -> str:
    """The command that writes the same copy, an own server by its file."""
    source = str(store.hardware / original) if original.endswith(".toml") else original
    words = ["fleetcast", "catalog", "nodes", source, "--copy-to", f"{name}.toml"]
    return shlex.join([*words, *(word for change in changes for word in ("--set", str(change)))])


def is_kept(original: str, name: str, changes: Sequence[Change], store: Store) -> bool:
    """Are the kept copy's files those that these changes would write? Raises FleetcastError."""
    kept = store.hardware / f"{name}.toml"
    with tried(vary_node(node_reference(original, store), name, changes), store) as file:
        return _contents(file) == _contents(kept)


def _contents(file: Path) -> dict[str, bytes]:
    """A server's file and those of its parts; none, where another session has just removed it."""
    try:
        return {path.name: path.read_bytes() for path in (file, *file.with_suffix("").glob("*.toml"))}
    except FileNotFoundError:
        return {}


def _save(original: str, name: str, changes: list[Change], store: Store) -> None:
    try:
        kept = save_copy(original, name, changes, store)
    except FleetcastError as mistake:
        st.session_state[SAID] = (False, str(mistake))
        return
    st.session_state[SAID] = (True, f"Kept as {kept}: simulate it, or choose it as a scenario's node.")
    if kept == original:  # it has the changes now, which would come on top of themselves
        forget_changes(original)
        st.session_state[RESET] = True


def _simulate(name: str, question: dict[str, Any], store: Store) -> None:
    """A link to the Serving page with the copy as its server."""
    tables = full_example(DEFAULT, store)
    for key, value in {**question, "cluster.node": name}.items():
        put(tables, key, value)
    open_page("serving", query(DEFAULT, tables, store), f"Simulate {name.removesuffix('.toml')}")


def _own(store: Store) -> None:
    """The copies there are."""
    if mistake := st.session_state.pop(NOT_REMOVED, ""):
        error(mistake)
    names = copy_names(store)
    if not names:
        return
    st.subheader("Your copies", anchor=False)
    for name in names:
        with st.container(border=True):
            try:
                node = catalog.node(node_reference(name, store))
                said = changes_of([node, *catalog.user_parts(node)])
                st.markdown(f"**{as_text(node.name)}**  \n" + as_text("; ".join(said)))
                with st.container(horizontal=True, vertical_alignment="center"):
                    reference = node_reference(name, store)
                    size = parallel_sizes(reference, MODEL)[-1]
                    _simulate(name, _asked(MODEL, weight_dtypes(reference)[0], size), store)
                    _remove_button(name, store)
            except FleetcastError as mistake:
                error(str(mistake))
                _remove_button(name, store)


def _remove_button(name: str, store: Store) -> None:
    st.button("Remove", icon=":material/delete:", key=f"remove:{name}", on_click=_remove, args=(name, store))


def _remove(name: str, store: Store) -> None:
    try:
        remove_copy(name, store)
    except FleetcastError as mistake:  # another session was quicker
        st.session_state[NOT_REMOVED] = str(mistake)


def _parts(original: str, store: Store) -> dict[str, Spec]:
    """A server and those of its parts that matter, by the names that changes use: GPUs talk over one link alone."""
    node = catalog.node(node_reference(original, store))
    links: dict[str, LinkSpec] = (
        {"scale_up": catalog.link(node.scale_up)} if node.scale_up else {"pcie": catalog.link(node.pcie)}
    )
    if node.nics:
        links["network"] = catalog.link(catalog.nic(node.nic).link)
    return {"gpu": catalog.gpu(node.gpu), **links, "": node}
