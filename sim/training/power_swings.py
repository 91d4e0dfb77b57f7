"""How a power that repeats with every step swings: how far, how fast, at which frequencies.

Telemetry may begin anywhere in a step, so what it may read is the most and the least over all beginnings. Means over
windows, and differences of neighbouring ones, are lines between the instants at which a window's ends meet a change:
their extremes are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.power.series import PowerSeries

Floats = NDArray[np.float64]
GRID_HZ = (0.1, 20.0)  # swings that resonate with generators and shafts (arXiv 2508.14318)
TICK_S = 0.01  # of spectra, and of what smooths
FEWEST_TICKS, MOST_TICKS = 64, 20_000  # of a step


@dataclass(frozen=True, slots=True)
class Repeated:
    """A step's power, over and over."""

    step: PowerSeries  # from 0

    def joules(self, t_s: Floats) -> Floats:
        """Up to instants of any step, from the start of step 0."""
        steps = np.floor(t_s / self.step.end_s)
        return np.asarray(steps * self.step.energy_j + self.step.joules(t_s - steps * self.step.end_s))

    def means(self, window_s: float) -> tuple[float, float]:
        """The least and the highest mean over a window of this length."""
        begin = np.concatenate([self.step.t_s, self.step.t_s - window_s])
        means = (self.joules(begin + window_s) - self.joules(begin)) / window_s
        least, most = float(self.step.watts.min()), float(self.step.watts.max())
        return max(float(means.min()), least), min(float(means.max()), most)  # which only rounding exceeds

    def ramps(self, period_s: float) -> tuple[float, float]:
        """The fastest rise and fall between two readings that are means over one period each: watts a second."""
        at = np.concatenate([self.step.t_s + shift for shift in (-period_s, 0.0, period_s)])
        change = self.joules(at + period_s) - 2.0 * self.joules(at) + self.joules(at - period_s)
        rates = change / period_s**2
        return max(0.0, float(rates.max())), max(0.0, float(-rates.min()))


def ticks(step: PowerSeries) -> tuple[float, Floats]:
    """Length of ticks that fill a step evenly, and mean watts in each."""
    count = int(np.clip(np.ceil(step.end_s / TICK_S), FEWEST_TICKS, MOST_TICKS))
    joules = step.joules(step.end_s * np.arange(count + 1) / count)
    watts = np.diff(joules) / (step.end_s / count)
    return step.end_s / count, np.clip(watts, step.watts.min(), step.watts.max())  # which only rounding exceeds


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Of a step's power: sines whose frequencies are multiples of the step's."""

    step_hz: float
    amplitude_w: Floats  # of 1, 2, ... cycles a step

    @classmethod
    def of(cls, step: PowerSeries) -> Spectrum:
        """Up to half the frequency of ticks."""
        _, watts = ticks(step)
        return cls(1.0 / step.end_s, 2.0 * np.abs(np.fft.rfft(watts))[1:] / len(watts))

    @property
    def dominant(self) -> tuple[float, float]:
        """Frequency and amplitude of the largest swing."""
        at = int(np.argmax(self.amplitude_w))
        return (at + 1) * self.step_hz, float(self.amplitude_w[at])

    def near(self, hz: float) -> float:
        """The largest amplitude within a cycle a step of a frequency."""
        at = round(hz / self.step_hz) - 1
        near = self.amplitude_w[max(0, at - 1) : max(0, at) + 2]
        return float(near.max()) if len(near) else 0.0

    def share(self, band_hz: tuple[float, float] = GRID_HZ) -> float:
        """Of the variance, what swings in a band of frequencies; 0 of none."""
        hz = self.step_hz * np.arange(1, len(self.amplitude_w) + 1)
        power = self.amplitude_w**2
        whole = float(power.sum())
        return float(power[(hz >= band_hz[0]) & (hz <= band_hz[1])].sum()) / whole if whole > 0.0 else 0.0
