"""The form of a whole scenario: what matters most first, the rest by section. Answers tables with every value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from app.web.components import as_text
from app.web.families import SERVING, Family
from app.web.forms.choices import GENERATOR_STARTS
from app.web.forms.knobs import MISSING, Group, Knob, lookup, put, scenario_groups
from app.web.forms.widgets import Drawer

TRACE, GENERATOR = "workload.trace", "workload.generator"  # exactly one is given


def scenario_form(start: dict[str, Any], drawer: Drawer, family: Family = SERVING) -> dict[str, Any]:
    """Draw all knobs of a kind of scenario, beginning with `start`; returns the tables that they say."""
    form = _Form(start, drawer)
    groups = scenario_groups(family.model)
    groups = [replace(group, optional=False) if group.name == family.section else group for group in groups]
    always = {knob.key: (knob, group) for group in groups if not group.optional for knob in group.knobs}
    section = ""
    for key in family.important:
        if key in always:
            knob, group = always[key]
            if group.name != section:
                section = group.name
                st.markdown(f":gray[**{section}**]")
            form.ask(knob, group)
    st.markdown(":gray[**all other keys**]")
    for group in groups:
        with st.expander(group.name or "run"):
            form.ask_rest(group)
    return form.tables(groups)


class _Form:
    """What has been asked and answered so far."""

    def __init__(self, start: dict[str, Any], drawer: Drawer) -> None:
        self._start = start
        self._drawer = drawer
        self._said: dict[str, Any] = {}
        self._asked = {GENERATOR}  # along with the trace

    def ask(self, knob: Knob, group: Group) -> None:
        """Draw a knob and keep what it says."""
        self._asked.add(knob.key)
        if knob.key == TRACE:
            self._ask_source()
            return
        value = self._drawer.draw(knob, lookup(self._start, knob.key), tuple(other.name for other in group.knobs))
        if value is not MISSING:
            put(self._said, knob.key, value)

    def ask_rest(self, group: Group) -> None:
        """Draw what of a section has not been asked yet."""
        st.caption(as_text(group.description.partition(": ")[2] or group.description))
        if group.optional:
            if not st.toggle(f"[{group.name}]", group.name in self._start, key=f"{self._drawer.prefix}[{group.name}]"):
                return
            self._said.setdefault(group.name, {})
        for knob in group.knobs:
            if knob.key not in self._asked:
                self.ask(knob, group)

    def tables(self, groups: list[Group]) -> dict[str, Any]:
        """In the order of the models."""
        order = [knob.key for group in groups if not group.name for knob in group.knobs]
        order += [group.name for group in groups if group.name]
        return {name: self._said[name] for name in order if name in self._said}

    def _ask_source(self) -> None:
        """A trace or a generator."""
        given = lookup(self._start, GENERATOR)
        sources = ("trace", "generator")
        source = st.segmented_control(
            "requests from a",
            sources,
            default=sources[given is not MISSING],
            key=f"{self._drawer.prefix}source",
            required=True,
        )
        if source == "trace":
            knob = Knob(key=TRACE, kind="text", description="requests: a trace of the catalog, or an upload")
            begin = lookup(self._start, TRACE)
        else:
            knob = Knob(key=GENERATOR, kind="policy", description="requests drawn by law")
            begin = GENERATOR_STARTS["synthetic"] if given is MISSING else given
        put(self._said, knob.key, self._drawer.draw(knob, begin))
