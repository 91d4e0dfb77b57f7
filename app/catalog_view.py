"""What Fleetcast knows, listed; and one entry in full, each number with its grade and source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.framework import Framework, framework, framework_names
from hardware_models.specs import Spec
from hardware_models.training_framework import TrainingFramework, training_framework, training_framework_names
from policies.parallelism import RECOMPUTE, SCHEDULES, SHARDING
from policies.parallelism.activation_offload import ACTIVATION_OFFLOAD
from policies.parallelism.gradient_reduce import GRADIENT_REDUCE
from policies.parallelism.mapping import NODE_MAPPINGS
from policies.parallelism.optimizers import OPTIMIZERS
from policies.power import GOVERNORS, ROW_POLICIES, SCALERS
from policies.power.smoothing import SMOOTHING
from policies.power.stage_clocks import STAGE_CLOCKS
from policies.serving import ROUTERS, SCHEDULERS
from workloads.generators import ARRIVALS, GENERATORS, LENGTHS
from workloads.models import catalog as models
from workloads.models.counts import active_parameters, kv_bytes_per_token, parameters
from workloads.traces.catalog import catalog_entry, catalog_names
from workloads.training.context import CONTEXT

HARDWARE = (
    "gpus", "cpus", "ssds", "nics", "links", "nodes", "clusters", "node_links", "server_parts", "prices",
    "energy_prices", "grids", "embodied_carbons",
)  # fmt: skip
# shown where they are there alone: of measured links, of variations, of servers whose PCIe tree is known, of networks
# unlike a plain tree
OPTIONAL = (
    "full_bytes_per_s", "variation_of", "original_bandwidth_bytes_per_s", "psu_w", "fan_fraction", "pcie_switches",
    "nic_peer_bandwidth_bytes_per_s", "fabric", "routing", "flows_per_connection", "planes", "nodes_per_pod",
    "pod_oversubscription", "links_per_switch_pair", "links_per_group_pair",
)  # fmt: skip
KINDS = (*HARDWARE, "models", "traces", "policies", "generators", "engines", "frameworks", "studies")


def print_catalog(kind: str | None, name: str | None) -> None:
    """List the kinds, a kind's names, or one entry."""
    for line in catalog_lines(kind, name):
        click.echo(line)


def catalog_lines(kind: str | None, name: str | None) -> list[str]:
    """The listing, line by line; raises UnknownNameError."""
    if kind is None:
        return ["give a kind, and a name for one entry with its sources:", *(f"  fleetcast catalog {k}" for k in KINDS)]
    if kind not in KINDS and f"{kind}s" in KINDS:
        kind += "s"
    if kind in HARDWARE:
        return _listed(catalog.names(kind)) if name is None else _spec_lines(kind, name)
    views: dict[str, tuple[Callable[[], list[str]], Callable[[str], list[str]]]] = {
        "models": (_model_list, _model_lines),
        "traces": (catalog_names, _trace_lines),
        "engines": (framework_names, lambda n: _profile_lines(framework(n))),
        "frameworks": (training_framework_names, lambda n: _profile_lines(training_framework(n))),
        "policies": (lambda: _registry_list(POLICIES), lambda n: _registry_lines(POLICIES, n)),
        "generators": (lambda: _registry_list(WORKLOADS), lambda n: _registry_lines(WORKLOADS, n)),
        "studies": (_study_list, _study_lines),
    }
    if kind not in views:
        raise UnknownNameError("kind", kind, KINDS)
    listing, entry = views[kind]
    return _listed(listing()) if name is None else entry(name)


POLICIES: dict[str, dict[str, type[Any]]] = {
    "serving.scheduler": {**SCHEDULERS},
    "serving.router": {**ROUTERS},
    "training.schedule": {**SCHEDULES},
    "training.sharding": {**SHARDING},
    "training.recompute": {**RECOMPUTE},
    "training.gradient_reduce": {**GRADIENT_REDUCE},
    "training.context_parallel": {**CONTEXT},
    "training.activation_offload": {**ACTIVATION_OFFLOAD},
    "training.node_mapping": {**NODE_MAPPINGS},
    "training.optimizer": {**OPTIMIZERS},
    "power.policy": {**ROW_POLICIES},
    "power.governor": {**GOVERNORS},
    "power.scaler": {**SCALERS},
    "power.smoothing": {**SMOOTHING},
    "power.stage_clocks": {**STAGE_CLOCKS},
}
WORKLOADS = {
    "workload.generator": GENERATORS,
    "arrivals": ARRIVALS,
    "prompt_tokens, output_tokens": LENGTHS,
}


def _listed(names: list[str]) -> list[str]:
    return [f"  {name}" for name in names]


