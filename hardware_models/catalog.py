"""The catalog: a name becomes a spec, read from the one TOML file of that name and kept.

`gpu("h100-sxm")` reads `gpus/h100-sxm.toml` and nothing else. `gpu`, `link`, `nic` and `node` also take the path of a
user's own file (ending in .toml), which is read afresh each time.
"""

from __future__ import annotations

import functools
from pathlib import Path

from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.node_link_spec import NodeLinkSpec
from hardware_models.server_parts_spec import ServerPartsSpec
from hardware_models.site_specs import EmbodiedSpec, GridSpec
from hardware_models.spec_file import S, parse_spec
from hardware_models.specs import (
    NO_SOURCE,
    ClusterSpec,
    CpuSpec,
    EnergyPriceTable,
    GpuSpec,
    LinkSpec,
    NicSpec,
    NodeSpec,
    PriceTable,
    Spec,
    SsdSpec,
)
from hardware_models.stage_profile_spec import StageProfileSpec
from hardware_models.tier_rates_spec import TierRatesSpec

ROOT = Path(__file__).parent
MODELS: dict[str, type[Spec]] = {
    "gpu": GpuSpec,
    "cpu": CpuSpec,
    "ssd": SsdSpec,
    "nic": NicSpec,
    "link": LinkSpec,
    "node": NodeSpec,
    "cluster": ClusterSpec,
    "node_link": NodeLinkSpec,
    "server_part": ServerPartsSpec,
    "stage_profile": StageProfileSpec,
    "tier_rate": TierRatesSpec,
    "price": PriceTable,
    "energy_price": EnergyPriceTable,
    "grid": GridSpec,
    "embodied_carbon": EmbodiedSpec,
}
USUAL_PARTS = "usual"
USUAL_TIERS = "usual"
LIST_PRICES = "list-prices"
ENERGY_PRICES = "large-users"
NODE_PARTS = ("gpu", "scale_up", "pcie", "nic")  # keys of a node that may name a file, relative to the node's own


def gpu(name: str) -> GpuSpec:
    """A GPU by catalog name, or from the user's own .toml."""
    return _user_file(GpuSpec, "gpu", Path(name)) if name.endswith(".toml") else _named(GpuSpec, "gpu", name)


def cpu(name: str) -> CpuSpec:
    """A CPU socket by catalog name."""
    return _named(CpuSpec, "cpu", name)


def ssd(name: str) -> SsdSpec:
    """A drive by catalog name."""
    return _named(SsdSpec, "ssd", name)


def nic(name: str) -> NicSpec:
    """A network card by catalog name, or from the user's own .toml; a link file it names is relative to that file."""
    if not name.endswith(".toml"):
        return _named(NicSpec, "nic", name)
    return _located(_user_file(NicSpec, "nic", Path(name)), Path(name).parent, ("link",))


def link(name: str) -> LinkSpec:
    """A link by catalog name, or from the user's own .toml."""
    if not name.endswith(".toml"):
        return _named(LinkSpec, "link", name)
    spec = _user_file(LinkSpec, "link", Path(name))
    if spec.variation_of is not None:
        return spec.beside(link(spec.variation_of))
    if spec.name in names("link") and original_of(spec) is None:  # the catalog's calibration is not of this one
        return spec.model_copy(update={"name": f"{spec.name} (own)"})
    return spec


def node(name: str) -> NodeSpec:
    """A server by catalog name, or from the user's own .toml; files it names (NODE_PARTS) are relative to that file."""
    if not name.endswith(".toml"):
        return _named(NodeSpec, "node", name)
    return _located(_user_file(NodeSpec, "node", Path(name)), Path(name).parent, NODE_PARTS)


def user_parts(server: NodeSpec) -> list[Spec]:
    """What a server is made of that lies in the user's own files: GPU, links, network card and its link."""
    parts: list[Spec] = [gpu(server.gpu)] if server.gpu.endswith(".toml") else []
    links: list[str | None] = [server.scale_up, server.pcie]
    if server.nic.endswith(".toml"):
        card = nic(server.nic)
        parts.append(card)
        links.append(card.link)
    return [*parts, *(link(name) for name in links if name is not None and name.endswith(".toml"))]


def original_of(spec: S) -> S | None:
    """The catalog's entry that a spec varies, or is; None for a user's own, whatever its name."""
    kind = next(kind for kind, model in MODELS.items() if model is type(spec))
    if (varied := getattr(spec, "variation_of", None)) is not None:
        return _named(type(spec), kind, varied)
    if spec.name not in names(kind):
        return None
    listed = _named(type(spec), kind, spec.name)
    return listed if spec.model_dump(exclude={"source"}) == listed.model_dump(exclude={"source"}) else None


def cluster(name: str) -> ClusterSpec:
    """A cluster by catalog name."""
    return _named(ClusterSpec, "cluster", name)


def node_link(name: str) -> NodeLinkSpec:
    """What node pairs of a cluster have, by catalog name or from the user's own .toml."""
    if not name.endswith(".toml"):
        return _named(NodeLinkSpec, "node_link", name)
    return _user_file(NodeLinkSpec, "node_link", Path(name))


