"""What a measurement file holds: one description a kind of operator, its columns and the values they may take.

Every file ends with `seconds` (median), `spread_s` (interquartile range, 0 where unknown) and `repeats`; power.csv has
its watts and clock before them, and `seconds` is there how long the load was watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from hardware_models.dtypes import BYTES_PER_ELEMENT
from hardware_models.errors import UnknownNameError

Value: TypeAlias = int | float | str
DTYPES = tuple(BYTES_PER_ELEMENT)
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type, the range of a number (both ends belong to it) or the choices of a text ("" = any)."""

    name: str
    type: Literal["int", "float", "text"] = "int"
    low: float = 1
    high: float = 1e15
    choices: tuple[str, ...] = ()
    optional: bool = False

    def parse(self, cell: str) -> Value:
        """The value of a cell; raises ValueError with what is wrong with it."""
        if self.type == "text":
            if self.choices and cell not in self.choices:
                raise ValueError(f"give one of {', '.join(self.choices)}")
            return cell
        try:
            value: int | float = int(cell) if self.type == "int" else float(cell)
        except ValueError:
            raise ValueError("give a whole number" if self.type == "int" else "give a number") from None
        if not self.low <= value <= self.high:  # NaN fails too
            raise ValueError(f"give a number from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of measurement. A point is told from another by its `keys`; `results` is what was read there."""

    name: str
    keys: tuple[Column, ...]
    results: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns in the order of the file."""
        return self.keys + self.results

    @property
    def file_name(self) -> str:
        """Name of its file in a measurement folder."""
        return f"{self.name}.csv"


def _counts(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name) for name in names)


def _texts(*names: str, choices: tuple[str, ...] = DTYPES) -> tuple[Column, ...]:
    return tuple(Column(name, "text", choices=choices) for name in names)


TIMES = (
    Column("seconds", "float", 1e-9, DAY_S),
    Column("spread_s", "float", 0.0, DAY_S),
    Column("repeats"),
)
BACKEND = Column("backend", "text", optional=True)  # the kernel library, where several could have run
WINDOW = Column("window", low=0)  # tokens a query sees at most; 0: all
SKEW = Column("skew", "float", 0.0, 100.0)
HEADS = _counts("heads", "kv_heads", "head_dim")


def _kind(name: str, keys: tuple[Column, ...], extra: tuple[Column, ...] = ()) -> Kind:
    return Kind(name, keys, extra + TIMES)


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        _kind("gemm", (*_counts("m", "n", "k"), *_texts("dtype", "weight_dtype"))),
        # batch equal sequences of new_tokens each, after past_tokens that are cached
        _kind(
            "attention_prefill",
            (
                *_counts("batch", "new_tokens"),
                Column("past_tokens", low=0),
                *HEADS,
                *_texts("dtype", "kv_dtype"),
                WINDOW,
            ),
            (BACKEND,),
        ),
        # context_tokens: mean over the batch, the new token included; skew: their coefficient of variation
        _kind(
            "attention_decode",
            (*_counts("batch"), *_counts("context_tokens"), SKEW, *HEADS, *_texts("dtype", "kv_dtype"), WINDOW),
            (BACKEND,),
        ),
        # both projections and the activation of one gated layer; skew s: expert i gets a share as (i + 1)^-s
        _kind(
            "moe",
            (
                *_counts("tokens", "hidden", "intermediate", "experts", "top_k"),
                SKEW,
                *_texts("dtype", "weight_dtype"),
            ),
            (BACKEND,),
        ),
        # reads and writes: of each of rows x width elements, by a kernel that fuses all it can
        _kind(
            "elementwise",
            (
                Column("name", "text"),
                *_counts("rows", "width"),
                Column("reads", "float", 0.0, 100.0),
                Column("writes", "float", 0.0, 100.0),
                *_texts("dtype"),
            ),
            (BACKEND,),
        ),
        # bytes: moved to and from memory, so that a copy of a buffer counts it twice
        _kind("memory", (*_texts("name", choices=("read", "write", "copy")), Column("bytes"))),
        # blocks x block_bytes is the payload of one direction; from the first call on the host to the last byte there
        _kind(
            "copy",
            (
                *_texts("direction", choices=("h2d", "d2h", "both", "d2d")),
                Column("pinned", "int", 0, 1),
                *_counts("blocks", "block_bytes"),
            ),
        ),
        # seconds are of all `count` launches, kernels or replays together
        _kind("host", (Column("name", "text"), Column("count"))),
        # payload_bytes: the buffer one rank starts with, or, gathering, ends with
        _kind(
            "collective",
            (
                *_texts("kind", choices=COLLECTIVES),
                Column("ranks", low=2),
                Column("payload_bytes"),
                *_texts("dtype"),
                Column("backend", "text"),
                Column("link", "text"),
            ),
        ),
        # seconds: of one request while queue_depth are in flight; bytes/s = block_bytes x queue_depth / seconds
        _kind(
            "storage",
            (
                *_texts("operation", choices=("read", "write", "mixed")),
                *_counts("block_bytes", "queue_depth"),
                Column("direct", "int", 0, 1),
            ),
        ),
        # bytes: moved to and from memory (triad 3 arrays; Adam 28 bytes a parameter)
        _kind("cpu", (Column("name", "text"), *_counts("bytes", "threads"))),
        # intensity: share of time at work (compute, memory), or flop per byte moved (mixed)
        _kind(
            "power",
            (
                *_texts("load", choices=("idle", "compute", "memory", "mixed")),
                Column("intensity", "float", 0.0, 1e6),
            ),
            (
                Column("watts", "float", 0.1, 20_000.0),
                Column("clock_hz", "float", 1e6, 2e10),
                Column("flop_per_s", "float", 0.0, 1e18, optional=True),
                Column("bytes_per_s", "float", 0.0, 1e15, optional=True),
            ),
        ),
    )
}


def kind(name: str) -> Kind:
    """A kind by name; raises UnknownNameError."""
    if name not in KINDS:
        raise UnknownNameError("kind", name, KINDS)
    return KINDS[name]


def cell(value: Value) -> str:
    """How a value stands in a file: numbers in full precision, 0.0 as 0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)
