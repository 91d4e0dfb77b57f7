"""A self-contained page about how far predictions of kernels are off: a section a device, tables, then pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from app.fidelity_figures import as_json, parity, residuals
from app.html_page import page_html
from calibration.report.errors import Errors
from calibration.report.judge import HELD_OUT, PARTS, Files, Judged
from calibration.report.markdown import devices_of, fingerprint, kernels_of, percent, sizes_text
from calibration.report.targets import COVERAGE, ERRORS, missed, targets
from hardware_models.fits import REGIMES, FitFile, KernelFit
from hardware_models.link_parameters import FOLDER as LINKS
from hardware_models.link_parameters import REGIMES as LINK_REGIMES

PAGE_STYLE = """
body { max-width: 1280px; } td, th { padding: .2rem .55rem; font-size: .88rem; white-space: nowrap; }
td.text, th.text { text-align: left; } td.wrap { white-space: normal; min-width: 16rem; text-align: left; }
nav a { margin-right: .9rem; } h2 { border-top: 2px solid #ddd; padding-top: 1rem; } h3 { margin: 1.2rem 0 .2rem; }
h4 { margin: .8rem 0 0; font-weight: 600; color: #444; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; } .figure { min-height: 430px; }
@media (max-width: 900px) { .pair { grid-template-columns: 1fr; } }
details { margin: .4rem 0; } summary { cursor: pointer; color: #444; }
"""
# Draws a picture when it comes near the window: pages of a hundred pictures open at once.
SCRIPT = """
const draw = new IntersectionObserver((seen) => { for (const one of seen) if (one.isIntersecting) {
  draw.unobserve(one.target);
  const figure = JSON.parse(one.target.firstElementChild.textContent);
  Plotly.newPlot(one.target, figure.data, figure.layout, {responsive: true, displayModeBar: false});
} }, {rootMargin: "800px"});
document.querySelectorAll(".figure").forEach((one) => draw.observe(one));
"""


def fidelity_page(files: Files, judged: Sequence[Judged], errors: Sequence[Errors]) -> str:
    """The page as one string; it needs no network, and the same calibration and data give the same page.

    judged and errors: of published points, alike in order; empty: only what the fits' files say.
    """
    devices = devices_of(files)
    links = " ".join(f'<a href="#{escape(device)}">{escape(device)}</a>' for device in devices)
    sections = "".join(_device(device, files, judged, errors) for device in devices)
    body = f"""\
<p>How far predicted times are off the measured ones, calibration <code>{fingerprint(files)}</code>. Errors are shares
of the measured time, on whole regions of sizes that a fit has not seen. Targets: a median of at most {_targets()}, and
{COVERAGE[0]:.0%} to {COVERAGE[1]:.0%} of the points inside the 90 % interval;
<span class="missed">what misses its target is red</span>. The last columns of a table are error bars: the standard
deviation of log(measured / predicted), by what takes most of a kernel's time.</p>
<nav>{links}</nav>
<h3>Median error on held-out sizes, plain kernels</h3><div class="wide">{_overview(files)}</div>
{sections}
<script>{SCRIPT}</script>"""
    return page_html("Fidelity of calibrated kernels", body, PAGE_STYLE)


def _targets() -> str:
    return ", ".join(f"{percent(median)} ({kernel})" for kernel, (median, _) in ERRORS.items())


def _overview(files: Files) -> str:
    """Devices by kinds of kernels: the first format of each, which is the 16-bit one."""
    devices = [device for device in devices_of(files) if device != LINKS]
    kernels = list(dict.fromkeys(kernel for device in devices for kernel in kernels_of(files, device)))
    rows = ""
    for device in devices:
        cells = ""
        for kernel in kernels:
            file = files.get((device, kernel))
            cells += _share(file.fit[0].held_out.median, targets(file)[0]) if file else "<td>-</td>"
        rows += f"<tr><td>{escape(device)}</td>{cells}</tr>"
    return f"<table><tr><th></th>{''.join(f'<th>{escape(kernel)}</th>' for kernel in kernels)}</tr>{rows}</table>"


def _device(device: str, files: Files, judged: Sequence[Judged], errors: Sequence[Errors]) -> str:
    own = [files[device, kernel] for kernel in kernels_of(files, device)]
    mine = [one for one in judged if one.device == device]
    html = f'<h2 id="{escape(device)}">{escape(device)}</h2><div class="wide">{_fits_table(own)}</div>{_sources(own)}'
    for part in PARTS[1:]:
        rows = [one for one in errors if (one.device, one.part) == (device, part)]
        if rows:
            html += f"<h4>{escape(part.capitalize())}</h4>" + f'<div class="wide">{_errors_table(rows)}</div>'
    for kernel in dict.fromkeys(one.operator for one in mine):
        chosen = [one for one in mine if one.operator == kernel]
        drawn = [parity(chosen), *([residuals(chosen)] if any(one.part == HELD_OUT for one in chosen) else [])]
        pictures = "".join(
            f'<div class="figure"><script type="application/json">{as_json(figure)}</script></div>' for figure in drawn
        )
        html += f"<h3>{escape(device)}: {escape(kernel)}</h3>"
        html += f'<div class="pair">{pictures}</div>'
    return html


def _fits_table(files: Sequence[FitFile]) -> str:
    regimes = LINK_REGIMES if files[0].device == LINKS else REGIMES
    names = ("format", "points", "kept out", "median", "p90", "bias", "in 90 %", *regimes)
    head = f"<th>{'link' if files[0].device == LINKS else 'kernel'}</th><th class='text'>format</th>"
    head += "".join(f"<th>{name}</th>" for name in names[1:])
    rows = "".join(_fit_row(file, fit, regimes) for file in files for fit in file.fit)
    return f"<table><tr>{head}</tr>{rows}</table>"


def _fit_row(file: FitFile, fit: KernelFit, regimes: Sequence[str]) -> str:
    judged, (median, p90) = fit.held_out, targets(file)
    honest = ' class="missed"' if "interval" in missed(file, judged) else ""
    sigma = "".join(f"<td>{percent(math.hypot(fit.residual[name], fit.doubt.get(name, 0.0)))}</td>" for name in regimes)
    return (
        f"<tr><td>{escape(file.operator)}</td><td class='text'>{escape(fit.key)}</td><td>{fit.points:,}</td>"
        f"<td>{judged.points:,}</td>{_share(judged.median, median)}{_share(judged.p90, p90)}"
        f"<td>{percent(judged.bias, sign=True)}</td><td{honest}>{judged.coverage * 100:.0f} %</td>{sigma}</tr>"
    )


def _errors_table(errors: Sequence[Errors]) -> str:
    head = "<th>kernel</th><th class='text'>format</th><th class='text'>benchmark</th>"
    head += "".join(f"<th>{name}</th>" for name in ("points", "median", "p90", "bias", "in 90 %", "rank correlation"))
    rows = "".join(
        f"<tr><td>{escape(one.operator)}</td><td class='text'>{escape(one.key)}</td>"
        f"<td class='text'>{escape(one.origin)}</td><td>{one.points:,}</td><td>{percent(one.median)}</td>"
        f"<td>{percent(one.p90)}</td><td>{percent(one.bias, sign=True)}</td><td>{one.coverage * 100:.0f} %</td>"
        f"<td>{'-' if math.isnan(one.rank) else f'{one.rank:.3f}'}</td></tr>"
        for one in errors
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _sources(files: Sequence[FitFile]) -> str:
    """Where each fit comes from and what it is valid for, folded away."""
    rows = ""
    for file in files:
        for fit in file.fit:
            rows += (
                f"<tr><td>{escape(file.operator)}</td><td class='text'>{escape(fit.key)}</td>"
                f"<td>{fit.source.grade}</td><td>{file.date.isoformat()}</td>"
                f"<td class='wrap'>{escape(fit.source.text)}</td><td class='wrap'>{escape(sizes_text(fit))}</td></tr>"
            )
    head = "<th></th><th class='text'>format</th><th>grade</th><th>fitted</th><th class='text'>source</th>"
    table = f"<table><tr>{head}<th class='text'>valid for</th></tr>{rows}</table>"
    return f'<details><summary>Sources, dates and valid sizes</summary><div class="wide">{table}</div></details>'


def _share(value: float, target: float) -> str:
    return f'<td class="{"missed" if value > target else "met"}">{percent(value)}</td>'
