"""Which fit prices a kernel: the device's own, a relative's, or another format's, and how much less sure each is."""

from __future__ import annotations

import numpy as np
import pytest

from hardware_models import calibrated_kernel as module
from hardware_models import catalog, fits
from hardware_models.calibrated_kernel import (
    OTHER_FORMAT,
    OTHER_VARIANT,
    calibrated_kernel,
    combine,
    relatives,
    transfer_spread,
)
from hardware_models.device import Device
from hardware_models.errors import FleetcastError
from hardware_models.fits import REGIMES, KernelFit, fit_file
from hardware_models.ops import AttentionDecode, Gemm, GroupedGemm

GEMM = Gemm(m=64.0, n=4096, k=4096, dtype="bf16", weight_dtype="bf16")
DECODE = {
    "pairs": 1e5, "queries": 16.0, "kv_tokens": 1e5, "heads": 32, "kv_heads": 8, "qk_dim": 128, "v_dim": 128,
    "kv_width": 2048, "dtype": "bf16", "kv_dtype": "bf16",
}  # fmt: skip


@pytest.fixture
def calibrations(tmp_path, monkeypatch):
    """An empty folder of calibrations, and a way to fill it with copies of real ones under a device's name."""
    for owner in (module, fits):
        monkeypatch.setattr(owner, "FOLDER", tmp_path)
    forget()

    def copy(device: str, operator: str, like: str = "a40", text=lambda text: text) -> None:
        source = REAL / like / f"{operator}.toml"
        path = tmp_path / device / f"{operator}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(source.read_text().replace(f'device = "{like}"', f'device = "{device}"')))
        forget()

    yield copy
    monkeypatch.undo()
    forget()


REAL = fits.FOLDER


def forget() -> None:
    for cached in (calibrated_kernel, transfer_spread, fit_file):
        cached.cache_clear()


def kernel(name: str, *keys: str, operator: str = "gemm"):
    return calibrated_kernel(catalog.gpu(name), operator, keys)


def fit(**parameters: float) -> KernelFit:
    known = fit_file("a40", "gemm")
    assert known is not None
    return known.fit[0].model_copy(update={"parameters": parameters})


# -- what comes with Fleetcast -----------------------------------------------------------------------------------------


def test_a_measured_device_uses_its_own_fit_and_says_so():
    own = fit_file("h100-sxm", "gemm")
    assert own is not None
    known = own.find("bf16/bf16")
    found = Device(catalog.gpu("h100-sxm")).kernel(GEMM)
    assert found.parameters == known.parameters
    assert found.grade == "measured"
    assert known.source.text in found.source
    assert found.spread == pytest.approx([np.hypot(known.residual[r], known.doubt.get(r, 0.0)) for r in REGIMES])


@pytest.mark.parametrize("name", sorted(set(catalog.names("gpu")) - {path.name for path in REAL.iterdir()}))
def test_an_unmeasured_device_is_assumed_from_relatives_and_less_sure(name):
    device = Device(catalog.gpu(name))
    found = device.kernel(GEMM)
    assert found.grade == "assumed"
    near, distance = relatives(device.spec, "gemm", "bf16/bf16")
    assert all(other in found.source for other in near)
    own = [[np.hypot(f.residual[r], f.doubt.get(r, 0.0)) for r in REGIMES] for f in near.values()]
    assert found.spread == pytest.approx(np.hypot(np.median(own, axis=0), transfer_spread("gemm", distance)))
    assert (found.spread > np.median(own, axis=0)).all()


def test_relatives_share_architecture_and_kind_of_memory_where_any_does():
    near, distance = relatives(catalog.gpu("a10"), "gemm", "bf16/bf16")
    assert (set(near), distance) == ({"a40", "a6000"}, "family")
    near, distance = relatives(catalog.gpu("a40"), "gemm", "bf16/bf16")
    assert set(near) == {"a6000"}  # never itself
    near, distance = relatives(catalog.gpu("mi300x"), "gemm", "bf16/bf16")
    assert distance == "any"
    assert {"h100-sxm", "a100-80gb-sxm", "l40s"} <= set(near)


def test_a_users_edited_device_is_assumed_with_the_original_in_its_family():
    faster = catalog.gpu("h100-sxm").model_copy(update={"memory_bandwidth_bytes_per_s": 4.8e12})
    found = Device(faster).kernel(GEMM)
    assert found.grade == "assumed"
    assert "h100-sxm" in relatives(faster, "gemm", "bf16/bf16")[0]
    original = Device(catalog.gpu("h100-sxm"))
    assert (found.spread > original.kernel(GEMM).spread).all()
    assert float(Device(faster).price(GEMM).memory_s) < float(original.price(GEMM).memory_s)
    assert original.kernel(GEMM).grade == "measured"


