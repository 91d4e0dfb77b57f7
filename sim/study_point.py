"""What one point of a study says: a scenario's keys that differ, what is measured, and what was published."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sim.section import Section


class Step(Section):
    """The composition of one serving step, for `step_s`."""

    prefill_tokens: int = Field(default=0, ge=0)  # one prompt or chunk
    prefill_context: int = Field(default=0, ge=0)  # tokens of it done before
    decode_seqs: int = Field(default=0, ge=0)
    decode_context: int = Field(default=0, ge=0)  # tokens each


class Point(Section):
    """One figure of a study."""

    name: str
    set: dict[str, Any] = Field(default_factory=dict)
    metric: str
    step: Step | None = None
    limits: dict[str, float] = Field(default_factory=dict)  # metric -> largest value, for capacity_per_s
    payload_bytes: float | None = Field(default=None, gt=0)  # of one GPU, for gradient_exchange_bytes_per_s
    baseline: str | None = None
    published: float | list[float] | None = None  # a figure, a [low, high] range, or nothing (a baseline)
    unit: str = ""
    source: str = ""
    in_sample: bool = False  # a profile was fitted on this figure: it shows the fit, and judges nothing
