"""What a token costs at least, however requests are batched: prices that no step exceeds.

Prices a a prompt token, b a decoded token and c a step with

    a p + b d + c <= base(p, d)    for every step (p, d) that the scheduler, the slots and the KV blocks allow

(base as in `sim.plan.step_floor`) cannot exceed any step, so steps that serve P prompt and D decoded tokens take
a P + b D + c S seconds at least, where S is the least number of steps: the context that must be read, over what the KV
blocks hold. The prices that make this largest are the solution of a linear programme in three unknowns, the dual of
"which mix of steps serves these tokens soonest"; by weak duality any prices under base are a proof, so rounding and an
early end of the search cost sharpness, never truth. Constraints are added where they are broken most, and what is
left is mended by lowering all prices in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.plan.step_floor import TINY, Floats, Ints, StageFloor

EVERY = 512  # prompt tokens, or decodes, looked at one by one; beyond, in blocks, the cheapest step standing for all
BLOCK = 8
ROUNDS = 60
EXACT = 1e-4  # constraints broken by less are mended


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """Seconds that work takes at least on one stage."""

    per_prompt_token: float
    per_decoded_token: float
    per_context_token: float  # of each decoded token's context, itself included; the price of steps is in it
    per_window_token: float  # of the same, capped at the model's sliding window


def token_prices(floor: StageFloor, prompt: float, decoded: float, context: float) -> TokenPrices:
    """The prices under which so many tokens take longest; without decoded tokens and context: of prompts alone."""
    steps = context / floor.limits.kv_tokens
    found = []
    for launching in (False, True):
        a, b, c = _dual(floor, np.array([prompt, decoded, steps]), launching=launching)
        per_context, per_window = (0.0, 0.0) if launching else (floor.per_context, floor.per_window)
        seconds = a * prompt + b * decoded + c * steps + per_context * context
        found.append((seconds, TokenPrices(a, b, per_context + c / floor.limits.kv_tokens, per_window)))
    return max(found, key=lambda pair: pair[0])[1]


def _dual(floor: StageFloor, work: Floats, *, launching: bool) -> tuple[float, float, float]:
    """Prices a, b, c under every step that make `work` (prompt tokens, decoded tokens, steps) cost most."""
    steps = _steps(floor, launching=launching)
    p, d, base = steps
    tried = [(i, j) for i in (0, 1, len(p) // 2, len(p) - 1) for j in (0, min(1, d.size - 1), d.size // 2, d.size - 1)]
    active = {pair for pair in tried if np.isfinite(base[pair])}
    prices = np.zeros(3)
    for _ in range(ROUNDS):
        prices = _largest(work, [(p[i, 0], d[0, j], base[i, j]) for i, j in sorted(active)])
        slack = _slack(prices, *steps)
        at = np.unravel_index(int(np.argmin(slack)), slack.shape)
        worst = (int(at[0]), int(at[1]))
        if slack[worst] >= 1.0 - EXACT or worst in active:
            break
        active.add(worst)
    a, b, c = (prices * min(1.0, float(_slack(prices, *steps).min()))).tolist()
    return a, b, c


def _steps(floor: StageFloor, *, launching: bool) -> tuple[Floats, Floats, Floats]:
    """Prompt tokens (steps, 1), decodes (1, steps) and base of steps that stand for all there are; infinite base:
    no such step.
    """
    limits = floor.limits
    (p_least, p_most), (d_least, d_most) = _blocks(floor.tabled), _blocks(limits.decodes)
    if limits.rows > floor.tabled:  # there base is a line in the rows: its ends stand for all between
        ends = np.array([floor.tabled + 1, limits.rows])
        p_least, p_most = np.concatenate([p_least, ends]), np.concatenate([p_most, ends])
    base = floor.at_least(p_least[:, None], d_least[None, :], launching=launching)
    exists = p_most[:, None] + d_most[None, :] > 0
    if limits.rows <= floor.tabled:
        exists &= p_least[:, None] + d_least[None, :] <= limits.rows
    if not limits.mixes:
        exists &= (p_most[:, None] == 0) | (d_most[None, :] == 0)
    return p_most[:, None].astype(float), d_most[None, :].astype(float), np.where(exists, base, np.inf)


def _blocks(last: int) -> tuple[Ints, Ints]:
    """0..last in blocks: least and most of each."""
    fine, starts = np.arange(min(EVERY, last) + 1), np.arange(EVERY + 1, last + 1, BLOCK)
    return np.concatenate([fine, starts]), np.concatenate([fine, np.minimum(starts + BLOCK - 1, last)])


def _slack(prices: Floats, p: Floats, d: Floats, base: Floats) -> Floats:
    """base over what the prices make of each step: below 1 they exceed it."""
    return np.asarray(base / np.maximum(prices[0] * p + prices[1] * d + prices[2], TINY))


def _largest(work: Floats, steps: Sequence[tuple[float, float, float]]) -> Floats:
    """Prices, none negative, under base at these steps that make the work cost most; zeros where none are found."""
    from scipy.optimize import linprog  # takes long to import

    rows = np.array([(p, d, 1.0) for p, d, _ in steps])
    base = np.array([seconds for *_, seconds in steps])
    scale, unit = np.maximum(rows.max(axis=0), 1.0), float(base.min())
    gain = work / scale
    found = linprog(-gain / max(float(gain.max()), TINY), A_ub=rows / scale, b_ub=base / unit, method="highs")
    return np.maximum(np.asarray(found.x, float), 0.0) * unit / scale if found.status == 0 else np.zeros(3)
