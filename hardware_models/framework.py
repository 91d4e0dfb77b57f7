"""Framework profiles: what serving software adds to the hardware's times, and the memory it keeps; dated data files."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.provenance import Frozen, Source

FOLDER = Path(__file__).parent / "frameworks"


class Framework(Frozen):
    """One version of a serving engine.

    The host launches `kernels_per_layer` kernels a layer, one every `launch_s`, while the device works; a step cannot
    be shorter than that, unless it decodes only and `decode_graphs` replays it as one graph.
    """

    name: str
    date: str
    host_s_per_step: float = Field(ge=0)  # scheduling, input preparation, sampling: the device waits
    host_s_per_sequence: float = Field(ge=0)
    kernels_per_layer: int = Field(ge=0)
    launch_s: float = Field(ge=0)
    decode_graphs: bool
    # standard deviation of the logarithm of all host times above; assumed where a profile gives none
    host_sigma: float = Field(default=0.5, ge=0)
    context_bytes: int = Field(ge=0)  # CUDA context, libraries and communication buffers, a GPU
    graph_bytes: int = Field(ge=0)  # captured graphs, a GPU
    source: dict[str, Source]


@functools.cache
def framework(name: str) -> Framework:
    """A profile by file name; raises UnknownNameError."""
    path = FOLDER / f"{name}.toml"
    if "/" in name or not path.is_file():
        raise UnknownNameError("serving.engine", name, framework_names())
    try:
        return Framework.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        raise FleetcastError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def framework_names() -> list[str]:
    """All profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))
