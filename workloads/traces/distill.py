"""Distils raw traces into the catalog: `python -m workloads.traces.distill RAW_DIR [NAME ...]`.

RAW_DIR holds the published files in folders azure_llm_2023, mooncake_fast25, lengths, bench and servegen. Each entry
becomes catalog/NAME.toml beside this file: quantile tables and fits only, no rows of the raw data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.request import RequestTable
from workloads.traces import read_trace
from workloads.traces.distill_fit import (
    checkerboard,
    figures,
    fit_arrivals,
    fit_prefixes,
    knots,
    spread_batches,
)
from workloads.traces.distill_servegen import POOLS, distil_pool
from workloads.traces.distill_toml import to_toml

SCHEMA = 1
CATALOG = Path(__file__).parent / "catalog"
COMMENT = "Written by `python -m workloads.traces.distill`; change the script, not this file. Keys: docs of catalog.py."
TIE_BINS = 16
AZURE = "Azure/AzurePublicDataset@b469a113cedc"
MOONCAKE = "kvcache-ai/Mooncake@3b5a59413395"
NANOFLOW = "efeslab/Nanoflow@d6b381e58110"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one raw trace becomes an entry; `profile_bin_s` None means a steady rate."""

    file: str
    title: str
    source: str
    licence: str
    notes: tuple[str, ...]
    has_arrivals: bool = True
    profile_bin_s: float | None = None
    batch_s: float | None = None
    prefix_bins: int | None = None


LENGTHS_ONLY = "Lengths only: arrivals are Poisson at 1 request/s, assumed, so rate_scale is the rate in requests/s."
NO_PREFIX = "The source has no prefix information, so requests carry no prefix hashes."
HOUR = "The measured hour is repeated for longer runs: the source says nothing of the rest of the day."

RECIPES: dict[str, Recipe] = {
    "azure-conv-2023": Recipe(
        file="azure_llm_2023/AzureLLMInferenceTrace_conv.csv.gz",
        title="Azure production conversation service, 2023-11-16, 58 minutes",
        source=f"{AZURE}, AzureLLMInferenceTrace_conv.csv",
        licence="CC-BY-4.0",
        notes=(HOUR, "Rate per minute, and the gaps' own law on the warped clock.", NO_PREFIX),
        profile_bin_s=60.0,
    ),
    "azure-code-2023": Recipe(
        file="azure_llm_2023/AzureLLMInferenceTrace_code.csv.gz",
        title="Azure production code service, 2023-11-16, 57 minutes",
        source=f"{AZURE}, AzureLLMInferenceTrace_code.csv",
        licence="CC-BY-4.0",
        notes=(
            "Very bursty: gaps from milliseconds to minutes. No rate profile: its swings are the bursts themselves, "
            "so gaps come from their quantile table, with a memory that keeps short gaps together, and longer runs "
            "are stationary.",
            "The longest gap of the hour is the longest there ever is.",
            NO_PREFIX,
        ),
    ),
    "mooncake-conversation": Recipe(
        file="mooncake_fast25/conversation_trace.jsonl.gz",
        title="Kimi conversation service, 59 minutes",
        source=f"{MOONCAKE}, FAST25 conversation_trace.jsonl",
        licence="Apache-2.0",
        notes=(
            "The log's clock ticks every 3 s, so its gap CV of 3.03 is an artefact: requests of one tick are spread "
            "evenly over the 3 s after it before fitting, and figures.gap_cv is of the spread arrivals.",
            HOUR,
            "Prefix hashes are made up to the measured hit rate by prompt length and distance of reuse.",
        ),
        profile_bin_s=300.0,
        batch_s=3.0,
        prefix_bins=12,
    ),
    "mooncake-synthetic": Recipe(
        file="mooncake_fast25/synthetic_trace.jsonl.gz",
        title="Mooncake's synthetic mix of long-context data sets, 17 minutes",
        source=f"{MOONCAKE}, FAST25 synthetic_trace.jsonl",
        licence="Apache-2.0",
        notes=(
            "Arrivals are Poisson-like by construction.",
            "Prefix hashes are made up to the measured hit rate by prompt length and distance of reuse.",
        ),
        prefix_bins=12,
    ),
    "bench-poisson": Recipe(
        file="bench/workload_20000.csv.gz",
        title="Reference workload of 20,000 requests with conversation lengths",
        source="the project's reference workload (workload_20000.csv), whose origin is not stated",
        licence="not stated",
        notes=(
            "Its gaps are those of a Poisson process at 5 requests/s cut at 0.6 s, three mean gaps: "
            "hence 5.24 requests/s and a gap CV of 0.88, not 1. Lengths resemble azure-conv-2023.",
            NO_PREFIX,
        ),
    ),
    "sharegpt": Recipe(
        file="lengths/nanoflow_sharegpt.csv.gz",
        title="ShareGPT conversations, lengths",
        source=f"{NANOFLOW}, ShareGPT lengths",
        licence="see the source repository",
        notes=(LENGTHS_ONLY, NO_PREFIX),
        has_arrivals=False,
    ),
    "lmsys-chat": Recipe(
        file="lengths/nanoflow_lmsys.csv.gz",
        title="LMSYS-Chat conversations, lengths",
        source=f"{NANOFLOW}, LMSYS-Chat lengths",
        licence="see the source repository",
        notes=(LENGTHS_ONLY, NO_PREFIX),
        has_arrivals=False,
    ),
    "arxiv-summarization": Recipe(
        file="lengths/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz",
        title="arXiv summarisation, lengths by the Llama-2 tokenizer",
        source="microsoft/vidur@7d47513363ec, arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
        licence="MIT",
        notes=(LENGTHS_ONLY, NO_PREFIX),
        has_arrivals=False,
    ),
}


