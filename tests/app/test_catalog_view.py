import pytest

from app.catalog_view import KINDS, catalog_lines
from hardware_models.errors import UnknownNameError

ENTRIES = {
    "gpus": ("h100-sxm", "memory_bandwidth_bytes_per_s"),
    "cpus": ("epyc-9554", "cores"),
    "ssds": ("samsung-990-pro", "read"),
    "nics": ("connectx-7", "bandwidth_bytes_per_s"),
    "links": ("nvlink4-switch", "bandwidth_bytes_per_s"),
    "nodes": ("dgx-h100", "h100-sxm"),
    "clusters": ("selene", "node"),
    "node_links": ("hdr-16n-uneven", "bytes_per_s"),
    "server_parts": ("usual", "psu_efficiency"),
    "prices": ("list-prices", "h100-sxm"),
    "energy_prices": ("large-users", "usd_per_kwh"),
    "grids": ("france", "gco2e_per_kwh"),
    "embodied_carbons": ("bloom-2022", "kgco2e_per_server"),
    "models": ("llama-3.1-8b", "hidden_size: 4096"),
    "traces": ("azure-conv-2023", "requests"),
    "policies": ("chunked_prefill", "watermark_fraction"),
    "generators": ("synthetic", "arrivals"),
    "engines": ("vllm-0.12", "host_s_per_step"),
    "frameworks": ("megatron-core-0.8", "kernels.fused_softmax"),
    "studies": ("serving/sarathi-serve-capacity", "[[point]]"),
}


def test_every_kind_is_offered() -> None:
    assert set(ENTRIES) == set(KINDS)
    assert [line.split()[-1] for line in catalog_lines(None, None)[1:]] == list(KINDS)


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_kind_lists_its_entries_and_an_entry_its_numbers(kind: str) -> None:
    name, detail = ENTRIES[kind]
    assert any(name in line for line in catalog_lines(kind, None))
    assert any(detail in line for line in catalog_lines(kind, name))


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_unknown_entry_is_refused(kind: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown name '\.\./no-such-entry'"):
        catalog_lines(kind, "../no-such-entry")


def test_the_singular_of_a_kind_will_do() -> None:
    assert catalog_lines("gpu", None) == catalog_lines("gpus", None)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gpus'"):
        catalog_lines("gpuz", None)


def test_numbers_of_hardware_carry_grade_and_source() -> None:
    line = next(line for line in catalog_lines("gpus", "h100-sxm") if "memory_bandwidth_bytes_per_s" in line)
    assert any(grade in line for grade in ("measured", "quoted", "assumed"))
