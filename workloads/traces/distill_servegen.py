"""Distils ServeGen's client pools: the largest clients each by themselves, the small ones as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workloads.randomness import stream
from workloads.request import FloatArray
from workloads.traces.distill_fit import knots

if TYPE_CHECKING:
    import pandas as pd

HOURS = 24
LARGEST = 24
SOURCE = "alibaba/ServeGen@f891d1189eb3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One client pool of the source."""

    pool: str
    title: str
    default_duration_s: float
    notes: tuple[str, ...] = ()


NOTES = (
    "A sum of clients: each has its own rate by hour of day, gap CV and laws of length; its lengths are independent of "
    "each other, as the source gives no joint law.",
    f"The {LARGEST} largest clients stand alone; the rest are one client, whose gaps are Poisson (a sum of many).",
    "The source has no single arrivals, so there is no measured gap CV of the whole, and no prefix information.",
)

POOLS: dict[str, Pool] = {
    "servegen-m-small": Pool(
        pool="m-small",
        title="A general language model of Alibaba's cloud (m-small), two weeks folded into a day",
        default_duration_s=120.0,
        notes=("At full scale a day is 1e8 requests: give rate_scale.",),
    ),
    "servegen-deepseek-r1": Pool(
        pool="deepseek-r1",
        title="DeepSeek-R1 on Alibaba's cloud, one day",
        default_duration_s=3600.0,
        notes=("Output tokens include the reasoning.",),
    ),
    "servegen-mm-image": Pool(
        pool="mm-image",
        title="An image-and-text model of Alibaba's cloud, one day",
        default_duration_s=3600.0,
        notes=(
            "Prompt tokens are the text's plus, for every image, an independent draw of the client's image tokens "
            "(assumed: the source gives count and tokens apart).",
        ),
    ),
}


def distil_pool(name: str, raw: Path) -> dict[str, Any]:
    """Fit one pool."""
    import pandas as pd

    pool = POOLS[name]
    rates = pd.read_parquet(raw / "servegen" / "client_rates.parquet")
    rates = rates[rates["pool"] == pool.pool]
    lengths = pd.read_parquet(raw / "servegen" / f"token_pdf_{pool.pool}.parquet")
    weight = rates.groupby("client")["rate_rps"].sum().sort_values(ascending=False)
    order = [int(client) for client in weight.index]
    groups, rest = [[client] for client in order[:LARGEST]], order[LARGEST:]
    known = set(lengths["client"])
    unknown = sum(weight[client] for client in order if client not in known) / weight.sum()
    guessed = (
        f"Clients with {unknown:.0%} of the requests have no lengths in the source; they take the others' (assumed).",
    )
    clients = [_client(rates, lengths, group) for group in (*groups, rest)]
    rate = float(sum(np.mean(c["request_rate"]) for c in clients))
    return {
        "schema": 1,
        "name": name,
        "title": pool.title,
        "source": f"{SOURCE}, pool {pool.pool}",
        "licence": "Apache-2.0",
        "grade": "measured",
        "notes": [*NOTES, *pool.notes, *(guessed if unknown > 0.005 else ())],
        "default_duration_s": pool.default_duration_s,
        "figures": {"mean_rate_per_s": round(rate, 3)} | _figures(rates, lengths),
        "clients": clients,
    }


