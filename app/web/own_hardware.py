"""The user's edited copies of servers: files of the store's hardware folder, by bare names."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.hardware_view import label, value_text
from app.web.guard import check_parts
from app.web.store import Store
from hardware_models import catalog
from hardware_models.errors import FleetcastError
from hardware_models.specs import Spec
from hardware_models.variation import Change, Variation, check_name, vary_node
from hardware_models.variation_file import remove_variation, write_variation

SUFFIX = ".toml"
MOST = 100  # copies
SAVING = threading.Lock()  # one at a time puts a copy in its place
VARIED = "varied: "  # how the source of a changed figure begins


def copy_names(store: Store) -> list[str]:
    """Files of copies, as a scenario's `cluster.node` names them."""
    return store.files(store.hardware, (SUFFIX,))


def node_names(store: Store) -> list[str]:
    """Servers that a copy may start from: own ones first."""
    return [*copy_names(store), *catalog.names("node")]


def node_reference(name: str, store: Store) -> str:
    """What the catalog takes for a server's name: an own one's path; raises FleetcastError for any other file."""
    if not name.endswith(SUFFIX):
        return name
    path = store.file(store.hardware, name, (SUFFIX,), "node")
    check_parts(path, store.hardware.resolve())
    return str(path)


def own_specs(store: Store) -> Iterator[tuple[str, Spec]]:
    """Kind and spec of every own server and of its own parts; what cannot be read any more is left out."""
    for name in copy_names(store):
        try:
            node = catalog.node(node_reference(name, store))
            parts = catalog.user_parts(node)
        except FleetcastError:  # edited by hand; the page that opens it says what is wrong
            continue
        yield "node", node
        for part in parts:
            yield type(part).__name__.removesuffix("Spec").lower(), part


def changes_of(specs: Sequence[Spec]) -> list[str]:
    """Figures that differ from the catalog's, and how."""
    said = []
    for spec in specs:
        whose = getattr(spec, "variation_of", None) or "server"
        for key, source in spec.source.items():
            if source.text.startswith(VARIED):
                how = source.text.removeprefix(VARIED)
                said.append(f"{whose}: {label(key)} {figure_text(spec, key)} ({how})")
    return said


def figure_text(spec: Spec, key: str) -> str:
    """A figure of a spec as a person reads it, all entries of a table."""
    head, _, entry = key.partition(".")
    value = getattr(spec, head)
    if isinstance(value, dict) and not entry:
        return ", ".join(f"{name} {value_text(head, number)}" for name, number in value.items())
    return value_text(key, value[entry] if entry else value)


def save_copy(original: str, name: str, changes: Sequence[Change], store: Store) -> str:
    """Keep a copy, in place of one of that name; returns the name that `cluster.node` takes. Raises FleetcastError, and
    then an earlier copy is as it was.
    """
    check_name(name)
    with SAVING:
        known = copy_names(store)
        if f"{name}{SUFFIX}" not in known and len(known) >= MOST:
            raise FleetcastError(f"{name}: there are {MOST} copies already; remove one")
        variation = vary_node(node_reference(original, store), name, changes)
        with tried(variation, store) as file:
            _put_in_place(file, store.hardware)
    return file.name


def _put_in_place(file: Path, folder: Path) -> None:
    """Move a written copy into a folder; an earlier one's parts go where the written one lay."""
    parts, place = file.with_suffix(""), folder / file.stem
    try:
        if place.exists():
            place.rename(file.parent / ".earlier")
        if parts.exists():
            parts.rename(place)
        file.replace(folder / file.name)
    except OSError as error:
        raise FleetcastError(f"{file.name}: cannot be written ({error.strerror}); try again") from None


def remove_copy(name: str, store: Store) -> None:
    """Take a copy and its parts away; raises UnknownNameError."""
    remove_variation(store.file(store.hardware, name, (SUFFIX,), "copy"))


@contextmanager
def tried(variation: Variation, store: Store) -> Iterator[Path]:
    """A variation as files for a moment, without a name in the store."""
    store.hardware.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".try-", dir=store.hardware) as folder:
        yield write_variation(variation, Path(folder))
