"""Named, independent random streams: adding or dropping one never shifts another."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of the stream `name`; the same seed and name give the same draws on any platform.

    The first 128 bits of the name's SHA-256 are the spawn key of a SeedSequence (PCG64 beneath), so streams are
    independent of each other and of the order in which they are made.
    """
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    words = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=words)
    return np.random.Generator(np.random.PCG64(sequence))
