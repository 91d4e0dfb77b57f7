"""Variations beside their originals: what is better in every figure is never slower, what is worse never faster.

Formulas fitted to one device know its libraries' choices of tiles and protocols, which jump: without this, twice the
bandwidth could cost a share of a per cent where another tile is taken, or half of the time where NCCL changes protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hardware_models import catalog
from hardware_models.collective_times import NETWORKS
from hardware_models.price import Floats, Price
from hardware_models.specs import GpuSpec, LinkSpec

BETTER, WORSE, MIXED = 1, -1, 0
ROUNDING = 1e-12  # relative: figures that differ by less are the same


def standing(spec: GpuSpec) -> int:
    """Of a variation against its original, by what prices depend on: BETTER, WORSE, or MIXED (as are equals)."""
    if spec.variation_of is None:
        return MIXED
    original = catalog.gpu(spec.variation_of)
    shared = [dtype for dtype in original.peak_flop_per_s if dtype in spec.peak_flop_per_s]
    return _standing(_figures(spec, shared), _figures(original, shared))


def link_standing(link: LinkSpec, original: LinkSpec) -> int:
    """The same of a link."""
    if link.in_switch_reduction != original.in_switch_reduction:
        return MIXED
    return _standing(_link_figures(link), _link_figures(original))


def same_link(link: LinkSpec) -> bool:
    """Is it no variation, or one that nothing which times depend on was changed in?"""
    original = original_link(link)
    if original is None:
        return True
    keys = ("in_switch_reduction", "peer_bandwidth_bytes_per_s")
    if any(getattr(link, key) != getattr(original, key) for key in keys):
        return False
    return _equal(_link_figures(link), _link_figures(original))


def original_link(link: LinkSpec) -> LinkSpec | None:
    """What a variation varies, of which the ranks have the same part as of the variation; None for what is no
    variation.
    """
    if link.variation_of is None:
        return None
    original = catalog.link(link.variation_of)
    share = link.original_bandwidth_bytes_per_s
    return original if share is None else original.model_copy(update={"bandwidth_bytes_per_s": share})


def bounded(own: Price, original: Price, stands: int) -> Price:
    """The variation's price, where it stands BETTER at most and where WORSE at least its original's."""
    if stands == MIXED:
        return own
    kept = own.seconds <= original.seconds if stands == BETTER else own.seconds >= original.seconds
    parts = ((own.launch_s, original.launch_s), (own.compute_s, original.compute_s), (own.memory_s, original.memory_s))
    return Price(*(np.where(kept, mine, its) for mine, its in parts))


def bounded_seconds(own: Floats, original: Floats, stands: int) -> Floats:
    """The same of seconds."""
    if stands == MIXED:
        return own
    return np.minimum(own, original) if stands == BETTER else np.maximum(own, original)


def _link_figures(link: LinkSpec) -> tuple[float, ...]:
    """More of each is better. Latency counts on networks alone: inside a server the fitted steps hold it."""
    return (link.bandwidth_bytes_per_s, -link.latency_s) if link.kind in NETWORKS else (link.bandwidth_bytes_per_s,)


def _figures(spec: GpuSpec, dtypes: Sequence[str]) -> tuple[float, ...]:
    """More of each is better; the rate of one multiprocessor counts as well, since some kernels fill a few only."""
    peaks = [spec.peak_flop_per_s[dtype] for dtype in dtypes]
    each = [peak / spec.sm_count for peak in peaks]
    return (spec.memory_bandwidth_bytes_per_s, spec.l2_bytes, spec.sm_count, spec.boost_clock_hz, *peaks, *each)


def _standing(mine: Sequence[float], its: Sequence[float]) -> int:
    if _equal(mine, its):
        return MIXED
    if all(a >= b - ROUNDING * abs(b) for a, b in zip(mine, its, strict=True)):
        return BETTER
    return WORSE if all(a <= b + ROUNDING * abs(b) for a, b in zip(mine, its, strict=True)) else MIXED


def _equal(mine: Sequence[float], its: Sequence[float]) -> bool:
    return all(abs(a - b) <= ROUNDING * abs(b) for a, b in zip(mine, its, strict=True))
