"""One sentence about what held a run back, chosen from a fixed tree of causes with the evidence beside it."""

from __future__ import annotations

from typing import Any

REMEDIES = {
    "compute": "arithmetic of prompts: more or faster GPUs, a narrower weight_dtype, or shorter prompts would help",
    "memory": "reading weights and KV cache: larger batches, faster HBM or a narrower dtype would help",
    "network": "exchange between GPUs: a smaller tensor_parallel_size or a faster link would help",
    "host": "kernel launches and host work between steps: a leaner engine or larger batches would help",
}
CLOSE = 0.05  # shares of the time that are told together


def bottleneck_sentence(summary: dict[str, Any]) -> str:
    """The cause, its share, and what would help.

    Order: nothing ran; KV memory keeps the queue waiting; mostly idle; else the largest busy share.
    """
    shares = summary["bound_by"]
    if shares["idle_fraction"] is None:
        return "Nothing ran."
    busy = {name: shares[f"{name}_fraction"] for name in REMEDIES}
    cause, share = max(busy.items(), key=lambda item: item[1])
    if shares["kv_queue_fraction"] > 0.1:
        return (
            f"KV memory: for {shares['kv_queue_fraction']:.0%} of the time requests queue for KV blocks"
            f" (peak use {summary['kv_peak_fraction']:.0%} of {summary['kv_blocks']:,}); more memory, fewer weights"
            f" a GPU or a narrower kv_cache_dtype would help. While busy, the largest share is {cause} ({share:.0%})."
        )
    if shares["idle_fraction"] > 0.5:
        return (
            f"Load: the engines are idle {shares['idle_fraction']:.0%} of the time; the hardware could take more."
            f" While busy, the largest share is {cause} ({share:.0%})."
        )
    second, next_share = sorted(busy.items(), key=lambda item: -item[1])[1]
    close = f" Nearly as much, {next_share:.0%}, is {second}: {REMEDIES[second]}." if share - next_share < CLOSE else ""
    return f"{cause.capitalize()}: {share:.0%} of the time is bound by {REMEDIES[cause]}.{close}"
