"""Published speeds of training attention as `attention_training` tables, from a CSV that a user wrote of a figure.

The authors' figures (arXiv 2307.08691 and 2407.08608, and assets of github.com/Dao-AILab/flash-attention) give
TFLOP/s, of 4 x seq_len^2 x head_dim x heads x batch operations forward and 2.5 times as many backward, half of them
under a causal mask.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hardware_models.errors import FleetcastError
from hardware_models.kernels.attention_training import IMPLEMENTATIONS

FILE = Path("flash_attention") / "kernels.csv"  # below the folder of published tables
ORIGIN = "flash_attention"
COLUMNS = [
    "device",  # a GPU of the catalog
    "implementation",  # one of IMPLEMENTATIONS; rows of others are left out
    "passes",  # one of PASSES
    "causal",  # 0 or 1
    "batch",
    "seq_len",
    "heads",
    "head_dim",
    "tflop_per_s",
]
FORWARD_FLOP = 4.0  # of a score and element of the head dimension
PASSES = {"forward": FORWARD_FLOP, "forward_backward": 3.5 * FORWARD_FLOP}


def training_tables(data: Path) -> pd.DataFrame:
    """All published timings of all devices: columns COLUMNS, seconds, origin; empty where none.

    Raises FleetcastError for a file that lacks a column, or names passes nobody times.
    """
    path = data / FILE
    if not path.is_file():
        return pd.DataFrame(columns=[*COLUMNS, "seconds", "origin"])
    raw = pd.read_csv(path)
    lacking = [name for name in COLUMNS if name not in raw]
    if lacking:
        raise FleetcastError(f"{path}: lacks the column '{lacking[0]}'; it takes {', '.join(COLUMNS)}")
    unknown = sorted(set(raw["passes"]) - set(PASSES))
    if unknown:
        raise FleetcastError(f"{path}: passes = '{unknown[0]}' is none of {', '.join(PASSES)}")
    table: pd.DataFrame = raw[raw["implementation"].isin(IMPLEMENTATIONS) & (raw["tflop_per_s"] > 0)]
    scores = table["batch"] * table["heads"] * table["seq_len"].astype(float) ** 2
    visible = scores * np.where(table["causal"] == 1, 0.5, 1.0)
    flop = visible * table["head_dim"] * table["passes"].map(PASSES)
    return table[COLUMNS].assign(seconds=flop / (table["tflop_per_s"] * 1e12), origin=ORIGIN).reset_index(drop=True)


def training_devices(data: Path) -> tuple[str, ...]:
    """Devices that the file names; sorted."""
    return tuple(sorted(set(training_tables(data)["device"].astype(str))))
