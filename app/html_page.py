"""What every page is made of: its shell, cards, pictures and notes; one file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
import plotly.offline

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1080px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { margin-bottom: 0; overflow-wrap: anywhere; } h2 { margin: 2rem 0 .3rem; font-size: 1.15rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(155px, 1fr)); gap: .6rem; margin: 1rem 0; }
.card { border: 1px solid #ddd; border-radius: 6px; padding: .5rem .8rem; }
.card b { font-size: 1.25rem; } .card span { display: block; color: #595959; font-size: .85rem; }
.card small { color: #595959; } .bars { display: block; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #eee; }
td { font-variant-numeric: tabular-nums; } td:first-child, th:first-child { text-align: left; padding-left: 0; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; } .met { color: #00704a; } .missed { color: #b33c00; }
.wide { overflow-x: auto; }
@media (max-width: 520px) { td, th { padding: .15rem .3rem; font-size: .8rem; }
  .cards { grid-template-columns: repeat(2, 1fr); } }
"""
PLOT_CONFIG = {"responsive": True, "displayModeBar": False}


def page_html(title: str, body: str, style: str = "") -> str:
    """A page that holds all it needs. title: as text; body: as HTML; style: CSS beside that of all pages."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - Fleetcast</title><style>{STYLE}{style}</style>
<script>{plotly.offline.get_plotlyjs()}</script></head><body>
<h1>{escape(title)}</h1>
{body}
</body></html>
"""


def card_html(name: str, value: str, unit: str, bars: str = "") -> str:
    """One figure; bars: its 90 % interval in words, empty where there is none."""
    interval = f"<small class=bars>90 %: {escape(bars)}</small>" if bars else ""
    return (
        f'<div class="card"><span>{escape(name)}</span>'
        f"<b>{escape(value)}</b> <small>{escape(unit)}</small>{interval}</div>"
    )


def pictures_html(pictures: Mapping[str, go.Figure]) -> str:
    """Each picture below its title."""
    html = ""
    for number, (title, figure) in enumerate(pictures.items(), start=1):
        picture = figure.to_html(
            full_html=False, include_plotlyjs=False, config=PLOT_CONFIG, div_id=f"figure-{number}", default_width="100%"
        )
        html += f'<h2>{escape(title)}</h2><div class="wide">{picture}</div>'
    return html


def notes_html(notes: Sequence[str]) -> str:
    """What a reader must know; nothing where there is nothing."""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>Notes</h2><ul>{items}</ul>" if items else ""
