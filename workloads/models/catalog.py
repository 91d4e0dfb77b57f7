"""Models by name: the catalog shipped with the package, other names for its entries, or a config.json of one's own."""

from __future__ import annotations

import difflib
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


def model(name_or_path: str, base: str | Path = ".") -> ModelArchitecture:
    """The architecture for a catalog name, an alias such as 'meta-llama/Llama-3.1-70B', or a path to a config.json.

    A relative path starts at `base`; a file of one's own is read afresh each time.
    """
    if name := _catalog_name(name_or_path):
        return _catalog_model(name)
    path = _path(name_or_path, base)
    if path is not None and (name_or_path.endswith(".json") or ("/" in name_or_path and path.exists())):
        return architecture_from_config(_read(path, str(path)), str(path))
    # an alias with a slash, which a scenario file has resolved from its own folder as if it were a path
    if name := _catalog_name("/".join(name_or_path.split("/")[-2:])):
        return _catalog_model(name)
    raise _unknown(name_or_path)


def known_name(name: str) -> str | None:
    """The catalog's name for a name or an alias; None where it has neither. Reads no file of the user's."""
    return _catalog_name(name)


def source(name: str) -> str:
    """Where the figures of a catalog entry come from."""
    known = _catalog_name(name)
    if known is None:
        raise _unknown(name)
    return str(_read(CATALOG / f"{known}.json", known)["_source"])


@cache
def _catalog_model(name: str) -> ModelArchitecture:
    return architecture_from_config(_read(CATALOG / f"{name}.json", name), name)


@cache
def _aliases() -> dict[str, str]:
    """Catalog names by alias, as it is written."""
    with ALIASES.open("rb") as file:
        return dict(tomllib.load(file)["aliases"])


@cache
def _folded_aliases() -> dict[str, str]:
    return {alias.casefold(): name for alias, name in _aliases().items()}


def _catalog_name(name: str) -> str | None:
    folded = name.casefold()
    return folded if folded in names() else _folded_aliases().get(folded)


def _unknown(name: str) -> UnknownNameError:
    """An error with the nearest name, or the nearest alias where an owner is given."""
    known = [alias for alias in _aliases() if "/" in alias] if "/" in name else names()
    return UnknownNameError(KEY, name, known if difflib.get_close_matches(name, known, n=1) else names())


def _path(name: str, base: str | Path) -> Path | None:
    """The path that a name may be; None where it cannot be one."""
    try:
        path = Path(base) / Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, nobody's home, a null character
        return None
    return path


def _read(path: Path, name: str) -> dict[str, Any]:
    if path.is_dir():
        raise FleetcastError(f"{KEY}: '{name}' is a folder; give the path of the config.json in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FleetcastError(f"{KEY}: there is no file '{name}'; give a config.json or a catalog name") from None
    except UnicodeDecodeError:
        raise FleetcastError(f"{name}: is not a text file; give a model's config.json") from None
    except json.JSONDecodeError as error:
        raise FleetcastError(f"{name}: line {error.lineno} is not valid JSON ({error.msg})") from None
    except (RecursionError, ValueError):  # nested without end, a number of thousands of digits
        raise FleetcastError(f"{name}: is not a model's config.json") from None
    except OSError as error:
        raise FleetcastError(f"{name}: cannot be read ({error.strerror})") from None
    if not isinstance(config, dict):
        raise FleetcastError(f"{name}: is not a JSON object with a model's fields")
    return config
