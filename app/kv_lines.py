"""What a prefix cache did, in lines for a terminal or a page."""

from __future__ import annotations

from typing import Any

from sim.metrics import plain

TIERS = {"gpu": "GPUs", "host": "host memory", "drives": "drives"}
LINKS = {
    "gpu_to_host": "GPUs to host",
    "host_to_gpu": "host to GPUs",
    "host_to_drives": "host to drives",
    "drives_to_host": "drives to host",
}


def kv_lines(summary: dict[str, Any]) -> list[str]:
    """Hits by tier, bytes by link, stalls; nothing without a prefix cache."""
    cache = summary.get("kv_cache")
    if cache is None or cache["hit_fraction"] is None:
        return []
    by_tier = ", ".join(f"{TIERS[name]} {share:.1%}" for name, share in cache["hit_fraction_by_tier"].items())
    lines = [f"prefix cache: {cache['hit_fraction']:.1%} of prompt tokens found ({by_tier})"]
    if cache["moved_bytes"]:
        moved = ", ".join(f"{LINKS[name]} {value / 1e9:,.1f}" for name, value in cache["moved_bytes"].items())
        lines.append(f"KV moved, GB: {moved}; loading took {plain(cache['load_s'])} s, of which steps waited for")
        lines[-1] += f" {plain(cache['load_stall_s'])} s"
    return lines
