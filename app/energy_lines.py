"""A run's energy in a few lines: what it was spent on, what it came to, and at whose figures."""

from __future__ import annotations

from typing import Any

from sim.metrics import plain

PARTS = {
    "prompt": "prompts", "decode": "decoding", "passes": "passes", "optimizer": "optimizer", "waiting": "waiting",
    "exchanges": "exposed exchanges between copies", "smoothing": "power smoothing",
    "unused": "unused GPUs", "servers": "rest of the servers", "site": "cooling and other overhead of the site",
}  # fmt: skip
LEAST = 0.0005  # share of the whole that is worth a word


def energy_lines(summary: dict[str, Any]) -> list[str]:
    """Of serving or training; nothing where nothing was drawn, or the run is of a version that had no account."""
    energy = summary.get("energy")
    if energy is None:
        return []
    lines = [_parts(energy), _each(energy), _terms(energy)]
    if (training := energy.get("training")) is not None:
        lines.append(
            f"beside it the training in the row: {plain(training['site_kwh'])} kWh of the site,"
            f" {plain(training['site_j_per_token'])} J a token, {plain(training['kgco2e'])} kgCO2e"
        )
    if (whole := summary.get("time_to_train")) is not None:
        lines.insert(2, _whole(whole["energy"]))
    return lines


def _parts(energy: dict[str, Any]) -> str:
    parts = energy["parts_j"]
    whole = sum(parts.values())
    shares = [f"{PARTS[name]} {joules / whole:.1%}" for name, joules in parts.items() if joules >= LEAST * whole]
    return f"energy: {plain(whole / 3.6e6)} kWh of the site: {', '.join(shares)}"


def _each(energy: dict[str, Any]) -> str:
    if "site_j_per_token" in energy:
        return (
            f"a token: {plain(energy['site_j_per_token'])} J of the site; a billion tokens:"
            f" {plain(energy['kgco2e_per_billion_tokens'])} kgCO2e, {plain(energy['usd_per_billion_tokens'])} USD of"
            " electricity"
        )
    if energy["wh_per_request"] is None or energy["prompt_j_per_token"] is None:
        return "no request finished"
    return (
        f"GPUs: {plain(energy['prompt_j_per_token'])} J a prompt token, {plain(energy['decode_j_per_token'])} J a"
        f" token decoded; a request, at the site: {plain(energy['wh_per_request'])} Wh,"
        f" {plain(energy['gco2e_per_request'])} gCO2e; a million output tokens:"
        f" {plain(energy['usd_per_million_output_tokens'])} USD of electricity"
    )


def _whole(whole: dict[str, Any]) -> str:
    made = whole["kgco2e_embodied"]
    carbon = f"{plain(whole['kgco2e'] / 1e3)} tCO2e"
    if made is not None:
        carbon += f", of which {plain(made / 1e3)} for making the servers"
    return f"the whole training: {plain(whole['site_kwh'])} kWh, {carbon}, {plain(whole['usd'])} USD of electricity"


def _terms(energy: dict[str, Any]) -> str:
    grades = ", ".join(f"{name} {grade}" for name, grade in energy["grades"].items())
    return (
        f"counted at PUE {energy['pue']:g}, {plain(energy['gco2e_per_kwh'])} gCO2e/kWh ({energy['grid']}),"
        f" {plain(energy['usd_per_kwh'])} USD/kWh ({grades})"
    )
