"""Every constant that a forecast rests on as one table, to be searched; and two devices side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd

from app.catalog_view import HARDWARE, matrix_ends, spec_of
from hardware_models import catalog
from hardware_models.fits import FOLDER, FitFile, read_fit_file
from hardware_models.framework import framework, framework_names
from hardware_models.provenance import Source
from hardware_models.specs import Spec

COLUMNS = ("kind", "name", "figure", "value", "grade", "source", "as_written")
# Longest suffix first: what a key is measured in, its display unit at each size.
UNITS: tuple[tuple[str, str, tuple[tuple[float, str], ...]], ...] = (
    ("_flop_per_s", "FLOP/s", ((1e15, "P"), (1e12, "T"), (1e9, "G"))),
    ("_bytes_per_s", "B/s", ((1e12, "T"), (1e9, "G"), (1e6, "M"))),
    ("_bytes", "B", ((1e12, "T"), (1e9, "G"), (1e6, "M"))),
    ("_hz", "Hz", ((1e9, "G"), (1e6, "M"))),
    ("_usd_per_h", "USD/h", ((1.0, ""),)),
    ("_iops", "/s", ((1e6, "M"), (1e3, "k"))),
    ("_w", "W", ((1e3, "k"), (1.0, ""))),
    ("_s", "s", ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))),
)
WORDS = {
    "cpu": "CPU", "dram": "host memory", "gpu": "GPU", "gpus": "GPUs", "idle": "idle power", "iops": "IOPS",
    "l2": "L2 cache", "nic": "network card", "nics": "network cards", "pcie": "PCIe", "sm": "SM", "ssd": "SSD",
    "ssds": "SSDs", "tdp": "power limit (TDP)", "peer": "nearest peer's",
}  # fmt: skip


def constants(own: Iterable[tuple[str, Spec]] = ()) -> pd.DataFrame:
    """A row a number: kind of thing, its name, the figure, how a person reads it, grade, source, and as it is written.

    own: kinds and specs of a user's own hardware, before the catalog's.
    """
    rows = [row for kind, spec in own for row in _spec_rows(f"your {kind}", spec)]
    for kind in HARDWARE:
        for name in catalog.names(kind):
            rows += _spec_rows(kind.removesuffix("s").replace("_", " "), spec_of(kind, name))
    for name in framework_names():
        rows += _engine_rows(name)
    rows += [row for file in fit_files() for row in _fit_rows(file)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def search(table: pd.DataFrame, text: str) -> pd.DataFrame:
    """Rows that hold every word of the text somewhere, whatever its case."""
    found = table
    whole = table.astype(str).agg(" ".join, axis=1).str.lower()
    for word in text.lower().split():
        found = found[whole.loc[found.index].str.contains(word, regex=False)]
    return found


def compared(first: Spec, second: Spec) -> pd.DataFrame:
    """A row a figure of either: both values, second over first (NaN where that says nothing), and both grades."""
    figures = dict.fromkeys([*_figures(first), *_figures(second)])
    rows = []
    for key in figures:
        values = [_figures(spec).get(key) for spec in (first, second)]
        grades = [
            spec.source_of(key).grade if value is not None else ""
            for spec, value in zip((first, second), values, strict=True)
        ]
        rows.append(
            {
                "figure": label(key),
                first.name: value_text(key, values[0]),
                second.name: value_text(key, values[1]),
                "ratio": _ratio(*values),
                "grades": grades[0] if grades[0] == grades[1] else " / ".join(grade or "-" for grade in grades),
            }
        )
    return pd.DataFrame(rows)


def label(key: str) -> str:
    """A key as a person says it: `memory bandwidth`, `peak, bf16`."""
    head, _, entry = key.partition(".")
    for suffix, _, _ in UNITS:
        if head.endswith(suffix):
            head = head.removesuffix(suffix)
            break
    words = " ".join(WORDS.get(word, word) for word in head.replace("_per_gpu_h", "_an_hour").split("_"))
    return f"{words}, {entry}" if entry else words


def value_text(key: str, value: Any) -> str:
    """A figure with its unit, which its key names: `3.35 TB/s`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        ends = [value_text(key, end) for end in matrix_ends(value) or ()]
        return f"{len(value)} x {len(value)}, {' to '.join(ends)}" if ends else str(value)
    head = key.partition(".")[0].replace("usd_per_gpu_h", "x_usd_per_h")
    for suffix, unit, scales in UNITS:
        if head.endswith(suffix):
            scale, prefix = next((pair for pair in scales if abs(value) >= 0.9995 * pair[0]), scales[-1])
            return f"{value / scale:,.4g} {prefix}{unit}"
    if head.endswith("_fraction"):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def fit_files() -> Iterator[FitFile]:
    """The shipped calibrations, devices and kernels by name."""
    for path in sorted(FOLDER.glob("*/*.toml")):
        yield read_fit_file(path)


def _figures(spec: Spec) -> dict[str, Any]:
    """Keys and values, an entry of a table each; what is absent is left out."""
    found: dict[str, Any] = {}
    for key, value in spec.model_dump(exclude={"name", "source"}).items():
        if isinstance(value, dict):
            found |= {f"{key}.{entry}": number for entry, number in value.items()}
        elif value is not None:
            found[key] = value
    return found


def _spec_rows(kind: str, spec: Spec) -> list[list[str]]:
    return [_row(kind, spec.name, key, value, spec.source_of(key)) for key, value in _figures(spec).items()]


def _engine_rows(name: str) -> list[list[str]]:
    profile = framework(name)
    figures = profile.model_dump(exclude={"name", "source"}).items()
    return [
        _row("engine", name, key, value, profile.source.get(key, profile.source["default"])) for key, value in figures
    ]


def _fit_rows(file: FitFile) -> list[list[str]]:
    rows = []
    for fit in file.fit:
        what = f"{file.operator} {fit.key}"
        judged = fit.held_out
        error = f"{judged.median:.1%} median, {judged.p90:.1%} p90, of {judged.points:,} sizes kept out"
        rows.append(["calibration", file.device, f"{what}: error", error, fit.source.grade, fit.source.text, ""])
        for name, value in fit.parameters.items():
            row = _row("calibration", file.device, name, value, fit.source)
            rows.append([*row[:2], f"{what}: {label(name)}", *row[3:]])
    return rows


def _row(kind: str, name: str, key: str, value: Any, source: Source) -> list[str]:
    written = f"{key} = {value}"
    return [kind, name, label(key), value_text(key, value), source.grade, source.text, written]


def _ratio(first: Any, second: Any) -> float:
    numbers: Callable[[Any], bool] = lambda x: isinstance(x, int | float) and not isinstance(x, bool)  # noqa: E731
    return second / first if numbers(first) and numbers(second) and first else math.nan
