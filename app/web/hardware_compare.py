"""Two devices of a kind side by side."""

from __future__ import annotations

import streamlit as st

from app.catalog_view import spec_of
from app.hardware_figures import bandwidth_against_peak, roofline
from app.hardware_view import compared
from app.web import resources
from app.web.components import figure, table
from app.web.own_hardware import own_specs
from hardware_models import catalog
from hardware_models.specs import GpuSpec, Spec

KINDS = ("gpu", "cpu", "ssd", "nic", "link", "node")
STARTS = {"gpu": ("h100-sxm", "b200"), "link": ("nvlink3-switch", "nvlink4-switch"), "node": ("dgx-h100", "dgx-b200")}


def show_comparison() -> None:
    """Draw it."""
    st.header("Two devices side by side", anchor=False)
    kind = st.selectbox("kind", KINDS, key="what", bind="query-params")
    own = {spec.name: spec for found, spec in own_specs(resources.store()) if found == kind}
    names = [*own, *catalog.names(kind)]
    starts = STARTS.get(kind, names[:2])
    specs: list[Spec] = []
    for column, key, start in zip(st.columns(2), ("first", "second"), starts, strict=True):
        # a key a kind, so that a choice of one kind is none of another
        name = column.selectbox(key, names, names.index(start), key=f"{key}-{kind}", bind="query-params")
        specs.append(own.get(name) or spec_of(f"{kind}s", name))
    first, second = specs
    if first == second:
        st.info("Choose two different ones.")
        return
    if isinstance(first, GpuSpec) and isinstance(second, GpuSpec):
        _pictures(first, second)
    shown = compared(first, second)
    shown["ratio"] = [f"{value:.3g} x" if value == value else "" for value in shown["ratio"]]  # noqa: PLR0124
    table(shown, key="compared", file_name=f"{first.name}-{second.name}")


def _pictures(first: GpuSpec, second: GpuSpec) -> None:
    left, right = st.columns(2)
    with left:
        st.caption(f"Rooflines by the data sheets: {first.name} solid, {second.name} dashed.")
        figure(roofline([first, second]), key="rooflines")
    with right:
        st.caption("Memory bandwidth against dense 16-bit arithmetic; area: memory.")
        others = [catalog.gpu(name) for name in catalog.names("gpu") if name not in (first.name, second.name)]
        figure(bandwidth_against_peak([*others, first, second], (first.name, second.name)), key="among-all")
