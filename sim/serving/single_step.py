"""One step of a given composition, priced without a clock: what microbenchmarks of serving engines report."""

from __future__ import annotations

from policies.serving import Sequence
from sim.serving.chunk_load import ChunkLoad
from sim.serving.decode_pool import DecodePool
from sim.serving.deployment import Deployment


def step_seconds(
    deployment: Deployment, *, prefill_tokens: int, prefill_context: int, decode_seqs: int, decode_context: int
) -> float:
    """Seconds of a step with one chunk and some decoding sequences of equal context, through all stages."""
    window = deployment.limits.window
    load = ChunkLoad(window)
    if prefill_tokens:
        prompt = Sequence(0, 0.0, prefill_tokens + prefill_context, 1, 0, prefill_tokens + prefill_context)
        prompt.prefilled = prefill_context
        load.set([(prompt, prefill_tokens)])
    pool = DecodePool(deployment.limits.block_size, window)
    for index in range(decode_seqs):
        pool.join(Sequence(index, 0.0, decode_context, 2, 0, decode_context, generated=1), decode_context)
    seconds = sum(stage.price(load, decode_seqs, 0, pool)[0] for stage in deployment.stages)
    return seconds + (len(deployment.stages) - 1) * deployment.transfer_s(prefill_tokens + decode_seqs)
