"""Writes an offloaded step as a task graph: streams of one GPU, its copies, its drives and its CPU, over shared links.

Every byte that crosses a link is a transfer of the graph, so that what a step moves is read off it. A tier's memory is
one pool without a budget, and a pool with one for each buffer of it, in which copies must find room ("tier: buffer").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from policies.offload.work import DRIVES, GPU, HOST, WEIGHT_BYTES, LayerWork, Machine, OffloadWork
from policies.task_graph import TaskGraph, Transfer

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"
H2D, D2H, READ, WRITE = "h2d", "d2h", "ssd read", "ssd write"
ADAM, CAST, SUM, NARROW = "cpu adam", "cpu cast", "cpu sum", "cpu downscale"
SCAN = "cpu overflow check"
GATHER, REDUCE, BEGIN, END = "param gather", "grad reduce", "host", "end"
CAST_BYTES = 6.0  # of host memory, for a gradient of 16 bits turned to fp32
SUM_BYTES = 10.0  # of host memory, for a gradient of 16 bits added to one in fp32
ROUNDING = 1e-9  # relative, of sums of bytes
OF = ": "  # between a tier and its buffer, in a pool's name
HELD = "held "  # before it, where the buffer is a part of bytes that are held all the time
PAGEABLE, THREAD = "pageable copies", "a CPU thread"
LOAD, STORE = "reads to the GPU", "writes from the GPU"
URGENT, SOON, LATER = 2, 1, 0  # what drives do first: weights that a pass waits for, writes, which free buffers


@dataclass(slots=True)
class Ring:
    """A buffer that is given back in the order in which it was taken: what takes waits for what gives, by name."""

    budget_bytes: float
    used_bytes: float = 0.0
    held: deque[list[float]] = field(default_factory=deque)  # bytes, and the task that gives them back
    given: int = 0  # of those held, whose giver is known
    latest: list[int] = field(default_factory=list)  # the last that was waited for

    def take(self, size_bytes: float) -> list[int]:
        """Tasks that must have given back before there is room."""
        before = [*self.latest]  # who takes later waits as long: a stream by priority may not let it pass
        while self.held and self.used_bytes + size_bytes > self.budget_bytes * (1 + ROUNDING) and self.given:
            size, task = self.held.popleft()
            self.given -= 1
            self.used_bytes -= size
            before.append(int(task))
            self.latest = [int(task)]
        self.held.append([size_bytes, -1])
        self.used_bytes += size_bytes
        return before

    def give(self, task: int) -> None:
        """The oldest that nobody gives back yet is given back by a task."""
        self.held[self.given][1] = task
        self.given += 1


@dataclass
class StepWriter:
    """One rank's step."""

    work: OffloadWork
    machine: Machine
    graph: TaskGraph = field(default_factory=TaskGraph)
    reserved: frozenset[str] = frozenset()  # buffers that are parts of bytes held all the time

    def __post_init__(self) -> None:
        graph = self.graph
        self._tiers = {tier: graph.add_pool(0, tier) for tier in (GPU, HOST, DRIVES)}
        self._buffers: dict[str, int] = {}
        self._rings: dict[str, Ring] = {}
        self._links = {name: graph.add_link(name, rate) for name, rate in self.machine.links.items()}
        rates = {READ: self.machine.read_bytes_per_s, WRITE: self.machine.write_bytes_per_s}
        rates |= {PAGEABLE: self.machine.pageable_bytes_per_s, THREAD: self.machine.thread_bytes_per_s}
        rates |= {LOAD: self.machine.direct_read_bytes_per_s, STORE: self.machine.direct_write_bytes_per_s}
        rates[ADAM] = self.machine.adam_parameters_per_s * self.machine.adam_bytes
        self._links |= {name: graph.add_link(name, rate) for name, rate in rates.items() if rate}
        names = ("compute", "h2d", "d2h", "cpu", "collectives")
        self._streams = {name: graph.add_stream(0, name) for name in names}
        self._streams["ssd"] = graph.add_stream(0, "ssd", by_priority=True)
        self.begin = graph.add(self._streams["compute"], self.machine.host_s, BEGIN)
        self._held: list[tuple[str, float, str]] = []
        self._ways: dict[tuple[str, ...], tuple[tuple[int, ...], float]] = {}  # links crossed together

    def hold(self, tier: str, size_bytes: float, owner: str) -> None:
        """Keep bytes of a tier from the first to the last moment."""
        if size_bytes > 0:
            self.graph.acquire(self.begin, self._tiers[tier], size_bytes, owner)
            self._held.append((tier, size_bytes, owner))

    def buffer(self, tier: str, name: str, budget_bytes: float) -> None:
        """A part of a tier that copies must find room in."""
        held = HELD if name in self.reserved else ""
        self._buffers[name] = self.graph.add_pool(0, f"{held}{tier}{OF}{name}", budget_bytes)
        self._rings[name] = Ring(budget_bytes)

    def take(self, task: int, tier: str, size_bytes: float, owner: str, *, buffer: str | None = None) -> None:
        """Memory from when a task starts."""
        self._change(task, tier, size_bytes, owner, buffer)

    def give(self, task: int, tier: str, size_bytes: float, owner: str, *, buffer: str | None = None) -> None:
        """It is free when a task ends."""
        self._change(task, tier, -size_bytes, owner, buffer)

    def _change(self, task: int, tier: str, size_bytes: float, owner: str, buffer: str | None) -> None:
        if not size_bytes:
            return
        pool = self._tiers[tier] if buffer is None else self._buffers[buffer]
        if size_bytes > 0:
            self.graph.acquire(task, pool, size_bytes, owner)
            if buffer is not None:
                self.graph.wait_for(task, *self._rings[buffer].take(size_bytes))
        else:
            self.graph.release(task, pool, -size_bytes, owner)
            if buffer is not None:
                self._rings[buffer].give(task)

    def compute(self, kind: str, seconds: float, name: str, after: Iterable[int] = ()) -> int:
        """On the GPU."""
        return self.graph.add(self._streams["compute"], seconds, kind, after, name=f"{kind} {name}")

    def exchange(self, kind: str, size_bytes: float, name: str, after: Iterable[int]) -> int:
        """Among ranks: weights made whole, or gradients summed."""
        price = self.machine.gather_s if kind == GATHER else self.machine.reduce_s
        return self.graph.add(self._streams["collectives"], price(size_bytes), kind, after, name=f"{kind} {name}")

    def h2d(self, size_bytes: float, name: str, after: Iterable[int] = (), *, pinned: bool = True) -> int:
        """A copy to the GPU."""
        return self._copy("h2d", H2D, size_bytes, self.machine.h2d, name, after, pinned)

    def d2h(self, size_bytes: float, name: str, after: Iterable[int] = (), *, pinned: bool = True) -> int:
        """A copy to host memory."""
        return self._copy("d2h", D2H, size_bytes, self.machine.d2h, name, after, pinned)

    def _copy(
        self,
        way: str,
        kind: str,
        size_bytes: float,
        links: tuple[str, ...],
        name: str,
        after: Iterable[int],
        pinned: bool,
    ) -> int:
        """One that is not pinned crosses host memory twice more, through a buffer."""
        crossed = links if pinned else (*links, PAGEABLE, self.machine.dram, self.machine.dram)
        return self._transfer(way, kind, size_bytes, crossed, name, after, self.machine.copy_latency_s)

    def read(self, size_bytes: float, name: str, after: Iterable[int] = (), priority: int = LATER) -> int:
        """From drives to host memory; reads and writes take turns on the drives."""
        return self._transfer("ssd", READ, size_bytes, (READ, self.machine.dram), name, after, 0.0, priority)

    def write(self, size_bytes: float, name: str, after: Iterable[int] = (), priority: int = SOON) -> int:
        """From host memory to drives."""
        return self._transfer("ssd", WRITE, size_bytes, (WRITE, self.machine.dram), name, after, 0.0, priority)

    def load(self, size_bytes: float, name: str, after: Iterable[int] = ()) -> int:
        """From drives to the GPU past host memory (GPUDirect Storage)."""
        links = (LOAD, *self._past_host(self.machine.h2d))
        return self._transfer("ssd", READ, size_bytes, links, name, after, 0.0, URGENT)

    def store(self, size_bytes: float, name: str, after: Iterable[int] = ()) -> int:
        """From the GPU to drives, the same way."""
        links = (STORE, *self._past_host(self.machine.d2h))
        return self._transfer("ssd", WRITE, size_bytes, links, name, after, 0.0, SOON)

    def _past_host(self, links: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(link for link in links if link != self.machine.dram)

    def adam(self, parameters: float, name: str, after: Iterable[int] = ()) -> int:
        """An update on the CPU."""
        return self._kernel(ADAM, parameters * self.machine.adam_bytes, name, after)

    def widen(self, parameters: float, name: str, after: Iterable[int] = ()) -> int:
        """Gradients that came in 16 bits turned to fp32 on the CPU, or added there to those of other micro-batches."""
        alone = self.work.micro_batches == 1
        return self._kernel(CAST if alone else SUM, parameters * (CAST_BYTES if alone else SUM_BYTES), name, after)

    def widen_alone(self, parameters: float, name: str, after: Iterable[int] = ()) -> int:
        """Gradients turned to fp32 by the one thread that runs the backward."""
        size = parameters * CAST_BYTES
        return self._transfer("cpu", CAST, size, (THREAD, self.machine.dram), name, after)

    def narrow(self, parameters: float, name: str, after: Iterable[int] = ()) -> int:
        """New weights turned from fp32 to 16 bits on the CPU."""
        return self._kernel(NARROW, parameters * CAST_BYTES, name, after)

    def scan(self, size_bytes: float, name: str, after: Iterable[int] = ()) -> int:
        """Gradients searched for infinities on the CPU, which touches so many bytes of host memory."""
        return self._kernel(SCAN, size_bytes, name, after)

    def finish(self) -> TaskGraph:
        """The graph, when all has been written."""
        end = self.graph.add(self._streams["compute"], 0.0, END)
        waited = {task for others in self.graph.after for task in others}
        self.graph.wait_for(end, *(task for task in range(end) if task not in waited))
        for tier, size, owner in self._held:
            self.give(end, tier, size, owner)
        return self.graph

    def gradient_out(self, layer: LayerWork, backward: int, name: str, share: float = 1.0) -> int:
        """So much of a layer's gradients, summed over ranks, goes to host memory: the last task of that."""
        ready = backward
        if self.work.ranks > 1:
            ready = self.exchange(REDUCE, layer.parameters * WEIGHT_BYTES, name, [backward])
        return self.d2h(share * self.work.part(layer) * WEIGHT_BYTES, f"gradients {name}", [ready])

    def _kernel(self, kind: str, size_bytes: float, name: str, after: Iterable[int]) -> int:
        return self._transfer("cpu", kind, size_bytes, (ADAM, self.machine.dram), name, after)

    def _transfer(
        self,
        stream: str,
        kind: str,
        size_bytes: float,
        links: tuple[str, ...],
        name: str,
        after: Iterable[int],
        latency_s: float = 0.0,
        priority: int = 0,
    ) -> int:
        crossed, slowest = self._ways.get(links) or self._way(links)
        return self.graph.add(
            self._streams[stream],
            latency_s + size_bytes / slowest,
            kind,
            after,
            name=f"{kind} {name}",
            priority=priority,
            transfer=Transfer(crossed, size_bytes, latency_s),
        )

    def _way(self, links: tuple[str, ...]) -> tuple[tuple[int, ...], float]:
        """Links by number, and bytes/s of the slowest for a transfer that meets no other."""
        crossed = tuple(self._links[link] for link in links)
        slowest = min(self.graph.links[link].bytes_per_s / crossed.count(link) for link in crossed)
        self._ways[links] = found = crossed, slowest
        return found