def test_fp16_is_priced_as_bf16():
    device = Device(catalog.gpu("h100-sxm"))
    half = Gemm(m=64.0, n=4096, k=4096, dtype="fp16", weight_dtype="fp16")
    assert float(device.price(half).seconds) == float(device.price(GEMM).seconds)
    assert device.kernel(half).grade == "measured"


# -- substitutes, on made-up catalogs ----------------------------------------------------------------------------------


def test_another_format_stands_in_with_a_wider_spread(calibrations):
    calibrations("a40", "gemm")
    plain, other = kernel("a40", "bf16/bf16"), kernel("a40", "int8/int8")
    assert other.parameters == plain.parameters
    assert (plain.grade, other.grade) == ("measured", "assumed")
    assert other.spread == pytest.approx(np.hypot(plain.spread, OTHER_FORMAT))


def test_the_plain_kernel_stands_in_for_a_variant_with_a_wider_spread(calibrations):
    calibrations("h100-sxm", "attention_decode", "a100-80gb-sxm")
    operator = "attention_decode"
    plain = kernel("h100-sxm", "bf16/bf16", operator=operator)
    windowed = kernel("h100-sxm", "bf16/bf16:window", "bf16/bf16", operator=operator)
    assert windowed.parameters == plain.parameters
    assert windowed.grade == "assumed"
    assert windowed.spread == pytest.approx(np.hypot(plain.spread, OTHER_VARIANT))


def test_a_relative_of_the_family_comes_before_any_other(calibrations):
    calibrations("a40", "gemm")
    calibrations("h100-sxm", "gemm", text=lambda text: text.replace("tile_s = ", "tile_s = 9"))
    assert "of a40," in kernel("a6000", "bf16/bf16").source
    assert "of h100-sxm," in kernel("h200", "bf16/bf16").source
    assert "of a40, h100-sxm," in kernel("mi300x", "bf16/bf16").source


def test_nobody_ever_timed_it_is_an_error_that_says_how(calibrations):
    with pytest.raises(FleetcastError, match="ever timed for gemm in bf16/bf16: run `fleetcast calibrate"):
        kernel("h100-sxm", "bf16/bf16")
    calibrations("a40", "gemm")
    with pytest.raises(FleetcastError, match="no device was ever timed for grouped_gemm"):
        Device(catalog.gpu("a40")).price(
            GroupedGemm(tokens=8.0, n=64, k=64, experts=8, top_k=2, dtype="bf16", weight_dtype="bf16")
        )


def test_spreads_of_transfer_are_read_from_the_catalog_and_wide_where_unknown(calibrations, tmp_path):
    assert transfer_spread("gemm", "family") == module.UNKNOWN_SPREAD
    (tmp_path / "relatives.toml").write_text("[gemm]\nfamily = 0.125\nany = 0.25\n")
    forget()
    assert (transfer_spread("gemm", "family"), transfer_spread("gemm", "any")) == (0.125, 0.25)
    calibrations("a40", "gemm")
    assert kernel("a6000", "bf16/bf16").spread == pytest.approx(np.hypot(kernel("a40", "bf16/bf16").spread, 0.125))


# -- combining ---------------------------------------------------------------------------------------------------------


def test_combined_parameters_are_medians_that_some_device_has():
    three = [fit(a=1.0, b=9.0), fit(a=3.0, b=7.0), fit(a=2.0, b=8.0)]
    assert combine(three) == {"a": 2.0, "b": 8.0}
    assert combine(three[:2]) == {"a": 1.0, "b": 7.0}  # of two the lower, not a mean that nobody measured
    assert combine(three[:1]) == {"a": 1.0, "b": 9.0}


def test_decoding_beside_a_chunk_is_another_kernel_but_for_hopper():
    alone, mixed = AttentionDecode(**DECODE), AttentionDecode(**DECODE, mixed=True)
    ada, hopper = Device(catalog.gpu("rtx-4090")), Device(catalog.gpu("h100-sxm"))
    assert float(ada.price(mixed).seconds) > float(ada.price(alone).seconds)
    assert ada.kernel(mixed).parameters["packed_heads"] == 1.0
    assert hopper.kernel(mixed).parameters["packed_heads"] == hopper.kernel(alone).parameters["packed_heads"]
