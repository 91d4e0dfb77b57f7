"""Reads scenario files: TOML in, a validated Scenario out, or one sentence on what is wrong and what would do."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.scenario import Scenario
from sim.scenario_errors import sentence
from sim.section import NamedScenario
from sim.training_scenario import TrainedClusterSection, TrainingScenario

AnyScenario = Scenario | TrainingScenario | OffloadedInferenceScenario
Kind = TypeVar("Kind", Scenario, TrainingScenario, OffloadedInferenceScenario)
Named = TypeVar("Named", bound=NamedScenario)
PATH_KEYS = (
    ("model", "config"), ("cluster", "node"), ("cluster", "node_links"), ("workload", "trace"),
    ("energy", "grid"), ("energy", "price"), ("energy", "embodied"), ("training", "stage_profile"),
    ("power.training", "scenario"),
)  # fmt: skip
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
KEY_PARTS = 16  # of a dotted key at most: the parser's time grows with their square
QUOTED = re.compile(  # comments and strings, as far as the line or the text goes where they have no end
    r"""#[^\n]*+|\"{3}(?:[^\\"]|\\[\s\S]|"(?!""))*+(?:"{3,5})?|'{3}(?:[^']|'(?!''))*+(?:'{3,5})?"""
    r"""|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?"""
)
OVERLONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]++[ \t]*+\.[ \t]*+){{{KEY_PARTS}}}")


def load_scenario(path: str | Path, overrides: tuple[str, ...] = ()) -> Scenario:
    """Read a scenario file and apply `key=value` overrides; raises FleetcastError.

    Paths inside the file are resolved from its own folder.
    """
    path = Path(path)
    return parse_scenario(read_toml(path), str(path), path.parent, overrides)


def parse_scenario(data: dict[str, Any], origin: str, folder: Path, overrides: tuple[str, ...] = ()) -> Scenario:
    """Validate scenario tables; `origin` names them in messages."""
    return _parse(Scenario, data, origin, folder, overrides)


def load_any(path: str | Path, overrides: tuple[str, ...] = ()) -> AnyScenario:
    """Read a scenario file of any family, by its sections; else as `load_scenario`."""
    path = Path(path)
    return parse_any(read_toml(path), str(path), path.parent, overrides)


def parse_any(data: dict[str, Any], origin: str, folder: Path, overrides: tuple[str, ...] = ()) -> AnyScenario:
    """Validate tables as a scenario of training or of offloaded inference, by their sections, or of serving."""
    kind = scenario_model(data)
    if kind is TrainingScenario:
        return _parse(TrainingScenario, data, origin, folder, overrides)
    if kind is OffloadedInferenceScenario:
        return _parse(OffloadedInferenceScenario, data, origin, folder, overrides)
    return _parse(Scenario, data, origin, folder, overrides)


def scenario_model(
    tables: Mapping[str, Any],
) -> type[Scenario] | type[TrainingScenario] | type[OffloadedInferenceScenario]:
    """What tables are a scenario of, by their sections."""
    if "training" in tables:
        return TrainingScenario
    return OffloadedInferenceScenario if "offload" in tables else Scenario


def _parse(kind: type[Kind], data: dict[str, Any], origin: str, folder: Path, overrides: tuple[str, ...]) -> Kind:
    for override in overrides:
        apply_override(data, override)
    resolve_paths(data, folder)
    try:
        scenario = kind.model_validate(data)
        _check_names(scenario)
    except ValidationError as error:
        raise FleetcastError(f"{origin}: {sentence(error, kind)}") from None
    except UnknownNameError as error:
        raise FleetcastError(f"{origin}: {error}") from None
    return scenario


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tables; raises FleetcastError for anything that is not one."""
    try:
        if path.is_dir():
            raise FleetcastError(f"{path}: is a folder; give a scenario file (TOML)")
        content = path.read_bytes()
    except FileNotFoundError:
        raise FleetcastError(f"{path}: no such file; give a scenario file (TOML)") from None
    except OSError as error:
        raise FleetcastError(
            f"{_shortened(path)}: cannot be read ({error.strerror}); give a scenario file (TOML)"
        ) from None
    return toml_tables(content, str(path))


def toml_tables(content: bytes, origin: str) -> dict[str, Any]:
    """The tables of a TOML document, which `origin` names in messages; raises FleetcastError for one that is none."""
    try:
        text = content.decode("utf-8-sig")
        if _has_overlong_key(text):
            raise FleetcastError(f"{origin}: has a key of more than {KEY_PARTS} parts; no scenario needs that")
        return tomllib.loads(text)
    except UnicodeDecodeError:
        raise FleetcastError(f"{origin}: is not UTF-8 text; give a scenario file (TOML) saved as UTF-8") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, as are numbers of 5,000 digits
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise FleetcastError(f"{origin}: is not valid TOML: {detail}") from None


def _has_overlong_key(text: str) -> bool:
    """Seen without parsing: strings count as one part of a key, comments as none."""
    bare = QUOTED.sub(lambda found: "" if found[0].startswith("#") else "s", text)
    return OVERLONG_KEY.search(bare) is not None


def _shortened(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 120 else f"{text[:117]}..."


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one `key=value` in a scenario's tables, the key dotted, the value TOML or a bare word; `key=` sets it as if
    it were absent. Raises FleetcastError.
    """
    key, found, text = override.partition("=")
    *tables, last = (part.strip() for part in key.split("."))
    if not found or not all((*tables, last)):
        raise FleetcastError(f"--set {override}: write it as key=value, for example serving.max_num_seqs=64")
    table: Any = data
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise FleetcastError(f"--set {override}: '{name}' is a value, not a table; set it as a whole")
    table[last] = override_value(text) if text.strip() else None


