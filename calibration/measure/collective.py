"""Collectives between the GPUs of this machine (NCCL), or between processes of its CPU (gloo)."""

from __future__ import annotations

import importlib
import os
import queue
import socket
import time
from collections.abc import Callable
from typing import Any

from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.statistics import summarise

START_LIMIT_S = 90.0
POINT_LIMIT_S = 30.0
BLOCKS = 9
WARM_UP = 3
TARGET_BLOCK_S = 0.01
Request = tuple[str, int, str, float]  # kind, payload bytes, dtype, seconds


class CollectiveBench:
    """Keeps one group of processes alive for the ranks of the latest points; rank 0 reports."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._ranks = 0
        self._processes: list[Any] = []
        self._requests: list[Any] = []
        self._answers: Any = None

    def __call__(self, point: Point, limit_s: float) -> Sample:
        """Time a point."""
        if point.text("backend") != backend_name(self._device):
            raise CannotMeasureError(f"this machine's backend is {backend_name(self._device)}")
        self._start(point.count("ranks"))
        request = (point.text("kind"), point.count("payload_bytes"), point.text("dtype"), limit_s)
        for inbox in self._requests:
            inbox.put(request)
        answer = self._answer(POINT_LIMIT_S)
        match answer:
            case str():
                self.close()
                raise RuntimeError(answer)
            case (seconds, calls):
                return summarise(seconds, calls)
        raise AssertionError(answer)

    def close(self) -> None:
        """End the processes."""
        for inbox in self._requests:
            inbox.put(None)
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
                process.join(timeout=5)
        self._processes, self._requests, self._ranks = [], [], 0

    def _start(self, ranks: int) -> None:
        if self._ranks == ranks:
            return
        self.close()
        context = importlib.import_module("multiprocessing").get_context("spawn")
        self._answers = context.Queue()
        self._requests = [context.Queue() for _ in range(ranks)]
        port = _free_port()
        for rank in range(ranks):
            arguments = (self._device, rank, ranks, port, self._requests[rank], self._answers)
            process = context.Process(target=_rank, args=arguments, daemon=True)
            process.start()
            self._processes.append(process)
        self._ranks = ranks
        ready = self._answer(START_LIMIT_S)
        if ready != "ready":
            self.close()
            raise RuntimeError(f"the group did not start: {ready}")

    def _answer(self, limit_s: float) -> Any:
        try:
            return self._answers.get(timeout=limit_s)
        except queue.Empty:
            for process in self._processes:
                process.terminate()
            self.close()
            raise TimeoutError(f"no answer from the group within {limit_s:.0f} s") from None


def backend_name(device: str) -> str:
    """PyTorch's library for a device."""
    return "nccl" if device == "cuda" else "gloo"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _rank(device: str, rank: int, ranks: int, port: int, inbox: Any, answers: Any) -> None:
    """Body of one process: joins the group, then does as it is asked until None comes."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch = importlib.import_module("torch")
    distributed = importlib.import_module("torch.distributed")
    try:
        if device == "cuda":
            torch.cuda.set_device(rank)
        distributed.init_process_group(backend_name(device), rank=rank, world_size=ranks)
        distributed.barrier()
    except Exception as error:  # reported to the parent, which records it
        answers.put(f"{type(error).__name__}: {error}")
        return
    if rank == 0:
        answers.put("ready")
    while (request := inbox.get()) is not None:
        try:
            answer = _time(torch, distributed, device, rank, ranks, request)
        except Exception as error:  # reported to the parent, which ends the group
            answers.put(f"{type(error).__name__}: {error}")
            return
        if rank == 0:
            answers.put(answer)
    distributed.destroy_process_group()


def _time(
    torch: Any, distributed: Any, device: str, rank: int, ranks: int, request: Request
) -> tuple[list[float], int]:
    """Seconds a call in each block, and calls a block; every rank makes the same number of calls."""
    kind, payload, dtype, limit_s = request
    call = _call(torch, distributed, device, rank, ranks, (kind, payload, dtype))
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    for _ in range(WARM_UP):
        call()
    wait()
    distributed.barrier()
    started = time.perf_counter()
    call()
    wait()
    single = torch.tensor([time.perf_counter() - started], device=device)
    distributed.all_reduce(single, op=distributed.ReduceOp.MAX)
    longest = float(single.item())
    calls = max(1, min(50, int(min(TARGET_BLOCK_S, limit_s / BLOCKS) / longest)))
    seconds = []
    for _ in range(BLOCKS):
        distributed.barrier()
        wait()
        before = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        seconds.append((time.perf_counter() - before) / calls)
    return seconds, calls


def _call(
    torch: Any, distributed: Any, device: str, rank: int, ranks: int, shape: tuple[str, int, str]
) -> Callable[[], Any]:
    """The collective on random buffers. `payload`: what a rank starts with, or, gathering, ends with."""
    kind, payload, dtype = shape
    number = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    size = max(1, payload // number.itemsize // ranks) * ranks
    whole = torch.randn(size, device=device).to(number)
    part = torch.randn(size // ranks, device=device).to(number)
    match kind:
        case "all_reduce":
            return lambda: distributed.all_reduce(whole)
        case "all_gather":
            gather = _newest(distributed, "all_gather_single", "all_gather_into_tensor")
            return lambda: gather(whole, part)
        case "reduce_scatter":
            scatter = _newest(distributed, "reduce_scatter_single", "reduce_scatter_tensor")
            return lambda: scatter(part, whole)
        case "all_to_all":
            received = torch.empty_like(whole)
            return lambda: distributed.all_to_all_single(received, whole)
        case _:
            if rank == 0:
                return lambda: distributed.send(whole, 1)
            return (lambda: distributed.recv(whole, 0)) if rank == 1 else (lambda: None)


def _newest(distributed: Any, name: str, older: str) -> Any:
    """A function that newer PyTorch calls `name`."""
    return getattr(distributed, name) if hasattr(distributed, name) else getattr(distributed, older)
