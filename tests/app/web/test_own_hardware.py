"""Copies of servers in the app's folder: kept by bare names, read from nowhere else."""

import errno
from pathlib import Path

import pytest

from app.web.own_hardware import MOST, changes_of, copy_names, node_reference, own_specs, remove_copy, save_copy, tried
from app.web.store import Store
from hardware_models import catalog, variation_file
from hardware_models.errors import FleetcastError
from hardware_models.variation import parse_change, vary_node

CHANGES = [parse_change("gpu.memory_bandwidth_bytes_per_s=2x"), parse_change("scale_up.bandwidth_bytes_per_s=0.5x")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_a_copy_is_kept_found_listed_and_removed(store: Store) -> None:
    assert copy_names(store) == []
    assert save_copy("dgx-h100", "mine", CHANGES, store) == "mine.toml"
    assert copy_names(store) == ["mine.toml"]
    node = catalog.node(node_reference("mine.toml", store))
    assert catalog.gpu(node.gpu).memory_bandwidth_bytes_per_s == 6.7e12
    assert [(kind, spec.name) for kind, spec in own_specs(store)] == [
        ("node", "mine"), ("gpu", "mine-gpu"), ("link", "mine-scale_up"),
    ]  # fmt: skip
    said = changes_of([spec for _, spec in own_specs(store)])
    assert said[0] == "h100-sxm: memory bandwidth 6.7 TB/s (2 x the 3.35e+12 of h100-sxm)"
    remove_copy("mine.toml", store)
    assert list(store.hardware.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "", "..", "x.toml", "dgx-h100"])
def test_a_copy_has_a_bare_name_of_its_own(store: Store, name: str) -> None:
    with pytest.raises(FleetcastError):
        save_copy("dgx-h100", name, CHANGES, store)
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["../x.toml", "/etc/x.toml", "x/gpu.toml", "none.toml", ".toml"])
def test_no_other_file_is_read_or_removed(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "x.toml").write_text("")
    save_copy("dgx-h100", "x", CHANGES, store)
    for touch in (node_reference, remove_copy):
        with pytest.raises(FleetcastError):
            touch(name, store)
    assert (tmp_path / "x.toml").exists()
    assert (store.hardware / "x" / "gpu.toml").exists()


def test_a_copy_that_names_a_file_outside_is_refused_and_left_out_of_lists(store: Store, tmp_path: Path) -> None:
    save_copy("dgx-h100", "mine", CHANGES, store)
    file = store.hardware / "mine.toml"
    file.write_text(file.read_text().replace("mine/gpu.toml", "../../secret.toml"))
    with pytest.raises(FleetcastError, match="lies outside the app's hardware folder"):
        node_reference("mine.toml", store)
    assert list(own_specs(store)) == []


def test_a_copy_can_be_copied_and_replaced(store: Store) -> None:
    save_copy("dgx-h100", "one", CHANGES, store)
    save_copy("one.toml", "two", [parse_change("gpu.memory_bytes=2x")], store)
    gpu = catalog.gpu(catalog.node(node_reference("two.toml", store)).gpu)
    assert (gpu.variation_of, gpu.memory_bandwidth_bytes_per_s) == ("h100-sxm", 6.7e12)
    save_copy("dgx-a100-80gb", "two", [parse_change("gpu.memory_bytes=2x")], store)
    assert catalog.gpu(catalog.node(node_reference("two.toml", store)).gpu).variation_of == "a100-80gb-sxm"


def test_copies_are_numbered(store: Store) -> None:
    store.hardware.mkdir(parents=True)
    for number in range(MOST):
        (store.hardware / f"c{number}.toml").write_text("")
    with pytest.raises(FleetcastError, match="remove one"):
        save_copy("dgx-h100", "one-more", CHANGES, store)


def test_what_is_tried_leaves_nothing_behind(store: Store) -> None:
    with tried(vary_node("dgx-h100", "copy", CHANGES), store) as file:
        assert catalog.node(str(file)).name == "copy"
        assert copy_names(store) == []
    assert list(store.hardware.iterdir()) == []


def test_a_copy_can_be_replaced_by_a_copy_of_itself(store: Store) -> None:
    save_copy("dgx-h100", "mine", CHANGES, store)
    save_copy("mine.toml", "mine", [parse_change("gpu.memory_bytes=2x")], store)
    gpu = catalog.gpu(catalog.node(node_reference("mine.toml", store)).gpu)
    assert (gpu.memory_bandwidth_bytes_per_s, gpu.memory_bytes) == (6.7e12, 2 * 85_520_809_984)


def test_a_copy_that_cannot_be_written_leaves_the_earlier_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    save_copy("dgx-h100", "mine", CHANGES, store)
    kept = {path: path.read_bytes() for path in store.hardware.rglob("*.toml")}

    def full(_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(variation_file, "spec_toml", full)
    with pytest.raises(FleetcastError, match="cannot be written"):
        save_copy("dgx-a100-80gb", "mine", [parse_change("gpu.memory_bytes=2x")], store)
    assert {path: path.read_bytes() for path in store.hardware.rglob("*.toml")} == kept


def test_an_earlier_copys_parts_go_with_it(store: Store) -> None:
    save_copy("dgx-h100", "mine", CHANGES, store)
    save_copy("dgx-h100", "mine", [parse_change("gpu.memory_bytes=2x")], store)
    assert sorted(path.relative_to(store.hardware).as_posix() for path in store.hardware.rglob("*")) == [
        "mine", "mine.toml", "mine/gpu.toml",
    ]  # fmt: skip
