"""Draws one knob with Streamlit and gives back its value; absent values are MISSING."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10
from typing import Any

import streamlit as st

from app.web.components import as_text
from app.web.forms.choices import FIELD_STARTS, GENERATOR_STARTS, STARTS, names_for, registry
from app.web.forms.knobs import MISSING, Knob, dataclass_knobs
from app.web.store import Store
from sim.scenario_file import override_value, toml_value

BROWSER_INTEGER = 2**53 - 1  # beyond, a browser's numbers lose digits
TEXT_LIMIT = 2_000  # characters


@dataclass(frozen=True, slots=True)
class Drawer:
    """Draws knobs whose widgets' keys begin alike, so that a form begun anew forgets what widgets held."""

    prefix: str
    store: Store

    def draw(self, knob: Knob, value: Any, given: tuple[str, ...] = ()) -> Any:
        """The knob's value after what the user did; `value`: what it begins with."""
        if knob.optional and not self._is_set(knob, value):
            return MISSING
        if value is MISSING:
            value = self._start(knob)
        if knob.kind == "section":
            return self._section(knob, value)
        if knob.kind == "policy":
            return self._policy(knob, value, given)
        return self._plain(knob, value, collapsed=knob.optional)

    def _is_set(self, knob: Knob, value: Any) -> bool:
        return st.toggle(
            f"{knob.label} :gray[set]", value is not MISSING, key=f"{self.prefix}{knob.key}?", help=knob.help
        )

    def _start(self, knob: Knob) -> Any:
        """Where nothing is given: what a scenario would have, or what a knob that is set begins with."""
        if not knob.optional and knob.default is not MISSING:
            default = knob.default
            return default.model_dump() if knob.kind == "policy" and hasattr(default, "model_dump") else default
        if knob.key in STARTS:
            return STARTS[knob.key]
        if knob.name in FIELD_STARTS:
            return FIELD_STARTS[knob.name]
        if knob.kind == "policy" and (kinds := registry(knob.key, knob.family)):
            return {"name": next(iter(kinds))}
        if names := knob.choices or names_for(knob.key, self.store):
            return names[0]
        low = max(knob.low or 1, 1)
        empty: dict[str, Any] = {"integer": int(low), "number": float(low), "flag": False, "toml": {}, "section": {}}
        return empty.get(knob.kind, "")

    def _plain(self, knob: Knob, value: Any, collapsed: bool) -> Any:
        key = f"{self.prefix}{knob.key}"
        common: dict[str, Any] = {"key": key, "help": None if collapsed else knob.help}
        common["label_visibility"] = "collapsed" if collapsed else "visible"
        label = knob.label
        choices = knob.choices or names_for(knob.key, self.store)
        if choices and isinstance(value, str):
            options = choices if value in choices else (value, *choices)
            return st.selectbox(label, options, options.index(value), **common)
        if knob.kind == "flag" and isinstance(value, bool):
            return st.toggle(label, value, **common)
        if knob.kind in ("integer", "number") and _fits_browser(value):
            return _number(label, knob, value, common)
        if knob.kind == "text" and isinstance(value, str):
            return st.text_input(label, value, max_chars=200, **common)
        text = toml_value(value)  # a longer one is there already, which the widget would cut off
        return override_value(st.text_area(label, text, max_chars=max(TEXT_LIMIT, len(text)), **common))

    def _section(self, knob: Knob, value: Any) -> dict[str, Any]:
        """What the knobs of a section within a section say."""
        answers = {one.name: self.draw(one, value.get(one.name, MISSING)) for one in knob.knobs}
        return {name: answer for name, answer in answers.items() if answer is not MISSING}

    def _policy(self, knob: Knob, value: Any, given: tuple[str, ...]) -> Any:
        """The name of a policy, and below it the keys of its own class; keys at their defaults are left out."""
        kinds = registry(knob.key, knob.family)
        if isinstance(value, int):  # a bare number stands for a fixed length
            value = {"name": "fixed", "tokens": value}
        if not isinstance(value, dict) or value.get("name") not in kinds:
            return self._plain(knob, value, collapsed=knob.optional)
        label, key = knob.label, f"{self.prefix}{knob.key}"
        names = tuple(kinds)
        name = st.selectbox(
            label,
            names,
            names.index(value["name"]),
            key=key,
            help=knob.help,
            label_visibility="collapsed" if knob.optional else "visible",
        )
        st.caption(as_text(_what(kinds[name])))
        begin = value if name == value["name"] else GENERATOR_STARTS.get(name, {})
        inner = Drawer(f"{self.prefix}{name}:", self.store)
        chosen: dict[str, Any] = {"name": name}
        for field in dataclass_knobs(kinds[name], f"{knob.key}.", given):
            answer = inner.draw(field, begin.get(field.name, MISSING))
            if answer is not MISSING and (field.default is MISSING or answer != _as_said(field.default)):
                chosen[field.name] = answer
        return chosen


def _what(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].split())


def _as_said(default: Any) -> Any:
    """A default as a scenario would have it."""
    return list(default) if isinstance(default, tuple) else default


def _fits_browser(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= BROWSER_INTEGER


def _number(label: str, knob: Knob, value: float, common: dict[str, Any]) -> Any:
    low, high = (None if limit is None or not _fits_browser(limit) else limit for limit in (knob.low, knob.high))
    if knob.kind == "integer" and isinstance(value, int):
        low, high = (None if limit is None else int(limit) for limit in (low, high))
        return st.number_input(label, low, high, value, step=_whole_step(value), **common)
    low, high = (None if limit is None else float(limit) for limit in (low, high))
    return st.number_input(label, low, high, float(value), step=_step(float(value)), format="%g", **common)


def _whole_step(value: int) -> int:
    """What the buttons add: an eighth of a power of two, else a tenth of the first digit's place."""
    if value >= 16 and value & (value - 1) == 0:
        return value // 8
    return max(1, int(10.0 ** (len(str(abs(value))) - 2)))


def _step(value: float) -> float:
    """What the buttons add: a tenth of the first digit's place."""
    return float(10.0 ** (floor(log10(abs(value))) - 1)) if value else 0.1
