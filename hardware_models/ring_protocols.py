"""Which protocol NCCL runs on a ring through several servers: by its own cost model, whose steps inside and between
servers take different times (NCCL 2.2x, src/graph/tuning.cc).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hardware_models.collective_times import (
    BELIEVED_BASE_S,
    BELIEVED_HOP_S,
    BELIEVED_LL128_SHARE,
    BELIEVED_LL_SHARE,
    BELIEVED_SHARE,
    medium,
)

if TYPE_CHECKING:
    from hardware_models.specs import LinkSpec

# Most that LL carries on rings through four servers and more (llMaxBws), by the generation of NVLink inside
BELIEVED_LL_ACROSS_BYTES_PER_S = {"nvlink2": 20.4e9, "nvlink3": 19.0e9, "nvlink4": 35e9, "nvlink5": 70e9}
MANY_SERVERS = 4


def protocol_limits(passes: int, inner: tuple[LinkSpec, int], outer: tuple[LinkSpec, int]) -> tuple[float, float]:
    """Bytes up to which NCCL runs LL, and beyond which it runs Simple; LL128 between them if they differ.

    passes: of the payload along the ring, 2 to reduce and to share. inner, outer: a level's link and its ranks.
    """
    (near, inside), (far, servers) = inner, outer
    ranks = inside * servers
    rate = BELIEVED_SHARE * min(near.bandwidth_bytes_per_s, inside * far.bandwidth_bytes_per_s)
    low = BELIEVED_LL_SHARE * rate
    if servers >= MANY_SERVERS:
        low = min(low, BELIEVED_LL_ACROSS_BYTES_PER_S.get(near.calibrated_as.split("-")[0], low))
    rates = {"ll": low, "ll128": BELIEVED_LL128_SHARE * rate, "simple": rate}
    here, there = BELIEVED_HOP_S[medium(near)], BELIEVED_HOP_S[medium(far)]
    fixed = {
        name: BELIEVED_BASE_S[name] + passes * ((ranks - servers) * here[name] + (servers - 1) * there[name])
        for name in rates
    }
    slope = {name: passes * (ranks - 1) / ranks / rates[name] for name in rates}

    def crossing(first: str, then: str) -> float:
        return max(0.0, (fixed[then] - fixed[first]) / (slope[first] - slope[then]))

    direct = crossing("ll", "simple")
    if near.kind != "nvlink":
        return direct, direct
    early, late = crossing("ll", "ll128"), crossing("ll128", "simple")
    return (early, late) if early < late else (direct, direct)
