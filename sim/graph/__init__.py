"""Task graphs on the clock and without it: times, memory, frames and timelines of what policies wrote."""

from sim.graph.executor import execute
from sim.graph.max_plus import lower_bound_s, max_plus
from sim.graph.memory import MemoryLedger, MemoryUsage, Peak, memory_profile, peak
from sim.graph.order import Compiled, compile_graph
from sim.graph.times import Times

__all__ = [
    "Compiled",
    "MemoryLedger",
    "MemoryUsage",
    "Peak",
    "Times",
    "compile_graph",
    "execute",
    "lower_bound_s",
    "max_plus",
    "memory_profile",
    "peak",
]
