"""Changes as texts: read back as they were written, and refused in a sentence where no figure can be meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from hardware_models.variation import Change, parse_change, vary_node


@given(st.floats(1e-6, 1e6))
def test_a_factor_reads_back_from_its_text(factor: float) -> None:
    change = Change("gpu", "memory_bytes", factor=factor)
    assert parse_change(str(change)) == change


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**30), 10**30)))
def test_a_value_reads_back_from_its_text(value: float) -> None:
    change = Change("", "dram_bytes", value=value)
    assert parse_change(str(change)) == change


def test_a_factor_is_as_short_as_people_write_it() -> None:
    assert str(parse_change("gpu.memory_bytes=2x")) == "gpu.memory_bytes=2x"
    assert str(parse_change("gpu.memory_bytes=1.2345678x")) == "gpu.memory_bytes=1.2345678x"


@pytest.mark.parametrize(
    "key", ["gpu.memory_bytes", "gpu.memory_bandwidth_bytes_per_s", "gpu.peak_flop_per_s.fp8", "x"]
)
@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "0x" + "f" * 5000])
def test_a_number_beyond_all_figures_is_refused(key: str, number: str) -> None:
    with pytest.raises(FleetcastError, match="more digits than any figure"):
        parse_change(f"{key}={number}")


def test_a_number_beyond_all_figures_is_refused_from_code_as_well() -> None:
    with pytest.raises(FleetcastError, match=r"gpu.memory_bytes: has more digits"):
        vary_node("dgx-h100", "mine", [Change("gpu", "memory_bytes", value=10**400)])
