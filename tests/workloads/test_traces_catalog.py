"""Workloads drawn from the catalog measure what the raw traces do."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from hardware_models.errors import FleetcastError
from workloads.traces import read_trace
from workloads.traces.catalog import catalog_entry, catalog_names, catalog_trace
from workloads.traces.distill import RECIPES, distil
from workloads.traces.distill_fit import dispersion, spread_batches
from workloads.traces.distill_servegen import POOLS, distil_pool
from workloads.traces.distill_toml import to_toml

RAW = Path(__file__).resolve().parents[3] / "shared" / "data"
DAY_S = 86_400.0
SCALES = {"servegen-m-small": 0.005}  # a whole day of it is 1e8 requests
needs_raw = pytest.mark.skipif(not RAW.is_dir(), reason="the raw traces are not here")


def day(name, seed=1):
    if "mean_rate_per_s" in catalog_entry(name)["figures"]:
        return catalog_trace(name, seed, duration_s=DAY_S, rate_scale=SCALES.get(name, 1.0))
    return catalog_trace(name, seed, num_requests=300_000)


def gap_cv(table):
    gaps = np.diff(table.arrival_s)
    return gaps.std() / gaps.mean()


def check_lengths(table, prompt, output):
    for column, wanted in ((table.prompt_tokens, prompt), (table.output_tokens, output)):
        found = np.quantile(column, [0.5, 0.9, 0.99], method="inverted_cdf")
        assert found == pytest.approx(wanted, rel=0.02)


def test_the_catalog_holds_the_traces_we_name():
    assert catalog_names() == sorted([*RECIPES, *POOLS])
    for name in catalog_names():
        entry = catalog_entry(name)
        assert entry["schema"] == 1
        assert entry["name"] == name
        assert entry["source"]
        assert entry["licence"]


@pytest.mark.parametrize("name", catalog_names())
def test_a_day_has_the_lengths_rate_and_burstiness_of_its_figures(name):
    figures = catalog_entry(name)["figures"]
    table = day(name)
    check_lengths(
        table,
        [figures[f"prompt_p{p}"] for p in (50, 90, 99)],
        [figures[f"output_p{p}"] for p in (50, 90, 99)],
    )
    if "mean_rate_per_s" in figures:
        wanted = figures["mean_rate_per_s"] * SCALES.get(name, 1.0)
        assert len(table) / DAY_S == pytest.approx(wanted, rel=0.05)
    if "gap_cv" in figures:
        assert gap_cv(table) == pytest.approx(figures["gap_cv"], rel=0.10)
        assert dispersion(table.arrival_s, 10.0) == pytest.approx(figures["dispersion_10s"], rel=0.25)
    if "rank_correlation" in figures:
        found = spearmanr(table.prompt_tokens, table.output_tokens)[0]
        assert found == pytest.approx(figures["rank_correlation"], abs=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_the_burstiest_trace_keeps_its_cv_for_every_seed(seed):
    assert gap_cv(day("azure-code-2023", seed)) == pytest.approx(13.15, rel=0.10)


@needs_raw
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_day_measures_as_the_raw_trace(name):
    recipe = RECIPES[name]
    raw = read_trace(RAW / recipe.file, request_rate=None if recipe.has_arrivals else 1.0)
    table = day(name, seed=2)
    check_lengths(
        table,
        np.quantile(raw.prompt_tokens, [0.5, 0.9, 0.99], method="inverted_cdf"),
        np.quantile(raw.output_tokens, [0.5, 0.9, 0.99], method="inverted_cdf"),
    )
    if recipe.has_arrivals:
        arrival = raw.arrival_s if recipe.batch_s is None else spread_batches(raw.arrival_s, recipe.batch_s)
        gaps = np.diff(arrival)
        assert gap_cv(table) == pytest.approx(gaps.std() / gaps.mean(), rel=0.10)


@needs_raw
@pytest.mark.parametrize("name", [*RECIPES, "servegen-mm-image"])
def test_distilling_the_raw_trace_again_gives_the_catalog(name):
    again = distil_pool(name, RAW) if name in POOLS else distil(name, RECIPES[name], RAW)
    assert tomllib.loads(to_toml(again, "again")) == catalog_entry(name)


@pytest.mark.parametrize("name", ["mooncake-conversation", "mooncake-synthetic"])
def test_an_endless_prefix_cache_hits_as_often_as_measured(name):
    table = catalog_trace(name, 3)
    seen: set[int] = set()
    hits = blocks = 0
    assert table.prefix_hashes is not None
    for tokens, hashes in zip(table.prompt_tokens, table.prefix_hashes, strict=True):
        assert len(hashes) == -(-tokens // 512)
        hits += next((k for k, one in enumerate(hashes) if one not in seen), len(hashes))
        blocks += len(hashes)
        seen.update(hashes)
    assert hits / blocks == pytest.approx(catalog_entry(name)["prefix"]["hit_fraction"], rel=0.06)


@pytest.mark.parametrize("name", ["azure-conv-2023", "azure-code-2023", "mooncake-conversation"])
def test_the_same_seed_gives_the_same_bytes(name):
    one, two, other = (catalog_trace(name, seed, duration_s=300) for seed in (4, 4, 5))
    for column in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert getattr(one, column).tobytes() == getattr(two, column).tobytes()
    assert one.prefix_hashes == two.prefix_hashes
    assert one.arrival_s.tobytes() != other.arrival_s.tobytes()


@pytest.mark.parametrize("name", ["azure-conv-2023", "azure-code-2023", "sharegpt", "servegen-mm-image"])
def test_a_scaled_rate_brings_that_many_more_requests_with_the_same_lengths(name):
    plain, twice = (catalog_trace(name, 6, duration_s=DAY_S, rate_scale=scale) for scale in (1.0, 2.0))
    assert len(twice) / len(plain) == pytest.approx(2.0, rel=0.05)
    if name != "servegen-mm-image":
        assert np.array_equal(plain.prompt_tokens, twice.prompt_tokens[: len(plain)])
        assert np.array_equal(plain.output_tokens, twice.output_tokens[: len(plain)])


def test_a_steady_trace_scaled_is_the_trace_with_its_times_divided():
    plain, scaled = (catalog_trace("azure-code-2023", 6, num_requests=500, rate_scale=s) for s in (1.0, 3.0))
    assert scaled.arrival_s == pytest.approx(plain.scale_rate(3.0).arrival_s)


def test_without_an_extent_a_trace_is_as_long_as_it_was():
    assert catalog_trace("azure-conv-2023", 0).duration_s == pytest.approx(3502, abs=30)
    assert len(catalog_trace("sharegpt", 0)) == catalog_entry("sharegpt")["figures"]["requests"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: catalog_trace("azure-conv", 0), "trace: unknown name 'azure-conv'; did you mean 'azure-conv-2023'"),
        (lambda: catalog_trace("sharegpt", 0, rate_scale=0), "rate_scale = 0: give a number above 0"),
        (lambda: catalog_trace("sharegpt", 0, duration_s=-1), "duration_s = -1"),
        (lambda: catalog_trace("sharegpt", 0, num_requests=0), "num_requests = 0"),
        (lambda: catalog_trace("sharegpt", 0, duration_s=1e-6), "holds no requests before duration_s = 1e-06"),
        (lambda: catalog_trace("servegen-m-small", 0, duration_s=DAY_S), "about 1.03e\\+08 requests, more than"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(FleetcastError, match=message):
        call()