def override_value(text: str) -> Any:
    """What `key=TEXT` sets: a TOML value; anything else is a bare word, so a string, as is one with an overlong key."""
    if _has_overlong_key(text):
        return text.strip()
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text.strip()
    return parsed["value"] if len(parsed) == 1 else text.strip()


def resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Turn values that are paths (with a slash, or a file of that name is in `folder`) into ones from where we are."""
    for section, key in PATH_KEYS:
        table = table_of(data, section)
        value = table.get(key)
        if not isinstance(value, str) or not value or Path(value).is_absolute():
            continue
        if "/" in value or _is_file(folder / value):
            path = os.path.normpath(folder / value)
            table[key] = f"./{path}" if "/" in value and "/" not in path else path  # a path stays told from a name


def relocated(scenario: Named, folder: Path) -> Named:
    """The same scenario, its relative paths seen from a folder: what a scenario.toml in there must say."""
    tables = scenario.model_dump()
    for section, key in PATH_KEYS:
        table = table_of(tables, section)
        value = table.get(key)
        if isinstance(value, str) and not Path(value).is_absolute() and ("/" in value or _is_file(Path(value))):
            path = os.path.relpath(value, folder)
            table[key] = path if "/" in path else f"./{path}"
    return type(scenario).model_validate(tables)


def table_of(tables: dict[str, Any], section: str) -> dict[str, Any]:
    """A section's table, its name dotted where it lies within others; an empty one where there is none."""
    found: Any = tables
    for name in section.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for a file
        return False


def _check_names(scenario: AnyScenario) -> None:
    """Refuse hardware that no catalog has, used by the run or not; raises UnknownNameError."""
    if (energy := getattr(scenario, "energy", None)) is not None:
        energy.check_names()
    cluster = scenario.cluster
    if not cluster.node.endswith(".toml") and cluster.node not in (nodes := catalog.names("nodes")):
        raise UnknownNameError("cluster.node", cluster.node, nodes)
    if cluster.network is not None and cluster.network not in (links := catalog.names("links")):
        raise UnknownNameError("cluster.network", cluster.network, links)
    measured = cluster.node_links if isinstance(cluster, TrainedClusterSection) else None
    if measured is not None and not measured.endswith(".toml") and measured not in catalog.names("node_links"):
        raise UnknownNameError("cluster.node_links", measured, catalog.names("node_links"))
    profile = scenario.training.stage_profile if isinstance(scenario, TrainingScenario) else None
    if profile is not None and not profile.endswith(".toml") and profile not in catalog.names("stage_profiles"):
        raise UnknownNameError("training.stage_profile", profile, catalog.names("stage_profiles"))


def scenario_toml(scenario: NamedScenario) -> str:
    """A scenario as a TOML document that loads back to an equal one."""
    return tables_toml(scenario.model_dump(exclude_none=True))


def tables_toml(tables: dict[str, Any]) -> str:
    """A scenario's tables as a TOML document, a section each."""
    sections = {key: value for key, value in tables.items() if isinstance(value, dict)}
    lines = [f"{key} = {toml_value(value)}" for key, value in tables.items() if key not in sections]
    for name, table in sections.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # else a JSON string is a TOML one
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


def _toml_key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else toml_value(key)
