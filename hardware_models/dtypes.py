"""Number formats: bytes per element, and under which peak rate their matrix products run."""

from __future__ import annotations

from hardware_models.errors import UnknownNameError

BYTES_PER_ELEMENT: dict[str, float] = {
    "fp32": 4.0,
    "tf32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "int4": 0.5,
    # OCP Microscaling v1.0: blocks of 32 four-bit elements share one 8-bit scale
    "mxfp4": 0.5 + 1 / 32,
}


def bytes_per_element(dtype: str) -> float:
    """Bytes of one element of `dtype`; raises UnknownNameError for a dtype nobody defined."""
    try:
        return BYTES_PER_ELEMENT[dtype]
    except KeyError:
        raise UnknownNameError("dtype", dtype, BYTES_PER_ELEMENT) from None
