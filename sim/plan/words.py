"""What simulations and proofs say, in words that name the limit, what was reached and by how much it is off."""

from __future__ import annotations

import math

from sim.plan.judge import LIMITS, Limit, Verdict


def limit_words(limit: Limit, percentile: float) -> str:
    """`p99 TTFT 2,600 ms, 30 % over 2,000 ms`."""
    name, allowed = f"p{percentile:g} {LIMITS[limit.key]}", f"{limit.limit_s * 1e3:,.0f} ms"
    if math.isinf(limit.reached_s):
        return f"{name} never: requests were rejected (limit {allowed})"
    reached = f"{limit.reached_s * 1e3:,.0f} ms"
    if limit.ratio <= 1.0:
        return f"{name} {reached}, {1.0 - limit.ratio:.0%} under {allowed}"
    return f"{name} {reached}, {limit.ratio - 1.0:.0%} over {allowed}"


def verdict_words(verdict: Verdict, percentile: float) -> str:
    """What was missed, or with all limits kept how much room is left; error bars that span a limit are said so."""
    if verdict.stopped_at_s is not None:
        limit = verdict.limits[0]
        factor = f" by more than {limit.ratio:.2g} times" if limit.ratio > 1.0 else ""
        return (
            f"misses p{percentile:g} {LIMITS[limit.key]} <= {limit.limit_s * 1e3:,.0f} ms{factor}"
            f" (ended after {verdict.stopped_at_s:,.0f} s)"
        )
    shown = [limit for limit in verdict.limits if verdict.met or limit.ratio > 1.0]
    parts = [limit_words(limit, percentile) + _close(limit) for limit in shown]
    growth = verdict.growth
    if growth is not None and growth.unstable:
        parts.append(f"the queue grows by {growth.share:.0%} of the arrivals")
    if verdict.load is not None and verdict.load.too_much:
        parts.append(f"the least work that arrives takes {verdict.load.share:.2f} times the replicas' time")
    elif growth is not None and verdict.met:
        parts.append("the queue settles")
    return ("meets " if verdict.met else "misses ") + "; ".join(parts)


def _close(limit: Limit) -> str:
    if not limit.too_close:
        return ""
    return f" (too close to call: 90 % interval {limit.low_s * 1e3:,.0f} to {limit.high_s * 1e3:,.0f} ms)"
