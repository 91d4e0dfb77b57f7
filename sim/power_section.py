"""[power]: clocks and limits of the GPUs, and a row's breaker with who watches it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sim.section import PolicyChoice, Section


class RowTrainingSection(Section):
    """[power.training]: a training whose servers are behind the same breaker, beside those of [cluster]."""

    scenario: str = Field(
        min_length=1, description="a training scenario: one that ships by its name, or the path of a file"
    )
    nodes: int | None = Field(
        default=None, ge=1, le=1_000_000, description="servers that it runs on; absent: as its scenario has it"
    )
    clocks_mhz: list[float] | None = Field(
        default=None,
        min_length=1,
        description="core clocks that it may be slowed to; absent: twentieths of boost from 0.4",
    )


class PowerSection(Section):
    """[power]: absent, GPUs run at boost and nobody meters a row."""

    clock_mhz: float | None = Field(default=None, gt=0, description="core clock that GPUs are locked at; absent: boost")
    prefill_clock_mhz: float | None = Field(
        default=None, gt=0, description="core clock of steps with prompts in them; absent: clock_mhz"
    )
    decode_clock_mhz: float | None = Field(
        default=None, gt=0, description="core clock of steps that only decode; absent: clock_mhz"
    )
    gpu_power_limit_w: float | None = Field(
        default=None, gt=0, description="watts of a GPU, which lowers its clock to keep them; absent: its data sheet's"
    )
    row_limit_w: float | None = Field(
        default=None, gt=0, description="watts at the wall that the breaker of all nodes allows; absent: no breaker"
    )
    provisioned_nodes: int | None = Field(
        default=None, ge=1, description="in place of row_limit_w: nodes whose rated watts the breaker was built for"
    )
    cpu_share: float = Field(
        default=0.1, ge=0, le=1, description="of what the servers' CPUs can do, in use while they serve"
    )
    telemetry_period_s: float = Field(default=2.0, ge=0.1, le=3600, description="seconds that a reading is the mean of")
    telemetry_delay_s: float = Field(default=0.0, ge=0, le=3600, description="until a reading is known")
    actuation_delay_s: float = Field(
        default=40.0, ge=0, le=3600, description="until a clock that was ordered is in effect (out of band)"
    )
    brake_delay_s: float = Field(default=5.0, ge=0, le=3600, description="until the power brake is in effect")
    brake_clock_mhz: float = Field(default=288.0, gt=0, description="core clock under the power brake")
    brake_release_fraction: float = Field(
        default=0.9, gt=0, lt=1, description="of the limit, below which the brake is let go"
    )
    ride_through_s: float = Field(default=10.0, ge=0, description="above its limit until the breaker trips")
    policy: PolicyChoice = Field(
        default=PolicyChoice(name="brake_only"), description="who orders clocks when the row nears its limit"
    )
    training: RowTrainingSection | None = Field(
        default=None, description="a training whose servers are behind the same breaker; absent: none"
    )

    governor: PolicyChoice | None = Field(
        default=None, description="who sets each replica's clock to its load, on the server; absent: nobody"
    )
    governor_clocks_mhz: list[float] | None = Field(
        default=None, min_length=1, description="core clocks that it chooses from; absent: tenths of boost from 0.4"
    )
    governor_period_s: float = Field(default=5.0, ge=0.1, le=3600, description="seconds between its choices")
    governor_delay_s: float = Field(default=0.1, ge=0, le=3600, description="until a clock that it chose is in effect")
    governor_window_s: float = Field(default=60.0, gt=0, le=1e6, description="seconds that its loads look back")

    scaler: PolicyChoice | None = Field(
        default=None, description="who decides how many replicas serve, and their tensor parallelism; absent: all do"
    )
    scaler_period_s: float = Field(default=1800.0, ge=1, le=1e6, description="seconds between decisions of replicas")
    sharding_period_s: float = Field(
        default=300.0, ge=1, le=1e6, description="seconds between decisions of tensor parallelism; at most the former"
    )
    scaler_forecast: Literal["recent", "known"] = Field(
        default="recent",
        description="what load a decision is for: that of late, or the busiest that comes until the next",
    )
    scaler_window_s: float = Field(default=300.0, ge=1, le=1e6, description="seconds that a load is the mean of")
    engine_start_s: float = Field(
        default=60.0, ge=0, le=1e5, description="until an engine serves, beside copying its weights from the host"
    )
    sharding_start_s: float = Field(
        default=10.0,
        ge=0,
        le=1e5,
        description="the same, where its GPUs hold the weights for another tensor parallelism, beside exchanging them",
    )

    @model_validator(mode="after")
    def _one_limit(self) -> PowerSection:
        if self.row_limit_w is not None and self.provisioned_nodes is not None:
            raise ValueError("give 'row_limit_w' or 'provisioned_nodes', not both")
        if not self.has_row and self.policy.name != "brake_only":
            raise ValueError(
                f"policy '{self.policy.name}' watches a row's limit, and there is none; give 'row_limit_w' or"
                " 'provisioned_nodes'"
            )
        if not self.has_row and self.training is not None:
            raise ValueError(
                "'training' shares a row's limit, and there is none; give 'row_limit_w' or 'provisioned_nodes'"
            )
        if self.scaler is not None and self.has_row:
            raise ValueError("a scaler and a row's limit do not go together yet; leave 'scaler' or the limit out")
        if self.sharding_period_s > self.scaler_period_s:
            raise ValueError(
                f"sharding_period_s = {self.sharding_period_s:g} is longer than scaler_period_s ="
                f" {self.scaler_period_s:g}; give at most that"
            )
        return self

    @property
    def has_row(self) -> bool:
        """Is there a breaker to keep below?"""
        return self.row_limit_w is not None or self.provisioned_nodes is not None