def server_part(name: str = USUAL_PARTS) -> ServerPartsSpec:
    """Rules for what servers' other parts draw, by catalog name."""
    return _named(ServerPartsSpec, "server_part", name)


def tier_rate(name: str = USUAL_TIERS) -> TierRatesSpec:
    """What copies, drives and CPU kernels reach of their data sheets, by catalog name."""
    return _named(TierRatesSpec, "tier_rate", name)


def stage_profile(name: str) -> StageProfileSpec:
    """What passes were measured to take at each clock, by catalog name or from the user's own .toml."""
    return _table(StageProfileSpec, "stage_profile", name)


def prices(name: str = LIST_PRICES) -> PriceTable:
    """A price table by catalog name, or from the user's own .toml, whose source must be stated."""
    return _table(PriceTable, "price", name)


def energy_price(name: str = ENERGY_PRICES) -> EnergyPriceTable:
    """A table of electricity prices by catalog name, or from the user's own .toml, whose source must be stated."""
    return _table(EnergyPriceTable, "energy_price", name)


def grid(name: str) -> GridSpec:
    """What a grid's electricity emits, by catalog name or from the user's own .toml, whose source must be stated."""
    return _table(GridSpec, "grid", name)


def embodied_carbon(name: str) -> EmbodiedSpec:
    """What making servers emitted, by catalog name or from the user's own .toml, whose source must be stated."""
    return _table(EmbodiedSpec, "embodied_carbon", name)


def _table(model: type[S], kind: str, name: str) -> S:
    if not name.endswith(".toml"):
        return _named(model, kind, name)
    return _stated(_user_file(model, kind, Path(name)), name)


def _stated(spec: S, shown: str) -> S:
    """A table of the user's, which says where its figures come from."""
    if spec.source["default"] == NO_SOURCE:
        raise FleetcastError(
            f'{shown}: no source given; add [source] with default = {{ grade = "quoted", text = "where from" }}'
        )
    return spec


def price_usd_per_gpu_h(gpu_name: str, table: str = LIST_PRICES) -> float:
    """USD for one hour of one GPU and its share of the server."""
    listed = prices(table).usd_per_gpu_h
    if gpu_name not in listed:
        raise UnknownNameError(f"price of gpu in {table}", gpu_name, listed)
    return listed[gpu_name]


def list_price_usd_per_gpu_h(spec: GpuSpec) -> float | None:
    """The same at list price, of a variation its original's; None where none is listed, as for a user's own GPU."""
    return prices().usd_per_gpu_h.get(spec.variation_of or spec.name)


def names(kind: str) -> list[str]:
    """All catalog names of a kind, a key of MODELS or its plural, sorted."""
    singular = kind.removesuffix("s")
    if singular not in MODELS:
        raise UnknownNameError("catalog", kind, MODELS)
    return sorted(path.stem for path in _folder(singular).glob("*.toml"))


def _folder(kind: str) -> Path:
    return ROOT / f"{kind}s"


def _named(model: type[S], kind: str, name: str) -> S:
    spec = _entry(kind, name)
    assert isinstance(spec, model)
    return spec


@functools.cache
def _entry(kind: str, name: str) -> Spec:
    path = _folder(kind) / f"{name}.toml"
    if path.parent != _folder(kind) or not path.is_file():
        known = names(kind)
        raise UnknownNameError(kind, name, [other for other in known if other.startswith(name)] or known)
    spec = parse_spec(MODELS[kind], path, f"{path.parent.name}/{path.name}")
    if spec.name != name:
        raise FleetcastError(f"{path.name}: name = '{spec.name}' must be '{name}', the name of the file")
    return spec


def _user_file(model: type[S], kind: str, path: Path) -> S:
    spec = parse_spec(model, path, str(path))
    if isinstance(spec, GpuSpec | LinkSpec | NicSpec | NodeSpec) and spec.variation_of is not None:
        _check_variation(spec, _named(model, kind, spec.variation_of), str(path))
    return spec


def _check_variation(spec: Spec, original: Spec, shown: str) -> None:
    """A calibration serves other figures of the same kind of thing, not other things."""
    for key in ("vendor", "architecture", "kind", "topology"):
        mine, its = getattr(spec, key, None), getattr(original, key, None)
        if mine != its:
            raise FleetcastError(
                f"{shown}: {key} = {mine!r}: it varies {original.name}, whose {key} is {its!r}; keep that,"
                " or drop variation_of"
            )
    if isinstance(spec, GpuSpec) and isinstance(original, GpuSpec) and spec.tdp_w != original.tdp_w:
        raise FleetcastError(
            f"{shown}: tdp_w = {spec.tdp_w:g}: power limits are not modelled yet, under a lower one nothing would run"
            f" slower; keep the {original.tdp_w:g} W of {original.name}"
        )


def _located(spec: S, folder: Path, keys: tuple[str, ...]) -> S:
    """The spec with the files it names seen from where we are."""
    named = {key: getattr(spec, key) for key in keys}
    files = {key: str(folder / name) for key, name in named.items() if name is not None and name.endswith(".toml")}
    return spec.model_copy(update=files)
