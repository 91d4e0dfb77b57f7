"""The page and the pictures of an offload plan, made of its plan.json."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, RED, styled
from app.html_page import notes_html, page_html, pictures_html
from app.plan_offload import BUY_HEAD, POLICY_HEAD, answer_words, buy_cells, buy_words, largest_words, policy_cells
from app.plan_report import MORE_STYLE, cards_html, number_text, table_html

HEIGHT = 340


def offload_plan_report(found: dict[str, Any]) -> str:
    """The page as one string; it needs no network, and the same plan gives the same page."""
    words = f'<p><b class="{"met" if found["found"] else "missed"}">{escape(answer_words(found))}</b></p>'
    largest = f"<p>{escape(largest_words(found))}.</p>" if found["largest"] else ""
    refused = [(row["policy"], row["setting"], row["reason"]) for row in found["refused"]]
    said = [(row["name"], text) for row in found["purchases"] if (text := buy_words(row))]
    body = f"""\
{words}{largest}
{_cards(found)}
{pictures_html(offload_plan_figures(found))}
<h2>Policies</h2>{table_html(POLICY_HEAD, [policy_cells(row) for row in found["policies"]])}
{f"<h2>Cannot run</h2>{table_html(('policy', 'nearest setting', 'why'), refused)}" if refused else ""}
<h2>What to buy next</h2>{table_html(BUY_HEAD, [buy_cells(row) for row in found["purchases"]])}
{table_html(("", "what the job waits for then"), said) if said else ""}
{notes_html(found["notes"])}"""
    return page_html(f"{found['name']}: which policy, and what to buy next", body, MORE_STYLE)


def offload_plan_figures(found: dict[str, Any]) -> dict[str, go.Figure]:
    """Title to figure."""
    pictures = {"Policies on the machine there is": policies(found)} if found["found"] else {}
    if any(row["tokens_per_s"] is not None for row in found["purchases"]):
        pictures["What each addition gains"] = gains(found)
    return pictures


def policies(found: dict[str, Any]) -> go.Figure:
    """Throughput of each policy's best setting, with its 90 % interval."""
    rows = found["policies"][::-1]
    figure = go.Figure()
    figure.add_bar(
        y=[row["policy"] for row in rows], x=[row["tokens_per_s"] for row in rows], orientation="h",
        marker={"color": [GREEN if row is found["policies"][0] else BLUE for row in rows]},
        error_x={
            "type": "data", "symmetric": False,
            "array": [row["tokens_per_s_90"][1] - row["tokens_per_s"] for row in rows],
            "arrayminus": [row["tokens_per_s"] - row["tokens_per_s_90"][0] for row in rows],
        },
        hovertemplate="%{y}: %{x:.4g} tokens/s<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="tokens/s", rangemode="tozero")
    return styled(figure, HEIGHT)


def gains(found: dict[str, Any]) -> go.Figure:
    """Throughput with each addition; the line is the machine as it is."""
    rows = [row for row in found["purchases"] if row["tokens_per_s"] is not None][::-1]
    figure = go.Figure()
    figure.add_bar(
        y=[row["name"] for row in rows], x=[row["tokens_per_s"] for row in rows], orientation="h",
        marker={"color": [ORANGE if row["replaces"] else BLUE for row in rows]},
        text=[buy_cells(row)[2] for row in rows],
        hovertemplate="%{y}: %{x:.4g} tokens/s<extra></extra>",
    )  # fmt: skip
    if found["found"]:
        own = found["policies"][0]["tokens_per_s"]
        figure.add_vline(
            x=own, line={"dash": "dash", "color": RED}, annotation_text="as it is", annotation_position="bottom left"
        )
    figure.update_xaxes(title="tokens/s", rangemode="tozero")
    figure.update_yaxes(automargin=True)
    return styled(figure, HEIGHT)


def _cards(found: dict[str, Any]) -> str:
    if not found["found"]:
        return ""
    best = found["policies"][0]
    flop = best["model_flop_per_s_per_gpu"]
    gains_found = [row for row in found["purchases"] if row["gain_fraction"] is not None]
    most = max(gains_found, key=lambda row: row["gain_fraction"], default=None)
    return cards_html(
        ("best policy", best["policy"], ""),
        ("throughput", number_text(best["tokens_per_s"]), "tokens/s"),
        *([("model arithmetic", f"{flop / 1e12:.1f}", "TFLOP/s a GPU")] if flop is not None else []),
        *([("gains most", most["name"].partition(":")[0], f"{most['gain_fraction']:+.1%}")] if most else []),
        ("simulations", f"{found['simulations']:,}", ""),
    )
