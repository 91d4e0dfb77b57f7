"""How many engines, over how many GPUs each: packing, and the cheapest that keep a promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from policies.power.energy_per_load import EnergyPerLoad
from policies.power.governor import Objective
from policies.power.packing import pack
from policies.power.scaler import Demand, Terms
from policies.power.steady_state import MeanLoad, steady_state

UNITS, UNIT_GPUS = 4, 8


@st.composite
def engines(draw: st.DrawFn) -> dict[int, int]:
    """By size, so many as fit into all units."""
    shapes = draw(st.lists(st.sampled_from([0, 2, 4, 8]), min_size=UNITS, max_size=UNITS))
    found: dict[int, int] = {}
    for size in {*shapes} - {0}:
        most = shapes.count(size) * UNIT_GPUS // size
        found[size] = draw(st.integers(max(1, most - UNIT_GPUS // size + 1), most))
    return found


@given(engines(), engines())
def test_packed_engines_share_no_gpu_are_as_many_as_wanted_and_stay_where_they_may(
    before: dict[int, int], wanted: dict[int, int]
) -> None:
    present = pack(before, (), UNITS, UNIT_GPUS)
    places = sorted(pack(wanted, present, UNITS, UNIT_GPUS))
    assert {size: sum(place.gpus == size for place in places) for size in wanted} == wanted
    assert not any(one.overlaps(other) for i, one in enumerate(places) for other in places[i + 1 :])
    assert all(place.first % place.gpus == 0 and place.first + place.gpus <= UNITS * UNIT_GPUS for place in places)
    assert pack(before, present, UNITS, UNIT_GPUS) == present


class Fake:
    """Steps of 10 ms and 1 ms a hundred tokens on one GPU at 1,000 MHz; 100 W a GPU asleep, 300 W at work."""

    kv_tokens = 100_000

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus

    def step_s(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        return (1e-2 + 1e-5 * (prompt_tokens + sequences)) * 1000.0 / mhz / self.gpus**0.5

    def step_j(self, mhz: float, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        watts = self.gpus * (100.0 + 200.0 * (mhz / 1000.0) ** 2)
        return watts * self.step_s(mhz, prompt_tokens, sequences, context_tokens)

    def awake_w(self, mhz: float) -> float:
        return self.gpus * 100.0


def terms(ttft_s: float = 1.0) -> Terms:
    profiles = {size: Fake(size) for size in (1, 4)}
    return Terms(profiles, (500.0, 1000.0), Objective(ttft_s, None, 99.0), 1024, 64, 50.0, 16, 4)


def test_a_steady_state_obeys_little_s_law_and_nothing_comes_of_what_cannot_be_sustained() -> None:
    found = steady_state(Fake(1), 1000.0, MeanLoad(2.0, 100.0, 50.0), 1024, 64)
    assert found is not None
    assert found.sequences == 2  # 2 requests/s of 50 steps of 10 ms
    assert 100.0 < found.watts < 300.0
    assert steady_state(Fake(1), 1000.0, MeanLoad(200.0, 500.0, 50.0), 1024, 64) is None
    assert steady_state(Fake(1), 1000.0, MeanLoad(100.0, 1.0, 1000.0), 1024, 64) is None  # more than 64 sequences
    asleep = steady_state(Fake(1), 1000.0, MeanLoad(0.0, 1.0, 1.0), 1024, 64)
    assert asleep is not None
    assert asleep.watts == 100.0


def demand(rate: float, prompt_tokens: int = 100) -> Demand:
    return Demand([(i / rate, prompt_tokens, 50) for i in range(int(10 * rate))], 10.0)


def test_engines_follow_the_load_and_their_size_the_promise() -> None:
    scaler = EnergyPerLoad(tensor_parallel_sizes=(1,))
    few, many = (scaler.pools({0: demand(rate)}, terms())[0] for rate in (1.0, 100.0))
    assert (few.engines, few.tensor_parallel) == (1, 1)
    assert many.gpus > few.gpus
    hasty = scaler.pools({0: demand(1.0)}, terms(ttft_s=0.015))[0]  # one GPU takes 21 ms with a step under way
    assert hasty.tensor_parallel == 4
    beyond = scaler.pools({0: demand(1.0)}, terms(ttft_s=1e-3))[0]  # nobody keeps it: all that there is
    assert beyond.gpus == 16
    assert scaler.sharding(hasty, demand(1.0), terms(ttft_s=1e-3)) is None


def test_classes_have_pools_of_their_own_where_that_saves_watts_and_are_joined_where_not() -> None:
    scaler = EnergyPerLoad(prompt_limits=(200,), output_limits=(100,))
    assert [scaler.class_of(*lengths) for lengths in ((200, 100), (200, 101), (201, 1), (999, 999))] == [0, 1, 2, 3]
    light = {number: demand(0.5, prompt) for number, prompt in enumerate((100, 100, 500, 500))}
    assert [plan.classes for plan in scaler.pools(light, terms())] == [(0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"headroom_fraction": -0.1}, "headroom_fraction"),
        ({"margin_fraction": 1.0}, "margin_fraction"),
        ({"prompt_limits": (500, 100)}, "rising numbers of tokens"),
        ({"instances": False, "prompt_limits": (100,)}, "instances = false"),
    ],
)
def test_nonsense_of_a_scaler_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(FleetcastError, match=message):
        EnergyPerLoad(**keys)  # type: ignore[arg-type]
