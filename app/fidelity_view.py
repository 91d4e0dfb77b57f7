"""How far calibrated kernels are off, as a table of the shipped fits, and pictures of it over all devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.figures import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from app.hardware_view import fit_files
from app.validation_figures import BLACK, FONT
from calibration.report.judge import Files
from calibration.report.markdown import devices_of, kernels_of, sizes_text
from calibration.report.targets import COVERAGE, FEW, meets
from hardware_models.link_parameters import FOLDER as LINKS

YELLOW = "#F0E442"  # of Okabe and Ito's, too pale for lines
KERNEL_COLOURS = {
    "gemm": BLUE, "grouped_gemm": SKY, "attention_prefill": ORANGE, "attention_decode": RED,
    "attention_training": YELLOW, "elementwise": GREEN, "elementwise_stream": BLACK, "power": PURPLE,
}  # fmt: skip
HEAT_TOP = 0.2  # median error at which the colour is darkest


def shipped_fits() -> Files:
    """The catalog's own calibration, power included."""
    return {(file.device, file.operator): file for file in fit_files()}


def fits_frame(files: Files) -> pd.DataFrame:
    """A row a fit: errors on sizes kept out of it (shares of the measured time), whether it meets its targets, and
    where it is from. Links are a device of the name "links", each link a kernel.
    """
    rows = []
    for device in devices_of(files):
        for kernel in kernels_of(files, device):
            file = files[device, kernel]
            for number, fit in enumerate(file.fit):
                judged = fit.held_out
                rows.append(
                    {
                        "device": device,
                        "kernel": kernel,
                        "format": fit.key,
                        "points": fit.points,
                        "kept_out": judged.points,
                        "median": judged.median,
                        "p90": judged.p90,
                        "bias": judged.bias,
                        "coverage": judged.coverage,
                        "targets": meets(file, judged),
                        "grade": fit.source.grade,
                        "fitted": file.date.isoformat(),
                        "source": fit.source.text,
                        "valid_for": sizes_text(fit),
                        "plain": number == 0,  # the first format of a kernel: the 16-bit one, without variants
                    }
                )
    return pd.DataFrame(rows)


def honest(fits: pd.DataFrame) -> pd.Series:
    """Does the 90 % interval hold as many kept-out points as it should? True also where they are too few to say."""
    low, high = COVERAGE
    return fits["coverage"].between(low, high) | (fits["kept_out"] < FEW)


def error_map(fits: pd.DataFrame) -> go.Figure:
    """Median error on sizes kept out, devices by kinds of kernels, plain formats; the darker the worse."""
    plain = fits[fits["plain"] & (fits["device"] != LINKS)]
    kernels = [kernel for kernel in KERNEL_COLOURS if kernel in set(plain["kernel"])]
    table = plain.pivot_table(index="device", columns="kernel", values="median")[kernels]
    values = table.to_numpy(float)
    text = [["" if np.isnan(value) else f"{value:.1%}" for value in row] for row in values]
    figure = go.Figure()
    figure.add_heatmap(
        z=values, x=[kernel.replace("_", "<br>") for kernel in kernels], y=list(table.index), text=text,
        texttemplate="%{text}", textfont={"size": 13}, colorscale=[[0, "#ffffff"], [1, "#b35900"]],
        zmin=0, zmax=HEAT_TOP, showscale=False, xgap=3, ygap=3,
        hovertemplate="%{y}<br>median error %{text}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(side="top", showgrid=False, tickfont_size=11)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return _styled(figure, 70 + 34 * len(table))


def coverage_strip(fits: pd.DataFrame) -> go.Figure:
    """Share of kept-out points inside the 90 % interval, a row a device, a mark a fit; the band is what is honest."""
    devices = list(dict.fromkeys(fits["device"]))
    rows = {device: -number for number, device in enumerate(devices)}
    figure = go.Figure()
    figure.add_vrect(x0=COVERAGE[0], x1=COVERAGE[1], fillcolor="#cccccc", opacity=0.45, line_width=0)
    figure.add_vline(x=0.9, line={"color": "#555", "width": 1, "dash": "dot"})
    kinds = fits["kernel"].where(fits["device"] != LINKS, LINKS)
    for kind in (*KERNEL_COLOURS, LINKS):
        part = fits[kinds == kind]
        if not len(part):
            continue
        offset = 0.22 * np.sin(np.arange(len(part)) * 2.4)
        figure.add_scatter(
            x=part["coverage"], y=part["device"].map(rows) + offset, mode="markers", name=kind.replace("_", " "),
            text=part["kernel"] + " " + part["format"] + part["kept_out"].map("<br>{:,} sizes kept out".format),
            hovertemplate="%{text}<br>%{x:.0%} inside<extra></extra>",
            marker={"size": 8, "color": KERNEL_COLOURS.get(kind, BLACK), "opacity": 0.8},
        )  # fmt: skip
    figure.update_xaxes(
        title="inside the 90 % interval", tickformat=".0%", range=[min(0.5, fits["coverage"].min()) - 0.02, 1.02]
    )
    figure.update_yaxes(
        tickvals=list(rows.values()), ticktext=devices, range=[-len(devices) + 0.4, 0.6], zeroline=False
    )
    return _styled(figure, 110 + 46 * len(devices), {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0})


def _styled(figure: go.Figure, height: int, legend: dict[str, Any] | None = None) -> go.Figure:
    margin = {"l": 10, "r": 10, "t": 10 if legend is None else 60, "b": 10}
    figure.update_layout(template="plotly_white", height=height, font=FONT, margin=margin, legend=legend or {})
    figure.update_xaxes(automargin=True)
    return figure.update_yaxes(automargin=True)
