"""Our own measurement folders, brought together by device for the fits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from calibration.fit.datasets import MEASURED_AS
from calibration.measurement import DEVICE_FILE, read_device, read_measurements
from hardware_models import catalog
from hardware_models.errors import FleetcastError

COLLECTIVE = "collective"
KINDS = (*dict.fromkeys(MEASURED_AS.values()), COLLECTIVE)  # that a fit takes
SCALE_UP, HOST = "scale-up", "host"  # what `calibrate measure` calls the links between a machine's GPUs
Measurements = dict[str, dict[str, pd.DataFrame]]  # device -> kind -> table


def read_own(folders: Iterable[Path], devices: tuple[str, ...] = ()) -> Measurements:
    """Tables of folders that `fleetcast calibrate measure` wrote, by device and kind; of several folders one table.

    devices: catalog names; where there are any, a folder of another device is refused. Raises FleetcastError, naming
    file and row, for whatever `read_measurements` refuses, and for a folder that no fit can use.
    """
    parts: dict[str, dict[str, list[pd.DataFrame]]] = {}
    for folder in folders:
        name = str(read_device(folder)["device"])
        expected = name if name in devices or not devices else devices[0]
        frames = read_measurements(folder, expected)
        if name not in catalog.names("gpu"):
            raise FleetcastError(
                f"{folder / DEVICE_FILE}: device = '{name}': is no GPU of the catalog; describe it in"
                f" hardware_models/gpus, or correct the name"
            )
        used = [kind for kind in KINDS if kind in frames]
        if not used:
            raise FleetcastError(
                f"{folder}: holds none of the tables that a fit takes ({', '.join(KINDS)}); measure one of them"
            )
        for kind in used:
            frame = _on_links(frames[kind], name) if kind == COLLECTIVE else frames[kind]
            parts.setdefault(name, {}).setdefault(kind, []).append(frame)
    return {
        device: {kind: pd.concat(frames, ignore_index=True) for kind, frames in kinds.items()}
        for device, kinds in parts.items()
    }


def links_of(device: str) -> tuple[str, ...]:
    """Links of the catalog that join a device to its like, and to its host."""
    spec = catalog.gpu(device)
    return tuple(link for link in (spec.scale_up, spec.pcie) if link is not None)


def _on_links(table: pd.DataFrame, device: str) -> pd.DataFrame:
    """The table with names of the catalog's links in place of what the machine knew of them.

    Devices that map each other's memory without a link of their own do so over the host's bus.
    """
    spec = catalog.gpu(device)
    mapped = (table["link"] == SCALE_UP) & (spec.scale_up is None) & (table["backend"] == "nccl")
    backend = table["backend"].where(~mapped, "nccl/mapped")
    link = table["link"].replace({SCALE_UP: spec.scale_up or spec.pcie, HOST: spec.pcie})
    unknown = sorted(set(link[backend != "gloo"]) - set(catalog.names("link")))
    if unknown:
        raise FleetcastError(f"collective.csv of {device}: link = '{unknown[0]}' is no link of the catalog; correct it")
    return table.assign(link=link, backend=backend)
