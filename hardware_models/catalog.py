"""The catalog: a name becomes a spec, read from the one TOML file of that name and kept.

`gpu("h100-sxm")` reads `gpus/h100-sxm.toml` and nothing else. `gpu` and `node` also take the path of a user's own
file (ending in .toml), which is read afresh each time.
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.specs import (
    ClusterSpec,
    CpuSpec,
    GpuSpec,
    LinkSpec,
    NicSpec,
    NodeSpec,
    PriceTable,
    Spec,
    SsdSpec,
)

ROOT = Path(__file__).parent
SCHEMA = 1
MODELS: dict[str, type[Spec]] = {
    "gpu": GpuSpec,
    "cpu": CpuSpec,
    "ssd": SsdSpec,
    "nic": NicSpec,
    "link": LinkSpec,
    "node": NodeSpec,
    "cluster": ClusterSpec,
    "price": PriceTable,
}
LIST_PRICES = "list-prices"

S = TypeVar("S", bound=Spec)


def gpu(name: str) -> GpuSpec:
    """A GPU by catalog name, or from the user's own .toml."""
    return _user_file(GpuSpec, Path(name)) if name.endswith(".toml") else _named(GpuSpec, "gpu", name)


def cpu(name: str) -> CpuSpec:
    """A CPU socket by catalog name."""
    return _named(CpuSpec, "cpu", name)


def ssd(name: str) -> SsdSpec:
    """A drive by catalog name."""
    return _named(SsdSpec, "ssd", name)


def nic(name: str) -> NicSpec:
    """A network card by catalog name."""
    return _named(NicSpec, "nic", name)


def link(name: str) -> LinkSpec:
    """A link by catalog name."""
    return _named(LinkSpec, "link", name)


def node(name: str) -> NodeSpec:
    """A server by catalog name, or from the user's own .toml; a GPU file it names is relative to that file."""
    if not name.endswith(".toml"):
        return _named(NodeSpec, "node", name)
    path = Path(name)
    spec = _user_file(NodeSpec, path)
    if spec.gpu.endswith(".toml"):
        return spec.model_copy(update={"gpu": str(path.parent / spec.gpu)})
    return spec


def cluster(name: str) -> ClusterSpec:
    """A cluster by catalog name."""
    return _named(ClusterSpec, "cluster", name)


def prices(name: str = LIST_PRICES) -> PriceTable:
    """A price table by catalog name."""
    return _named(PriceTable, "price", name)


def price_usd_per_gpu_h(gpu_name: str, table: str = LIST_PRICES) -> float:
    """USD for one hour of one GPU and its share of the server."""
    listed = prices(table).usd_per_gpu_h
    if gpu_name not in listed:
        raise UnknownNameError(f"price of gpu in {table}", gpu_name, listed)
    return listed[gpu_name]


def names(kind: str) -> list[str]:
    """All catalog names of a kind (gpu, cpu, ssd, nic, link, node, cluster, price), sorted."""
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
    spec = _parse(MODELS[kind], path, f"{path.parent.name}/{path.name}")
    if spec.name != name:
        raise FleetcastError(f"{path.name}: name = '{spec.name}' must be '{name}', the name of the file")
    return spec


def _user_file(model: type[S], path: Path) -> S:
    return _parse(model, path, str(path))


def _parse(model: type[S], path: Path, shown: str) -> S:
    """The spec in a file; `shown` is what error messages call the file."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FleetcastError(f"{shown}: cannot be read ({error.strerror}); give the path of a file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FleetcastError(f"{shown}: not valid TOML: {error}") from error
    schema = data.pop("schema", SCHEMA)
    if schema != SCHEMA:
        raise FleetcastError(f"{shown}: schema = {schema!r} is not known; this version reads schema = {SCHEMA}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise FleetcastError(f"{shown}: {_first_mistake(error, model)}") from error


def _first_mistake(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence on the first thing wrong; an unknown key comes before the missing key it may stand for."""
    mistakes = error.errors(include_url=False, include_context=False)
    mistakes.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")
    return _sentence(mistakes[0]["type"], mistakes[0]["loc"], mistakes[0]["input"], mistakes[0]["msg"], model)


def _sentence(kind: str, location: tuple[int | str, ...], value: Any, message: str, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        known = sorted(model.model_fields if len(location) == 1 else ("grade", "text"))
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        return f"unknown key '{key}' = {value!r}; {hint}"
    if kind == "missing":
        return f"missing key '{key}'; see the files of the catalog for an example"
    reason = message.removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if not location:
        return reason
    if isinstance(value, dict):
        return f"{key}: {reason}"
    hint = " (units are SI, as the key ends)" if isinstance(value, int | float) else ""
    return f"{key} = {value!r}: {reason}{hint}"
