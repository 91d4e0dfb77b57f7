"""Serving policies by the names that a scenario uses, and the types they speak."""

from policies.serving.chunked_prefill import ChunkedPrefill
from policies.serving.orca import Orca
from policies.serving.prefill_first import PrefillFirst
from policies.serving.queue_order import AnyQueue
from policies.serving.routing import (
    LeastKv,
    LeastOutstanding,
    RandomRouter,
    ReplicaView,
    RoundRobin,
    Router,
    SessionAffinity,
)
from policies.serving.sarathi import Sarathi
from policies.serving.scheduler import BatchScheduler
from policies.serving.static import Static
from policies.serving.view import DECODE_ONLY, UNLIMITED, Batch, Chunk, Sequence, StepView, blocks_for

SCHEDULERS: dict[str, type[BatchScheduler]] = {
    "static": Static,
    "orca": Orca,
    "prefill_first": PrefillFirst,
    "sarathi": Sarathi,
    "chunked_prefill": ChunkedPrefill,
}

ROUTERS: dict[str, type[Router]] = {
    "round_robin": RoundRobin,
    "random": RandomRouter,
    "least_outstanding": LeastOutstanding,
    "least_kv": LeastKv,
    "session_affinity": SessionAffinity,
}

__all__ = [
    "DECODE_ONLY",
    "ROUTERS",
    "SCHEDULERS",
    "UNLIMITED",
    "AnyQueue",
    "Batch",
    "BatchScheduler",
    "Chunk",
    "ReplicaView",
    "Router",
    "Sequence",
    "StepView",
    "blocks_for",
]
