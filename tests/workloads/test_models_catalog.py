"""Models by name, alias and path, and the sentences a user reads when one cannot be had."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hardware_models.errors import FleetcastError, UnknownNameError
from workloads.models import catalog
from workloads.models.catalog import model, names, source
from workloads.models.counts import parameters

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def sentence(name: str) -> str:
    with pytest.raises(FleetcastError) as caught:
        model(name)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_catalog_has_the_usual_models() -> None:
    assert len(names()) >= 55
    assert names() == sorted(names())


@pytest.mark.parametrize("name", names())
def test_every_entry_loads_under_its_name_and_states_its_source(name: str) -> None:
    architecture = model(name)
    assert architecture.name == name
    assert sorted(layer for group in architecture.groups for layer in group.layers) == list(
        range(architecture.num_layers)
    )
    assert len(source(name)) > 10


def test_every_alias_leads_to_an_entry_and_hides_none() -> None:
    aliases = catalog._aliases()
    assert set(aliases.values()) == set(names())
    assert not {alias.lower() for alias in aliases} & set(names())
    assert len({alias.lower() for alias in aliases}) == len(aliases)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("meta-llama/Llama-3.1-70B", "llama-3.1-70b"),
        ("META-LLAMA/llama-3.1-70b", "llama-3.1-70b"),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b"),
        ("deepseek-r1", "deepseek-v3"),
        ("Qwen3-8B", "qwen3-8b"),
    ],
)
def test_other_names_lead_to_the_same_model(alias: str, name: str) -> None:
    assert model(alias) is model(name)
    assert source(alias) == source(name)


def test_mistral_v01_slides_and_v03_does_not() -> None:
    assert model("mistral-7b").window == 4096
    assert model("mistral-7b-v0.3").window == 0


def test_a_config_file_is_read_and_read_again_once_edited(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA))
    first = model(str(path))
    assert first.name == str(path)
    path.write_text(json.dumps({**LLAMA, "num_hidden_layers": 3}))
    stamp = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(stamp, stamp))
    assert parameters(model(str(path))) > parameters(first)


def test_an_unknown_name_brings_the_nearest() -> None:
    assert sentence("llama-3-9b") == "model.config: unknown name 'llama-3-9b'; did you mean 'llama-3-8b'?"
    assert "did you mean 'meta-llama/Llama-3.1-8B'" in sentence("meta-llama/Llama-3.1-9B")
    with pytest.raises(UnknownNameError, match="known: bert-large, "):
        model("zzzzzzzz")
    with pytest.raises(UnknownNameError):
        source("zzzzzzzz")


@pytest.mark.parametrize("name", ["", "~nobody-here/config", "a\0b", "x" * 5000])
def test_odd_names_are_unknown_names(name: str) -> None:
    with pytest.raises(UnknownNameError):
        model(name)


def test_a_missing_file_is_named() -> None:
    assert sentence("nowhere/config.json") == (
        "model.config: there is no file 'nowhere/config.json'; give a config.json or a catalog name"
    )


def test_a_folder_is_answered_with_its_config(tmp_path: Path) -> None:
    assert sentence(str(tmp_path)) == f"model.config: '{tmp_path}' is a folder; give the path of the config.json in it"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{\n 'model_type': 1}", "line 2 is not valid JSON (Expecting property name enclosed in double quotes)"),
        (b"", "line 1 is not valid JSON (Expecting value)"),
        (b"\x80\x81\xff", "is not a text file; give a model's config.json"),
        (b"[1, 2]", "is not a JSON object with a model's fields"),
        (b"null", "is not a JSON object with a model's fields"),
        (b"[" * 100_000, "is not a model's config.json"),
        (b"1" * 10_000, "is not a model's config.json"),
    ],
)
def test_a_bad_file_is_named_with_its_problem(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert sentence(str(path)) == f"{path}: {problem}"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())
    assert model(str(path)).num_layers == 2
