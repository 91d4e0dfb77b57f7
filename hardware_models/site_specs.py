"""What electricity brings with it, by hour of the day, and what it took to make the servers: carbon dioxide."""

from __future__ import annotations

import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from hardware_models.specs import HOURS, FromZero, Positive, Spec


class GridSpec(Spec):
    """Grams of carbon dioxide equivalent that a kilowatt-hour of a grid emits: one figure, or one an hour."""

    date: datetime.date | None = None  # that it is of
    gco2e_per_kwh: FromZero | tuple[FromZero, ...]  # by local hour of the day from midnight, where there are several

    @model_validator(mode="after")
    def _of_a_whole_day(self) -> Self:
        if len(self.by_hour) not in (1, HOURS):
            raise ValueError(f"gco2e_per_kwh has {len(self.by_hour)} entries; give one figure, or one for each hour")
        return self

    @property
    def by_hour(self) -> tuple[float, ...]:
        """One figure, or 24."""
        return self.gco2e_per_kwh if isinstance(self.gco2e_per_kwh, tuple) else (self.gco2e_per_kwh,)


class EmbodiedSpec(Spec):
    """Carbon of making servers, spread evenly over the hours in which they will have been of use."""

    kgco2e_per_server: FromZero  # without its GPUs
    kgco2e_per_gpu: FromZero
    lifetime_years: Positive
    use_fraction: Annotated[float, Field(gt=0.0, le=1.0, strict=True)]  # of these years, in which somebody uses them
