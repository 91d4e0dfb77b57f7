"""Policies that save a training's state while it goes on: what is copied when, and what the training waits for."""

from policies.checkpoint.job import CheckpointJob
from policies.checkpoint.ways import Asynchronous, DataStates, Synchronous, TorchSnapshot

CheckpointPolicy = Synchronous | Asynchronous | TorchSnapshot | DataStates
CHECKPOINT: dict[str, type[CheckpointPolicy]] = {
    "synchronous": Synchronous,
    "async": Asynchronous,
    "torch_snapshot": TorchSnapshot,
    "datastates": DataStates,
}

__all__ = [
    "CHECKPOINT",
    "Asynchronous",
    "CheckpointJob",
    "CheckpointPolicy",
    "DataStates",
    "Synchronous",
    "TorchSnapshot",
]
