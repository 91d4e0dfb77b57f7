"""Variations as files: `NAME.toml`, the server, and `NAME/gpu.toml` and the like, its own parts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hardware_models.errors import FleetcastError
from hardware_models.spec_file import SCHEMA
from hardware_models.specs import Spec
from hardware_models.variation import Variation


def write_variation(variation: Variation, folder: Path) -> Path:
    """Write the server and its parts into a folder, in place of a copy of that name; returns the server's file.

    Raises FleetcastError where that cannot be.
    """
    name = variation.node.name
    file, parts = folder / f"{name}.toml", folder / name
    references = {key: f"{name}/{key}.toml" for key in variation.parts if key != "network"}
    specs = dict(variation.parts)
    if "nic" in specs:
        specs["nic"] = specs["nic"].model_copy(update={"link": "network.toml"})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_variation(file)
        for key, spec in specs.items():
            parts.mkdir(exist_ok=True)
            (parts / f"{key}.toml").write_text(spec_toml(spec), encoding="utf-8")
        built = folder / f".{name}.{os.getpid()}.part"
        built.write_text(spec_toml(variation.node.model_copy(update=references)), encoding="utf-8")
        built.replace(file)
    except OSError as error:
        raise FleetcastError(f"{file}: cannot be written ({error.strerror}); choose another folder") from None
    return file


def remove_variation(file: Path) -> None:
    """Take a server's file and the parts beside it away, where they are there."""
    file.unlink(missing_ok=True)
    parts = file.with_suffix("")
    if parts.is_dir() and not parts.is_symlink():
        shutil.rmtree(parts)


def spec_toml(spec: Spec) -> str:
    """A spec as a file of the catalog."""
    table = spec.model_dump(mode="json", exclude_none=True)
    sources = table.pop("source")
    lines = [f"schema = {SCHEMA}"]
    lines += [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *(f"{_key(entry)} = {_value(number)}" for entry, number in value.items())]
    lines += ["", "[source]"]
    lines += [
        f"{_key(key)} = {{ grade = {_value(source['grade'])}, text = {_value(source['text'])} }}"
        for key, source in sources.items()
    ]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _value(key)


def _value(value: Any) -> str:
    """A JSON string, number or boolean is a TOML one, but for the delete character; tables in a list are inline."""
    if isinstance(value, list):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