def distil(name: str, recipe: Recipe, raw: Path) -> dict[str, Any]:
    """Fit one raw trace."""
    table = read_trace(raw / recipe.file, request_rate=None if recipe.has_arrivals else 1.0)
    arrival = table.arrival_s if recipe.has_arrivals else None
    if arrival is not None and recipe.batch_s is not None:
        arrival = spread_batches(arrival, recipe.batch_s)
    entry: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "title": recipe.title,
        "source": recipe.source,
        "licence": recipe.licence,
        "grade": "measured",
        "notes": list(recipe.notes),
        "figures": figures(arrival, table.prompt_tokens, table.output_tokens),
    }
    fitted = {"request_rate": 1.0} if arrival is None else fit_arrivals(arrival, recipe.profile_bin_s)
    return entry | {"arrivals": fitted} | _lengths(table) | _prefix(table, recipe)


def _lengths(table: RequestTable) -> dict[str, Any]:
    laws: dict[str, Any] = {}
    for name, column in (("prompt_tokens", table.prompt_tokens), ("output_tokens", table.output_tokens)):
        probabilities, tokens = knots(column)
        laws[name] = {"probabilities": probabilities, "tokens": tokens}
    return laws | {"tie": {"weights": checkerboard(table.prompt_tokens, table.output_tokens, TIE_BINS)}}


def _prefix(table: RequestTable, recipe: Recipe) -> dict[str, Any]:
    return {} if recipe.prefix_bins is None else {"prefix": fit_prefixes(table, recipe.prefix_bins)}


def main(arguments: list[str]) -> int:
    """Write the entries asked for, or all."""
    if not arguments:
        sys.stderr.write((__doc__ or "") + "\n")
        return 2
    raw, names = Path(arguments[0]), arguments[1:] or [*RECIPES, *POOLS]
    CATALOG.mkdir(exist_ok=True)
    for name in names:
        entry = distil_pool(name, raw) if name in POOLS else distil(name, RECIPES[name], raw)
        (CATALOG / f"{name}.toml").write_text(to_toml(entry, COMMENT), encoding="utf-8")
        sys.stderr.write(f"{name}: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
