"""Where numbers of data files come from; and frozen models that refuse unknown keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Grade: TypeAlias = Literal["measured", "quoted", "assumed"]
GRADES = ("measured", "quoted", "assumed")  # best first


def worst_grade(grades: Iterable[str]) -> str:
    """A result is as good as the worst it rests on."""
    return max(grades, key=GRADES.index)


class Frozen(BaseModel):
    """Immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Frozen):
    """Where numbers come from, and how far to trust them."""

    grade: Grade  # measured: on the device; quoted: by its maker or a paper; assumed: guessed or derived
    text: Annotated[str, Field(min_length=1)]