def _client(rates: pd.DataFrame, lengths: pd.DataFrame, members: list[int]) -> dict[str, Any]:
    """One client's table; `request_rate` is by hour of day, at the middle of each hour."""
    mine = rates[rates["client"].isin(members)]
    starts = rates["t_s"].drop_duplicates()  # of ten-minute windows; in one not listed the client had no requests
    windows = starts.groupby((starts % 86_400) // 3_600).count()
    sums = mine.groupby((mine["t_s"] % 86_400) // 3_600)["rate_rps"].sum()
    hourly = sums.reindex(range(HOURS), fill_value=0.0) / windows
    alone = len(members) == 1
    order = np.argsort(mine["cv"].to_numpy())
    share = np.cumsum(mine["rate_rps"].to_numpy()[order])
    cv = float(mine["cv"].to_numpy()[order][np.searchsorted(share, share[-1] / 2)]) if alone else 1.0
    entry: dict[str, Any] = {
        "name": f"client-{members[0]}" if alone else "rest",
        "gap_cv": float(f"{max(cv, 0.05):.4g}"),
        "request_rate": [float(f"{r:.4g}") for r in hourly],
    }
    for key in ("prompt_tokens", "output_tokens"):
        values, weights = _law(rates, lengths, members, key)
        p, tokens = knots(values, weights, tolerance=0.01, most=56)
        entry[key] = {"probabilities": p, "tokens": [round(t) for t in tokens]}
    return entry


def _law(
    rates: pd.DataFrame, lengths: pd.DataFrame, members: list[int], key: str
) -> tuple[NDArray[np.float64], FloatArray]:
    """Values and weights of a length: each client's windows by their requests, each client by all its requests."""
    known = [client for client in members if client in set(lengths["client"])]
    values, weights = [], []
    for client in known or sorted(set(lengths["client"])):
        mine = rates[rates["client"] == client]
        quarter = mine["t_s"].to_numpy() // 21_600
        requests = mine["rate_rps"].to_numpy(dtype=np.float64)
        laws, shares = [], []
        for start, window in lengths[lengths["client"] == client].groupby("t_s"):
            laws.append(_window(window, key))
            shares.append(requests[quarter == int(str(start)) // 21_600].sum())
        total = sum(shares)
        for (value, share), part in zip(laws, shares, strict=True):
            values.append(np.maximum(np.rint(value), 1))
            part_of_client = part / total if total > 0 else 1 / len(laws)
            weights.append(requests.sum() * part_of_client * share / share.sum())
    return np.concatenate(values), np.concatenate(weights)


def _window(window: pd.DataFrame, key: str) -> tuple[FloatArray, FloatArray]:
    fields = {
        str(field): (np.asarray(value, dtype=np.float64), np.asarray(share, dtype=np.float64))
        for field, value, share in zip(window["field"], window["value"], window["prob"], strict=True)
    }
    return _prompt(fields) if key == "prompt_tokens" else fields["output_tokens"]


def _prompt(fields: dict[str, tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """Prompt lengths; of texts with images, 20,000 draws of text plus that many images."""
    if "input_tokens" in fields:
        return fields["input_tokens"]
    rng = stream(0, "distill/images")

    def draw(field: str, count: int) -> FloatArray:
        values, share = fields[field]
        return np.asarray(rng.choice(values, count, p=share / share.sum()), dtype=np.float64)

    total = draw("text_tokens", 20_000)
    if "image_count" in fields:
        images = np.rint(draw("image_count", total.size)).astype(np.int64)
        tokens = draw("image_tokens", int(images.sum()))
        total += np.bincount(np.repeat(np.arange(total.size), images), weights=tokens, minlength=total.size)
    return total, np.ones(total.size)


def _figures(rates: pd.DataFrame, lengths: pd.DataFrame) -> dict[str, float]:
    """Quantiles of the pool's mixture; clients of unknown lengths are left out."""
    found: dict[str, float] = {}
    everyone = sorted(set(lengths["client"]))
    for name, key in (("prompt", "prompt_tokens"), ("output", "output_tokens")):
        values, weights = _law(rates, lengths, everyone, key)
        order = np.argsort(values, kind="stable")
        share = np.cumsum(weights[order]) / weights.sum()
        found[f"{name}_mean"] = float(f"{np.average(values, weights=weights):.5g}")
        for percent in (50, 90, 99):
            found[f"{name}_p{percent}"] = float(values[order][np.searchsorted(share, percent / 100)])
    return found
