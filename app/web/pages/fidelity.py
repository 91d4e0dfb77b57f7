"""The Fidelity page: how far forecasts are off, of whole systems and of kernels, and how far to trust what."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.fidelity_view import coverage_strip, error_map, fits_frame, honest, shipped_fits
from app.validation import Validation, frame_of, overview, ranges_met, read_validation
from app.validation_figures import parity, residuals
from app.web.cards import Card
from app.web.components import cards, figure, grade_html, table
from calibration.report.markdown import fingerprint
from calibration.report.targets import COVERAGE, ERRORS
from hardware_models.calibrated_kernel import transfer_spread
from hardware_models.link_parameters import FOLDER as LINKS

TITLE = "Fidelity"
ICON = ":material/verified:"
FAMILY, DEVICE = "family", "device"  # keys of the choices, and of the URL
PERCENT = ("median", "p90", "bias", "coverage")
TRUST = (
    ("measured", "fitted to timings of this very device, or software. Trust it within the interval shown; the tables"
     " below say how often that holds."),
    ("quoted", "a data sheet's or a paper's figure. Right as far as its maker is; peaks are not reached in practice,"
     " which the calibration accounts for."),
    ("assumed", "carried over from measured relatives by the data sheet, or a usual value. Good for directions and"
     " rough sizes; measure before you buy."),
)  # fmt: skip


@st.cache_data(show_spinner=False)
def _validation() -> Validation:
    return read_validation()


@st.cache_data(show_spinner=False)
def _fits() -> tuple[pd.DataFrame, str]:
    files = shipped_fits()
    return fits_frame(files), fingerprint(files)


def render() -> None:
    """Draw the page."""
    st.header("How far forecasts are off", anchor=False)
    validation = _validation()
    everything = frame_of(validation.rows)
    fits, calibration = _fits()
    cards(_headline(everything, fits))
    _trust()
    st.header("Whole systems, as published", anchor=False)
    families = sorted({str(study).partition("/")[0] for study in everything["study"]})
    family = st.selectbox("family", families, None, key=FAMILY, bind="query-params", placeholder="all families")
    _systems(everything if family is None else everything[everything["study"].str.startswith(f"{family}/")], validation)
    st.header("Kernels, on sizes that no fit has seen", anchor=False)
    _kernels(fits, calibration)


def _headline(everything: pd.DataFrame, fits: pd.DataFrame) -> list[Card]:
    judged = everything[everything["published_low"].notna() & ~everything["in_sample"].astype(bool)]
    ranged = judged["published_low"] < judged["published_high"]
    errors = judged["error_fraction"].abs()[~ranged]
    plain = fits[fits["plain"] & (fits["device"] == "h100-sxm")].set_index("kernel")["median"]
    found = [
        Card(label="published figures", value=str(len(errors)), note="unseen by any fit"),
        Card(label="median error of them", value=f"{errors.median():.0%}", note=f"{errors.max():.0%} at worst"),
        Card(label="within 25 % of them", value=f"{(errors <= 0.25).mean():.0%}"),
        Card(label="published ranges met", value=f"{ranges_met(judged[ranged])} of {int(ranged.sum())}"),
    ]
    names = {"gemm": "dense products, H100", "attention_decode": "decode attention, H100"}
    found += [
        Card(label=label, value=f"{plain[key]:.1%}", note="median error, sizes kept out")
        for key, label in names.items()
        if key in plain
    ]
    note = f"of {len(fits)}: {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%} of points inside"
    return [*found, Card(label="fits with honest intervals", value=f"{honest(fits).mean():.0%}", note=note)]


def _trust() -> None:
    """What the grades mean, and how wide a device without measurements is."""
    st.subheader("How far to trust what", anchor=False)
    st.html("".join(f'<p class="fc-line">{grade_html(grade)} {text}</p>' for grade, text in TRUST))
    family, strangers = transfer_spread("attention_decode", "family"), transfer_spread("attention_decode", "any")
    products = transfer_spread("gemm", "family")
    st.markdown(
        "Error bars are 90 % intervals of what the calibration knows of itself: scatter around each fit, doubt in its"
        " parameters, and twice as much for sizes that nobody measured. A device that nobody timed costs more: priced"
        f" from measured relatives of its family, dense products miss by {products:.0%} and decode attention by"
        f" {family:.0%} (one standard deviation); from devices outside its family, decode attention by {strangers:.0%}."
        " What no error bar holds: a framework's version that differs from the profile's, and traffic unlike the"
        " workload's. Compare designs on the same hardware rather than absolute figures across vendors."
    )


def _systems(everything: pd.DataFrame, validation: Validation) -> None:
    st.caption(
        f"{validation.said()} Hollow marks: a fit has seen the figure. Bars: ranges, and what a paper leaves open."
    )
    left, right = st.columns(2)
    with left:
        figure(parity(everything), key="parity")
    with right:
        figure(residuals(everything), key="residuals")
    shown = overview(everything)
    shown["median error"] = shown.pop("median_error_fraction").map(_percent)
    shown["largest error"] = shown.pop("worst_error_fraction").map(_percent)
    shown = shown[
        ["study", "figures", "judged", "ranges", "ranges_met", "median error", "largest error", "title", "paper"]
    ]
    shown = shown.rename(columns={"judged": "unseen by a fit", "ranges_met": "ranges met"})
    table(shown, key="studies", file_name="fleetcast-studies")


def _kernels(fits: pd.DataFrame, calibration: str) -> None:
    targets = ", ".join(f"{kernel.replace('_', ' ')} {median:.0%}" for kernel, (median, _) in ERRORS.items())
    st.caption(
        f"Calibration {calibration}. Errors are shares of the measured time, on whole regions of sizes kept out of a"
        f" fit. Targets of the median: {targets}; of the 90 % interval: {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%} of the"
        " points inside."
    )
    left, right = st.columns(2)
    with left:
        st.markdown("**Median error, 16-bit formats**")
        figure(error_map(fits), key="error-map")
    with right:
        st.markdown("**Honesty of the 90 % intervals, every fit**")
        figure(coverage_strip(fits), key="coverage")
    devices = list(dict.fromkeys(fits["device"]))
    device = st.selectbox("device", devices, None, key=DEVICE, bind="query-params", placeholder="all devices and links")
    mine = fits if device is None else fits[fits["device"] == device]
    if device is not None:
        cards(_device_cards(mine, device))
    shown = mine.drop(columns="plain").copy()
    for name in PERCENT:
        shown[name] = [f"{value:+.1%}" if name == "bias" else f"{value:.1%}" for value in shown[name]]
    table(shown, key=f"fits:{device}", file_name=f"fleetcast-fits-{device or 'all'}")


def _device_cards(mine: pd.DataFrame, device: str) -> list[Card]:
    """One device at a glance."""
    count = "links and libraries" if device == LINKS else "fits"
    worst = mine.iloc[int(mine["median"].to_numpy().argmax())]
    met = mine["targets"].isin(["met", "-"])
    return [
        Card(label=count, value=str(len(mine)), note=f"{int(mine['points'].sum()):,} timings"),
        Card(label="meet their targets", value=f"{int(met.sum())} of {len(mine)}"),
        Card(label="largest median error", value=f"{worst['median']:.1%}", note=f"{worst['kernel']} {worst['format']}"),
        Card(label="honest intervals", value=f"{int(honest(mine).sum())} of {len(mine)}"),
    ]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == share else ""  # noqa: PLR0124
