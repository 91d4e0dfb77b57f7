"""Widgets that pages share: cards, grades, the bottleneck sentence, figures, tables, errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.web.cards import Card

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PLOT_CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False}
GRADE_COLOURS = {"measured": "#0072B2", "quoted": "#8a6100", "assumed": "#b33c00"}
TABLE_ROWS = 10_000  # that a page shows; downloads hold all
NARROW = '<td style="white-space:nowrap">'
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:])")

STYLE = """<style>
.fc-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .5rem; }
.fc-card { border: 1px solid #d5d9de; border-radius: 6px; padding: .45rem .7rem; background: #fff; min-width: 0; }
.fc-card .fc-label { display: block; color: #555; font-size: .82rem; }
.fc-card .fc-value { font-size: 1.3rem; font-weight: 600; overflow-wrap: anywhere; }
.fc-card .fc-unit { color: #555; font-size: .82rem; }
.fc-card .fc-note { display: block; color: #555; font-size: .78rem; font-variant-numeric: tabular-nums; }
.fc-better, .fc-card .fc-better { color: #00704a; font-weight: 600; }
.fc-worse, .fc-card .fc-worse { color: #b33c00; font-weight: 600; }
.fc-same { color: #555; } .fc-small { font-size: .8rem; }
.fc-badge { display: inline-block; border: 1px solid currentColor; border-radius: 999px; padding: 0 .55rem;
  font-size: .8rem; line-height: 1.5; white-space: nowrap; }
.fc-bottleneck { font-size: 1.05rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.fc-line { margin: .1rem 0; overflow-wrap: anywhere; }
.fc-wide { overflow-x: auto; } .fc-wide table { border-collapse: collapse; }
.fc-wide th { white-space: nowrap; }
.fc-wide td, .fc-wide th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #e5e5e5; }
.fc-wide td { font-variant-numeric: tabular-nums; }
.fc-wide td:first-child, .fc-wide th:first-child { text-align: left; padding-left: 0; }
@media (max-width: 520px) { .fc-cards { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
</style>"""


def style() -> None:
    """What the other widgets' classes mean; once a page."""
    st.html(STYLE)


def cards(items: Sequence[Card]) -> None:
    """Headline figures side by side, as many a row as the width takes."""
    st.html(f'<div class="fc-cards">{"".join(card.html() for card in items)}</div>')


def grade_html(grade: str, title: str = "") -> str:
    """A badge for measured, quoted or assumed, as HTML."""
    colour = GRADE_COLOURS.get(grade, "#555")
    return f'<span class="fc-badge" style="color:{colour}" title="{escape(title)}">{escape(grade)}</span>'


def grade_badge(grade: str, title: str = "") -> None:
    """A badge for measured, quoted or assumed."""
    st.html(grade_html(grade, title))


def bottleneck(summary: dict[str, Any]) -> None:
    """The sentence that says what bounded the run."""
    st.html(f'<p class="fc-bottleneck">{escape(str(summary["bottleneck"]))}</p>')


def figure(fig: go.Figure, key: str) -> None:
    """A picture across the page, in its own colours."""
    st.plotly_chart(fig, theme=None, key=key, config=PLOT_CONFIG)


def table(frame: pd.DataFrame, key: str, file_name: str) -> None:
    """A table (its first rows, where it is long), and all of it as Parquet and CSV; file_name has no ending."""
    shown = frame if len(frame) <= TABLE_ROWS else frame.head(TABLE_ROWS)
    st.dataframe(shown, hide_index=True, key=f"{key}-table")
    if len(shown) < len(frame):
        st.caption(f"The first {len(shown):,} of {len(frame):,} rows; the files hold all.")
    with st.container(horizontal=True):
        download("Parquet", lambda: frame.to_parquet(index=False), f"{file_name}.parquet", key=f"{key}-parquet")
        download("CSV", lambda: frame.to_csv(index=False).encode(), f"{file_name}.csv", key=f"{key}-csv")


def wide_table(head: Sequence[str], rows: Sequence[Sequence[str]], first: str = "15rem") -> str:
    """Cells of HTML as a table that scrolls sideways where there is no room; first: least width of its first column."""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        f'<tr><td style="min-width:{first}">{row[0]}</td>'
        + "".join(f"{NARROW}{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="fc-wide"><table style="width:100%"><tr>{top}</tr>{body}</table></div>'


def download(label: str, content: Callable[[], bytes], file_name: str, key: str, mime: str | None = None) -> None:
    """A button that makes its file when it is pressed."""
    st.download_button(
        label, content, file_name, mime or "application/octet-stream", key=key, on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip


def error(message: str) -> None:
    """A user's mistake, in the words of the command line."""
    st.error(as_text(message), icon=":material/error:")


def as_text(message: str) -> str:
    """Markdown that shows exactly these characters."""
    return MARKDOWN.sub(r"\\\1", message)
