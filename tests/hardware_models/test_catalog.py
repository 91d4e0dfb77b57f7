"""The catalog's loader: every file loads, every number has a source, and mistakes are answered in one sentence."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.provenance import Source
from hardware_models.specs import NO_SOURCE, GpuSpec, Spec

ENTRIES = [(kind, name) for kind in catalog.MODELS for name in catalog.names(kind)]
GPUS = catalog.names("gpu")

GOOD_GPU = (Path(catalog.__file__).parent / "gpus" / "h100-sxm.toml").read_text(encoding="utf-8")


def load(kind: str, name: str) -> Spec:
    loaders: dict[str, Callable[[str], Spec]] = {
        kind: getattr(catalog, "prices" if kind == "price" else kind) for kind in catalog.MODELS
    }
    return loaders[kind](name)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_file_loads_bears_its_own_name_and_states_its_schema(kind: str, name: str) -> None:
    path = Path(catalog.__file__).parent / f"{kind}s" / f"{name}.toml"
    assert load(kind, name).name == name
    assert tomllib.loads(path.read_text(encoding="utf-8"))["schema"] == 1
    assert name == name.lower()


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_number_has_a_source(kind: str, name: str) -> None:
    spec = load(kind, name)
    for key in spec.model_dump(exclude={"name", "source"}):
        source = spec.source_of(key)
        assert source != NO_SOURCE
        assert len(source.text) > 5


def test_source_of_prefers_the_entry_then_the_table_then_the_default() -> None:
    spec = catalog.gpu("h100-sxm")
    quoted, assumed = (Source(grade=grade, text="t") for grade in ("quoted", "assumed"))
    table = {"default": NO_SOURCE, "peak_flop_per_s": quoted, "peak_flop_per_s.fp8": assumed}
    spec = spec.model_copy(update={"source": table})
    assert spec.source_of("peak_flop_per_s.fp8") == assumed
    assert spec.source_of("peak_flop_per_s.bf16") == quoted
    assert spec.source_of("tdp_w") == NO_SOURCE
    with pytest.raises(UnknownNameError, match="tdp_w"):
        spec.source_of("tdp")


def test_equal_specs_hash_alike_so_that_they_can_key_a_cache() -> None:
    spec = catalog.gpu("h100-sxm")
    assert len({spec, spec.model_copy(deep=True)}) == 1


def test_every_gpu_has_a_price_and_every_price_a_gpu() -> None:
    assert sorted(catalog.prices().usd_per_gpu_h) == GPUS
    assert all(0.1 < catalog.price_usd_per_gpu_h(name) < 20 for name in GPUS)
    assert catalog.price_usd_per_gpu_h("t4") < catalog.price_usd_per_gpu_h("h100-sxm")


@pytest.mark.parametrize("kind", [kind for kind in catalog.MODELS if kind != "price"])
def test_an_unknown_name_is_answered_with_the_nearest_spelling(kind: str) -> None:
    name = catalog.names(kind)[0]
    with pytest.raises(UnknownNameError, match=f"unknown name '{name}x'; did you mean '{name}'"):
        load(kind, f"{name}x")


def test_the_start_of_a_name_is_answered_with_the_names_that_start_so() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'h100-"):
        catalog.gpu("h100")
    with pytest.raises(UnknownNameError, match=r"known: a100-40gb-pcie, .*a100-80gb-sxm$"):
        catalog.gpu("a100")


def test_unknown_prices_kinds_and_paths_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="h100-sxm"):
        catalog.price_usd_per_gpu_h("h100-smx")
    with pytest.raises(UnknownNameError, match="node"):
        catalog.names("nod")
    with pytest.raises(UnknownNameError):
        catalog.gpu("../gpus/h100-sxm")
    assert catalog.names("gpus") == GPUS


def test_a_node_is_loaded_from_one_file_and_kept() -> None:
    catalog._entry.cache_clear()
    assert catalog.node("dgx-h100") is catalog.node("dgx-h100")
    assert catalog._entry.cache_info().misses == 1


def user_gpu(folder: Path, old: str = "", new: str = "") -> str:
    path = folder / "mine.toml"
    assert old in GOOD_GPU
    path.write_text(GOOD_GPU.replace(old, new, 1), encoding="utf-8")
    return str(path)


def test_a_users_gpu_may_have_any_name_and_no_source(tmp_path: Path) -> None:
    text = GOOD_GPU.split("[source]", maxsplit=1)[0].replace('name = "h100-sxm"', 'name = "h100-fast"')
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("3.35e12", "6.7e12"), encoding="utf-8")
    spec = catalog.gpu(str(path))
    assert spec.name == "h100-fast"
    assert spec.memory_bandwidth_bytes_per_s == 6.7e12
    assert spec.source_of("tdp_w").grade == "assumed"


def test_a_users_file_is_read_afresh(tmp_path: Path) -> None:
    assert catalog.gpu(user_gpu(tmp_path)).tdp_w == 700
    assert catalog.gpu(user_gpu(tmp_path, "tdp_w = 700.0", "tdp_w = 500")).tdp_w == 500


def test_a_users_node_finds_its_gpu_beside_it(tmp_path: Path) -> None:
    user_gpu(tmp_path)
    node = (Path(catalog.__file__).parent / "nodes" / "dgx-h100.toml").read_text(encoding="utf-8")
    (tmp_path / "box.toml").write_text(node.replace('"h100-sxm"', '"mine.toml"'), encoding="utf-8")
    spec = catalog.node(str(tmp_path / "box.toml"))
    assert isinstance(catalog.gpu(spec.gpu), GpuSpec)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("tdp_w =", "tdp =", r"unknown key 'tdp' = 700.0; did you mean 'tdp_w'\?"),
        ("tdp_w = 700.0", "", "missing key 'tdp_w'"),
        ("tdp_w = 700.0", 'tdp_w = "much"', "tdp_w = 'much'"),
        ("= 3.35e12", "= 3350", r"memory_bandwidth_bytes_per_s = 3350.*SI"),
        ("= 132", "= 132.5", r"sm_count = 132\.5"),
        ("bf16 =", "bf17 =", r"peak_flop_per_s: .*unknown dtype 'bf17'"),
        ("fp32 =", "int4 =", r"peak_flop_per_s: .*'fp32'"),
        ('grade = "quoted"', 'grade = "sure"', r"source\.default\.grade = 'sure'"),
        ("idle_w = {", "idle = {", "source names 'idle'"),
        ("schema = 1", "schema = 2", "schema = 2"),
        ("schema = 1", "schema =", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_users_file_is_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = user_gpu(tmp_path, old, new)
    with pytest.raises(FleetcastError, match=sentence) as caught:
        catalog.gpu(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_a_missing_users_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FleetcastError, match=r"nowhere\.toml: cannot be read"):
        catalog.gpu(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("scale_up_group = 8", "scale_up_group = 3", "scale_up_group 3 and gpus 8"),
        ('scale_up = "nvlink4-switch"', "", "scale_up_group must be 1"),
    ],
)
def test_a_node_whose_groups_do_not_divide_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    text = (Path(catalog.__file__).parent / "nodes" / "dgx-h100.toml").read_text(encoding="utf-8")
    (tmp_path / "box.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(FleetcastError, match=sentence):
        catalog.node(str(tmp_path / "box.toml"))
