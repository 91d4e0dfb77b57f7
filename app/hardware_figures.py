"""Pictures of devices: rooflines by number format, and bandwidth against arithmetic of a whole catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from app.hardware_view import value_text
from app.validation_figures import BLACK, FONT, GREY
from hardware_models.specs import GpuSpec

FORMAT_COLOURS = {"fp32": BLACK, "tf32": PURPLE, "bf16": BLUE, "fp16": BLUE, "fp8": ORANGE, "int8": SKY, "fp4": RED}
DASHES = ("solid", "dash")
LOW, HIGH = 0.25, 8192.0  # flop a byte


def roofline(gpus: Sequence[GpuSpec]) -> go.Figure:
    """Attainable rate over arithmetic intensity, by the data sheets: a colour a number format, a dash a device
    (Williams et al., 2009).
    """
    figure = go.Figure()
    for gpu, dash in zip(gpus, DASHES, strict=False):
        formats = _formats(gpu)
        last = max(formats.values()) / gpu.memory_bandwidth_bytes_per_s
        slope: dict[str, Any] = {"color": GREY, "width": 1.5, "dash": dash}
        figure.add_scatter(
            x=[LOW, last], y=[LOW * gpu.memory_bandwidth_bytes_per_s, max(formats.values())], mode="lines", line=slope,
            name=gpu.name, hoverinfo="skip",
        )  # fmt: skip
        for dtype, peak in formats.items():
            corner = peak / gpu.memory_bandwidth_bytes_per_s
            figure.add_scatter(
                x=[corner, HIGH], y=[peak, peak], mode="lines",
                name=dtype, legendgroup=dtype, showlegend=all(trace.name != dtype for trace in figure.data),
                line={"color": FORMAT_COLOURS.get(dtype.split(",")[0], GREEN), "width": 2.5, "dash": dash},
                hovertemplate=f"{gpu.name} {dtype}: {value_text('x_flop_per_s', peak)} from {corner:,.0f} flop/B"
                "<extra></extra>",
            )  # fmt: skip
    peaks = [peak for gpu in gpus for peak in _formats(gpu).values()]
    least = min(LOW * gpu.memory_bandwidth_bytes_per_s for gpu in gpus)
    figure.update_xaxes(title="flop a byte of memory traffic", **_axis(LOW, HIGH, ""))
    figure.update_yaxes(title="attainable", **_axis(least, max(peaks) * 1.6, "x_flop_per_s"))
    return _styled(figure, 430)


def bandwidth_against_peak(gpus: Sequence[GpuSpec], marked: Sequence[str] = ()) -> go.Figure:
    """All devices by memory bandwidth and dense 16-bit rate; the area of a mark is memory, lines join equal balance."""
    figure = go.Figure()
    shown = [gpu for gpu in gpus if _sixteen_bit(gpu)]
    x = np.array([gpu.memory_bandwidth_bytes_per_s for gpu in shown])
    y = np.array([_sixteen_bit(gpu) for gpu in shown])
    low, high = x.min() / 1.4, x.max() * 1.6
    for balance in (50.0, 100.0, 200.0, 400.0):
        ends = np.array([low, high])
        figure.add_scatter(
            x=ends,
            y=balance * ends,
            mode="lines",
            line={"color": "#ddd", "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
        left = balance * low > y.min() / 1.5
        figure.add_annotation(
            x=np.log10(low * 1.06 if left else high), y=np.log10(balance * (low * 1.06 if left else high)),
            text=f"{balance:,.0f} flop/B", showarrow=False, xanchor="left" if left else "right",
            yanchor="bottom" if left else "top", font={"size": 11, "color": GREY},
        )  # fmt: skip
    for vendor, colour in (("nvidia", BLUE), ("amd", ORANGE)):
        mine = [i for i, gpu in enumerate(shown) if gpu.vendor == vendor]
        if not mine:
            continue
        figure.add_scatter(
            x=x[mine], y=y[mine], mode="markers+text", name=vendor,
            text=[shown[i].name if shown[i].name in marked else "" for i in mine],
            textposition="top center", textfont={"size": 12, "color": BLACK},
            customdata=[_device_text(shown[i]) for i in mine], hovertemplate="%{customdata}<extra></extra>",
            marker={
                "color": colour, "opacity": 0.75, "sizemode": "area",
                "size": [shown[i].memory_bytes / 1e9 for i in mine], "sizeref": 0.55, "sizemin": 5,
                "line": {"width": [3 if shown[i].name in marked else 1 for i in mine], "color": BLACK},
            },
        )  # fmt: skip
    figure.update_xaxes(title="memory bandwidth", **_axis(low, high, "x_bytes_per_s"))
    figure.update_yaxes(title="16-bit arithmetic, dense", **_axis(y.min() / 1.5, y.max() * 1.7, "x_flop_per_s"))
    return _styled(figure, 430)


def _formats(gpu: GpuSpec) -> dict[str, float]:
    """Rates that differ: formats of one rate share a line."""
    joined: dict[float, list[str]] = {}
    for dtype, peak in gpu.peak_flop_per_s.items():
        joined.setdefault(peak, []).append(dtype)
    return {", ".join(names): peak for peak, names in joined.items()}


def _sixteen_bit(gpu: GpuSpec) -> float:
    return gpu.peak_flop_per_s.get("bf16") or gpu.peak_flop_per_s.get("fp16", 0.0)


def _device_text(gpu: GpuSpec) -> str:
    peak = _sixteen_bit(gpu)
    return (
        f"<b>{gpu.name}</b><br>{value_text('x_flop_per_s', peak)} in 16 bits"
        f"<br>{value_text('x_bytes_per_s', gpu.memory_bandwidth_bytes_per_s)},"
        f" {value_text('x_bytes', gpu.memory_bytes)}<br>{peak / gpu.memory_bandwidth_bytes_per_s:,.0f} flop/B"
    )


def _axis(low: float, high: float, key: str) -> dict[str, Any]:
    """A logarithmic axis with ticks at 1, 2 and 5, or powers of ten where it is long; `key` names the unit."""
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    ticks = [float(power * step) for power in powers for step in steps if low <= power * step <= high]
    text = [value_text(key, tick) if key else f"{tick:,.4g}" for tick in ticks]
    return {
        "type": "log", "range": [float(np.log10(low)), float(np.log10(high))], "tickvals": ticks, "ticktext": text,
        "automargin": True, "title_standoff": 6,
    }  # fmt: skip


def _styled(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        template="plotly_white", height=height, font=FONT, margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
    )  # fmt: skip
