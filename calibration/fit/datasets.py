"""Every set of timings there is of a device and kind of kernel: published tables, and our own measurements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from calibration.fit.attention import PHASES, attention_datasets
from calibration.fit.attention_training import OPERATOR as TRAINING
from calibration.fit.attention_training import training_datasets
from calibration.fit.elementwise import elementwise_datasets
from calibration.fit.gemm import gemm_datasets
from calibration.fit.kernel import Dataset
from calibration.fit.moe import moe_datasets
from calibration.sources import attention_tables, gemm_tables, moe_tables
from calibration.sources.training_tables import training_devices

# Files of `hardware_models/calibrated/DEVICE/` -> our own kind of measurement they are fitted to.
MEASURED_AS = {
    "gemm": "gemm",
    "grouped_gemm": "moe",
    "elementwise": "elementwise",
    "attention_prefill": "attention_prefill",
    "attention_decode": "attention_decode",
}
OPERATORS = (*MEASURED_AS, TRAINING)
Frames = Mapping[str, pd.DataFrame]  # our own measurements of a device, by kind


def datasets(operator: str, data: Path | None, device: str, own: Frames | None = None) -> list[Dataset]:
    """All formats and benchmarks of one of OPERATORS on a device (a catalog name); empty where nobody measured it.

    data: folder of published tables, one folder a source; None: none. own: our own measurements of this device.
    """
    if operator == TRAINING:
        return training_datasets(data, device)
    mine = own.get(MEASURED_AS[operator]) if own else None
    if operator == "gemm":
        return gemm_datasets(data, device, mine)
    if operator == "grouped_gemm":
        return moe_datasets(data, device, mine)
    if operator == "elementwise":
        return elementwise_datasets(data, device, mine)
    assert operator in PHASES
    return attention_datasets(operator, data, device, mine)


def published_devices(data: Path) -> tuple[str, ...]:
    """Devices that published tables name, whether their files are in the folder or not; sorted."""
    named = (
        gemm_tables.AICONFIGURATOR,
        gemm_tables.VIDUR,
        gemm_tables.LLMSERVINGSIM_DENSE,
        gemm_tables.LLMSERVINGSIM_LAYERS,
        attention_tables.AICONFIGURATOR,
        attention_tables.PROFILES,
        attention_tables.LAYERS,
        moe_tables.AICONFIGURATOR,
    )
    return tuple(sorted({device for table in named for device in table} | set(training_devices(data))))
