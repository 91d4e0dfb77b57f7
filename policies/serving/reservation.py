"""How many KV tokens systems without paging set aside for a sequence when they admit it (Yu et al., OSDI 2022; Kwon
et al., SOSP 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from policies.serving.view import Sequence

ReservationName = Literal["max", "pow2", "oracle"]


def reserve_max(sequence: Sequence, max_model_len: int) -> int:
    """The longest sequence the engine accepts: nobody knows how long the answer will be."""
    return max(max_model_len, sequence.prompt_tokens + sequence.output_tokens)


def reserve_pow2(sequence: Sequence, max_model_len: int) -> int:
    """The prompt and the next power of two of the answer: at most twice what it needs."""
    return min(
        sequence.prompt_tokens + (1 << (sequence.output_tokens - 1).bit_length()),
        reserve_max(sequence, max_model_len),
    )


def reserve_oracle(sequence: Sequence, max_model_len: int) -> int:  # noqa: ARG001  one signature for all three
    """Exactly what the sequence will use, as if the answer's length were known."""
    return sequence.prompt_tokens + sequence.output_tokens


def buddy(blocks: int) -> int:
    """What a buddy allocator hands out for a request of so many blocks: the next power of two."""
    return 1 << (blocks - 1).bit_length()


RESERVATIONS: dict[str, Callable[[Sequence, int], int]] = {
    "max": reserve_max,
    "pow2": reserve_pow2,
    "oracle": reserve_oracle,
}
