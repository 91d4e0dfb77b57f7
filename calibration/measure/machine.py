"""The device through PyTorch: its sizes, random operands and its timer."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.measure.point import CannotMeasureError
from hardware_models.errors import FleetcastError

CACHE_MULTIPLE = 3.0  # operands rotate over this many times the last cache
MOST_ROTATIONS = 2048
ALONE_MULTIPLE = 32.0  # operands so many times the cache evict themselves: one set will do
DEFAULT_CACHE_BYTES = 32 * 2**20  # of a CPU that does not say
TORCH_NAMES = {
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp8": "float8_e4m3fn",
    "int8": "int8",
    "int32": "int32",
}
CHUNK = 2**27  # elements converted at once


class Machine:
    """A device ("cuda" or "cpu") with pools of random values that operands are views of."""

    def __init__(self, device: str) -> None:
        self.torch: Any = importlib.import_module("torch")
        self.device = device
        self.is_gpu = device == "cuda"
        self._pools: dict[str, Any] = {}
        self.torch.manual_seed(20240229)
        self.torch.set_grad_enabled(False)
        if self.is_gpu:
            self.properties: Any = self.torch.cuda.get_device_properties(0)
        self.l2_bytes = float(self.properties.L2_cache_size) if self.is_gpu else _cpu_cache_bytes()

    def dtype(self, name: str) -> Any:
        """PyTorch's dtype of one of our names; raises CannotMeasureError where it has none."""
        if name not in TORCH_NAMES or not hasattr(self.torch, TORCH_NAMES[name]):
            raise CannotMeasureError(f"PyTorch {self.torch.__version__} has no {name}")
        return getattr(self.torch, TORCH_NAMES[name])

    def rotations(self, call_bytes: float) -> int:
        """How many operand sets of `call_bytes` exceed the cache."""
        if call_bytes > ALONE_MULTIPLE * self.l2_bytes:
            return 1
        return min(MOST_ROTATIONS, max(2, math.ceil(CACHE_MULTIPLE * self.l2_bytes / max(1.0, call_bytes))))

    def operands(self, dtype: str, shape: Sequence[int], count: int) -> list[Any]:
        """`count` random tensors of a shape that share no bytes, views of one pool that grows as needed."""
        size = -(-math.prod(shape) // 128) * 128  # keeps every view aligned
        pool = self._pool(dtype, size * count)
        return [pool[i * size : i * size + math.prod(shape)].view(*shape) for i in range(count)]

    def integers(self, high: int, shape: Sequence[int]) -> Any:
        """Random int64 from 0 to high - 1."""
        return self.torch.randint(high, tuple(shape), device=self.device)

    def flat(self, dtype: str, *shapes: Sequence[int]) -> list[Any]:
        """Random tensors of these shapes, one after another in the pool."""
        sizes = [-(-math.prod(shape) // 128) * 128 for shape in shapes]
        pool, start, tensors = self._pool(dtype, sum(sizes)), 0, []
        for shape, size in zip(shapes, sizes, strict=True):
            tensors.append(pool[start : start + math.prod(shape)].view(*shape))
            start += size
        return tensors

    def tensor(self, values: Sequence[int] | Sequence[float], dtype: str) -> Any:
        """A small tensor on the device."""
        return self.torch.tensor(values, dtype=self.dtype(dtype), device=self.device)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            self.torch.cuda.synchronize()

    def free_bytes(self) -> float:
        """Memory free for operands: what the driver has left, and what the pools hold."""
        held = sum(float(pool.numel() * pool.element_size()) for pool in self._pools.values())
        if self.is_gpu:
            cached = self.torch.cuda.memory_reserved() - self.torch.cuda.memory_allocated()
            return float(self.torch.cuda.mem_get_info()[0]) + float(cached) + held
        return _free_host_bytes() + held

    def recover(self) -> str | None:
        """Drop the pools after a failure; the reason if the device no longer answers."""
        self.release()
        if not self.is_gpu:
            return None
        try:
            self.synchronize()
            self.torch.ones(8, device=self.device).sum().item()
        except RuntimeError as error:
            return f"the device stopped answering: {str(error).strip().splitlines()[0]}; run the command again"
        return None

    def release(self) -> None:
        """Give the pools' memory back."""
        self._pools.clear()
        if self.is_gpu:
            self.torch.cuda.empty_cache()

    def _pool(self, dtype: str, elements: int) -> Any:
        held = self._pools.get(dtype)
        if held is None or held.numel() < elements:
            itemsize = self.dtype(dtype).itemsize
            elements = max(elements, math.ceil(1.25 * CACHE_MULTIPLE * self.l2_bytes / itemsize))
            wanted = elements * itemsize
            if held is not None:
                del held, self._pools[dtype]
            if wanted > 0.5 * self.free_bytes():
                self.release()
            self._pools[dtype] = self._random(dtype, elements)
        return self._pools[dtype]

    def _random(self, dtype: str, elements: int) -> Any:
        """Standard normal values; int8 uniform over its range. Never zeros, which take less time and power."""
        torch, kind = self.torch, self.dtype(dtype)
        pool = torch.empty(elements, dtype=kind, device=self.device)
        for start in range(0, elements, CHUNK):
            part = pool[start : start + CHUNK]
            if dtype in ("int8", "int32"):
                part.random_(-127, 128)
            elif kind.itemsize == 1:
                part.copy_(torch.randn(part.numel(), device=self.device, dtype=torch.bfloat16))
            else:
                part.normal_()
        return pool


def load_torch() -> Any:
    """PyTorch, or None where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def choose_device(asked: str) -> str:
    """ "cuda" or "cpu" for auto, cuda or cpu; raises FleetcastError for cuda without a GPU that PyTorch sees."""
    torch = load_torch()
    has_gpu = torch is not None and torch.cuda.is_available()
    if asked == "cuda" and not has_gpu:
        reason = "PyTorch sees none" if torch is not None else "PyTorch is not installed"
        raise FleetcastError(
            f"--device cuda: no GPU to measure ({reason}); give --device cpu, or install the gpu extra"
        )
    return "cuda" if has_gpu and asked != "cpu" else "cpu"


def _cpu_cache_bytes() -> float:
    path = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    try:
        text = path.read_text().strip()
    except OSError:
        return float(DEFAULT_CACHE_BYTES)
    return float(text.removesuffix("K")) * 1024 if text.endswith("K") else float(DEFAULT_CACHE_BYTES)


def _free_host_bytes() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return 4e9
