"""The shape of a fixture that several tests take."""

from collections.abc import Callable

from sim.sweep.definition import Sweep

MakeSweep = Callable[..., Sweep]