def spec_of(kind: str, name: str) -> Spec:
    """An entry of HARDWARE: of the catalog by name, or (gpus, links, nics, nodes) a user's own file."""
    spec: Spec = getattr(catalog, kind if kind == "prices" else kind.removesuffix("s"))(name)
    return spec


def _spec_lines(kind: str, name: str) -> list[str]:
    spec = spec_of(kind, name)
    lines = [spec.name]
    absent = {key for key in OPTIONAL if getattr(spec, key, None) is None}
    for key, value in spec.model_dump(exclude={"name", "source", *absent}).items():
        entries = value.items() if isinstance(value, dict) else [(None, value)]
        for entry, number in entries:
            full = key if entry is None else f"{key}.{entry}"
            source = spec.source_of(full)
            lines.append(f"  {full:<34} {_number(number):>22}  {source.grade:<9} {source.text}")
    return lines


def matrix_ends(value: Any) -> tuple[float, float] | None:
    """The least and the most of a square matrix, off its diagonal; None for anything else."""
    if not isinstance(value, tuple) or not value or not all(isinstance(row, tuple) for row in value):
        return None
    rest = [number for i, row in enumerate(value) for j, number in enumerate(row) if i != j]
    return min(rest), max(rest)


def _number(value: Any) -> str:
    if (ends := matrix_ends(value)) is not None:
        return f"{len(value)} x {len(value)}, {ends[0]:.6g} to {ends[1]:.6g}"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _model_list() -> list[str]:
    lines = []
    for name in models.names():
        architecture = models.model(name)
        total, active = parameters(architecture), active_parameters(architecture)
        extra = f", {active / 1e9:.3g} B active" if active != total else ""
        kv = kv_bytes_per_token(architecture, "bf16")
        lines.append(f"{name:<22} {total / 1e9:8.4g} B parameters{extra}, KV {kv / 1024:,.0f} KiB a token")
    return lines


def _model_lines(name: str) -> list[str]:
    architecture = models.model(name)
    lines = [name, f"  source: {models.source(name)}", f"  parameters: {parameters(architecture):,}"]
    fields = [field.name for field in dataclasses.fields(architecture) if field.name not in ("name", "groups")]
    lines += [f"  {field}: {getattr(architecture, field)}" for field in fields]
    lines += [f"  {group.count} layers: {group.attention}; {group.mlp}" for group in architecture.groups]
    return lines


def _trace_lines(name: str) -> list[str]:
    entry = catalog_entry(name)
    lines = [name, *(f"  {key}: {value}" for key, value in entry.items() if isinstance(value, str | int | float))]
    figures = entry["figures"].items()
    return [*lines, *(f"  {key}: {value:,}" for key, value in figures if isinstance(value, int | float))]


def _profile_lines(profile: Framework | TrainingFramework) -> list[str]:
    """Of software: what it does and what that costs."""
    lines = [profile.name]
    for key, value in profile.model_dump(exclude={"name", "source"}).items():
        for name, number in (
            ((f"{key}.{k}", v) for k, v in value.items()) if isinstance(value, dict) else [(key, value)]
        ):
            source = profile.source.get(name, profile.source.get(key, profile.source["default"]))
            lines.append(f"  {name:<32} {_number(number):>16}  {source.grade:<9} {source.text}")
    return lines


def _registry_list(registries: dict[str, dict[str, type[Any]]]) -> list[str]:
    lines = []
    for family, registry in registries.items():
        lines += [f"{family}: {name:<20} {_first_line(kind)}" for name, kind in registry.items()]
    return lines


def _registry_lines(registries: dict[str, dict[str, type[Any]]], name: str) -> list[str]:
    """Of a name, in every family that has it."""
    found = {family: registry[name] for family, registry in registries.items() if name in registry}
    if not found:
        raise UnknownNameError("name", name, {known for registry in registries.values() for known in registry})
    lines = []
    for family, kind in found.items():
        of_family = f" ({family})" if len(found) > 1 else ""
        lines += [f"{name}{of_family}: {kind.__doc__ or ''}", "  keys:"]
        for field in dataclasses.fields(kind):
            default = "required" if field.default is dataclasses.MISSING else repr(field.default)
            lines.append(f"    {field.name}: {field.type} = {default}")
    return lines


def _first_line(kind: type[Any]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _study_folder() -> Path:
    return Path(__file__).parent.parent / "studies"


def _study_list() -> list[str]:
    return sorted(p.relative_to(_study_folder()).with_suffix("").as_posix() for p in _study_folder().glob("*/*.toml"))


def _study_lines(name: str) -> list[str]:
    path = _study_folder() / f"{name}.toml"
    if name not in _study_list():
        raise UnknownNameError("study", name, _study_list())
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FleetcastError(f"{path}: cannot be read: {error.strerror}") from None
