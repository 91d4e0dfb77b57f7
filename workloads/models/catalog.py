"""Models by name: the catalog shipped with the package, other names for its entries, or a config.json of one's own."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from hardware_models.errors import FleetcastError, UnknownNameError
from workloads.models.architecture import ModelArchitecture
from workloads.models.hf_config import architecture_from_config

CATALOG = Path(__file__).parent / "catalog"
ALIASES = Path(__file__).parent / "aliases.toml"
KEY = "model.config"


@cache
def names() -> list[str]:
    """Names in the catalog, sorted."""
    return sorted(path.stem for path in CATALOG.glob("*.json"))


@cache
def model(name_or_path: str) -> ModelArchitecture:
    """The architecture for a catalog name, an alias such as 'meta-llama/Llama-3.1-70B', or a path to a config.json."""
    if name := _catalog_name(name_or_path):
        return architecture_from_config(_read(CATALOG / f"{name}.json", name), name)
    path = Path(name_or_path).expanduser()
    if name_or_path.endswith(".json") or ("/" in name_or_path and path.exists()):
        return architecture_from_config(_read(path, name_or_path), name_or_path)
    raise UnknownNameError(KEY, name_or_path, names())


def source(name: str) -> str:
    """Where the figures of a catalog entry come from."""
    known = _catalog_name(name)
    if known is None:
        raise UnknownNameError(KEY, name, names())
    return str(_read(CATALOG / f"{known}.json", known)["_source"])


@cache
def _aliases() -> dict[str, str]:
    with ALIASES.open("rb") as file:
        return {alias.lower(): name for alias, name in tomllib.load(file)["aliases"].items()}


def _catalog_name(name: str) -> str | None:
    lower = name.lower()
    if lower in names():
        return lower
    return _aliases().get(lower)


def _read(path: Path, name: str) -> dict[str, Any]:
    if path.is_dir():
        raise FleetcastError(f"{KEY}: '{name}' is a folder; give the path of the config.json in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FleetcastError(f"{KEY}: no file '{name}'; give a config.json or one of: {', '.join(names())}") from None
    except UnicodeDecodeError:
        raise FleetcastError(f"{name}: is not a text file; give a model's config.json") from None
    except json.JSONDecodeError as error:
        raise FleetcastError(f"{name}: line {error.lineno} is not valid JSON ({error.msg})") from None
    except OSError as error:
        raise FleetcastError(f"{name}: cannot be read ({error.strerror})") from None
    if not isinstance(config, dict):
        raise FleetcastError(f"{name}: holds {type(config).__name__}, not a JSON object with a model's fields")
    return config
