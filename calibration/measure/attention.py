"""Attention over new tokens and over cached ones, by the fastest installed kernel that gives the right result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from calibration.measure.attention_cache import Heads, contexts_of, decode_set, sequence, split
from calibration.measure.attention_kernels import (
    DecodeKernel,
    PrefillKernel,
    causal_mask,
    decode_kernels,
    prefill_kernels,
)
from calibration.measure.machine import Machine
from calibration.measure.point import CannotMeasureError, Point, Sample
from calibration.measure.timer import Timer
from calibration.measurement_kinds import Value
from calibration.measurement_work import work

TOLERANCE = 0.02  # relative error, norm of the difference over norm; bf16 lands between 1e-3 and 1e-2
PAGED_HANDICAP = 1.1  # a paged kernel is preferred unless one on a dense cache is faster by this factor
MOST_TABLES = 128
TRIAL_LIMIT_S = 0.05
LOST_DEVICE = "CUDA error"  # in what a kernel raises that takes the process's device with it

K = TypeVar("K", PrefillKernel, DecodeKernel)


class AttentionBench:
    """Times both kinds; each variant's kernel is chosen once, by a trial of every installed one."""

    def __init__(self, machine: Machine, timer: Timer, earlier: Mapping[str, str] | None = None) -> None:
        self._machine, self._timer, self._torch = machine, timer, machine.torch
        self._prefill = prefill_kernels(machine.torch, machine.is_gpu)
        self._decode = decode_kernels(machine.torch, machine.is_gpu)
        self._chosen: dict[str, Any] = {}
        self._earlier = earlier or {}  # the report of an earlier run into the same folder
        self.report: dict[str, str] = {}  # for device.toml: what was chosen, and why others were not

    def prefill(self, point: Point, limit_s: float) -> Sample:
        """Time a prefill point."""
        _refuse_mixed(point)
        general = bool(point.count("past_tokens") or point.count("window"))
        kernel = self._choose("prefill_past" if general else "prefill", self._prefill_trial, self._prefill)
        return self._time_prefill(kernel, point, limit_s)

    def decode(self, point: Point, limit_s: float) -> Sample:
        """Time a decode point."""
        _refuse_mixed(point)
        ragged = bool(float(point.values["skew"]) or point.count("window"))
        kernel = self._choose("decode_skewed" if ragged else "decode", self._decode_trial, self._decode)
        return self._time_decode(kernel, point, limit_s)

    def _choose(self, variant: str, trial: Callable[[K, str], float], kernels: Sequence[K]) -> K:
        """The fastest kernel that is right; what an earlier run into the folder chose stays chosen."""
        before = [kernel for kernel in kernels if kernel.name == self._earlier.get(variant)]
        if before:
            self._chosen[variant] = before[0]
        if variant not in self._chosen:
            speeds: dict[str, float] = {}
            for kernel in kernels:
                if LOST_DEVICE in self._earlier.get(f"{variant}: {kernel.name}", ""):
                    continue
                try:
                    speeds[kernel.name] = trial(kernel, variant)
                    self.report[f"{variant}: {kernel.name}"] = f"{speeds[kernel.name] * 1e6:.1f} us in the trial"
                except Exception as error:  # a library that fails is told in device.toml and not used
                    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
                    self.report[f"{variant}: {kernel.name}"] = reason[:200]
                    self._machine.synchronize()
            if not speeds:
                raise CannotMeasureError(f"no installed kernel does {variant} attention; device.toml has the reasons")
            self._chosen[variant] = next(k for k in kernels if k.name == min(speeds, key=speeds.__getitem__))
            self.report[variant] = self._chosen[variant].name
        chosen: K = self._chosen[variant]
        return chosen

    def _prefill_trial(self, kernel: PrefillKernel, variant: str) -> float:
        past = 0 if variant == "prefill" else 96
        if past and not kernel.general:
            raise CannotMeasureError("takes no past tokens")
        torch, device = self._torch, self._machine.device
        for window in (0, 80) if past else (0,):
            query = torch.randn(2, 64, 8, 128, dtype=torch.bfloat16, device=device)
            key, value = (torch.randn(2, 64 + past, 2, 128, dtype=torch.bfloat16, device=device) for _ in range(2))
            mask = causal_mask(torch, 64, 64 + past, window).to(device)
            _compare(kernel.run(query, key, value, window), _plain(torch, query, key, value, mask))
        size = 4096 if self._machine.is_gpu else 64
        values = {"batch": 1, "new_tokens": size, "past_tokens": 2 * size if past else 0, "window": 0}
        return self._time_prefill(kernel, _trial_point("attention_prefill", values), TRIAL_LIMIT_S).seconds

    def _decode_trial(self, kernel: DecodeKernel, variant: str) -> float:
        ragged = variant == "decode_skewed"
        if ragged and not (kernel.ragged and kernel.windowed):
            raise CannotMeasureError("takes no unequal contexts or no window")
        contexts = [300, 700, 17] if ragged else [300, 300, 300]
        for window in (0, 80) if ragged else (0,):
            self._check_decode(kernel, contexts, window)
        context = 4096 if self._machine.is_gpu else 64
        values = {"batch": 32, "context_tokens": context, "skew": 0.8 if ragged else 0.0, "window": 0}
        seconds = self._time_decode(kernel, _trial_point("attention_decode", values), TRIAL_LIMIT_S).seconds
        return seconds if kernel.page_tokens else seconds * PAGED_HANDICAP

    def _time_prefill(self, kernel: PrefillKernel, point: Point, limit_s: float) -> Sample:
        batch, new, past, window = (point.count(n) for n in ("batch", "new_tokens", "past_tokens", "window"))
        heads, kv_heads, head_dim = (point.count(n) for n in ("heads", "kv_heads", "head_dim"))
        done = work("attention_prefill", point.values)
        assert done is not None
        count = min(MOST_TABLES, self._machine.rotations(done.moved_bytes))
        size = count * batch * head_dim * (new * heads + 2 * (past + new) * kv_heads)
        pool = self._machine.operands(point.text("dtype"), (size,), 1)[0]
        queries, rest = split(pool, (count, batch, new, heads, head_dim))
        keys, rest = split(rest, (count, batch, past + new, kv_heads, head_dim))
        values, _ = split(rest, (count, batch, past + new, kv_heads, head_dim))

        def call(i: int) -> Any:
            return kernel.run(queries[i % count], keys[i % count], values[i % count], window)

        return self._timer.device_time(call, limit_s, 4, {"backend": kernel.name})

    def _time_decode(self, kernel: DecodeKernel, point: Point, limit_s: float) -> Sample:
        done = work("attention_decode", point.values)
        assert done is not None
        count = min(MOST_TABLES, self._machine.rotations(done.moved_bytes))
        contexts = contexts_of(point.count("batch"), point.count("context_tokens"), float(point.values["skew"]))
        heads = Heads(point.count("heads"), point.count("kv_heads"), point.count("head_dim"))
        data = decode_set(self._machine, kernel, heads, contexts, point.count("window"), count, point.text("dtype"))

        def call(i: int) -> Any:
            turn = i % count
            return data.calls[turn](data.queries[turn], data.keys[turn], data.values[turn])

        return self._timer.device_time(call, limit_s, 4, {"backend": kernel.name})

    def _check_decode(self, kernel: DecodeKernel, contexts: list[int], window: int) -> None:
        data = decode_set(self._machine, kernel, Heads(8, 2, 128), contexts, window)
        out = data.calls[0](data.queries[0], data.keys[0], data.values[0])
        expected = []
        for i, context in enumerate(contexts):
            key, value = sequence(data, kernel.page_tokens, contexts, i)
            mask = causal_mask(self._torch, 1, context, window).to(self._machine.device)
            expected.append(_plain(self._torch, data.queries[0][i][None, None], key[None], value[None], mask)[0, 0])
        _compare(out, self._torch.stack(expected))


def _refuse_mixed(point: Point) -> None:
    if point.text("kv_dtype") != point.text("dtype"):
        raise CannotMeasureError("no installed kernel mixes the dtypes of queries and cache")


def _trial_point(kind: str, values: Mapping[str, Value]) -> Point:
    shape: dict[str, Value] = {"heads": 32, "kv_heads": 8, "head_dim": 128, "dtype": "bf16", "kv_dtype": "bf16"}
    return Point(kind=kind, values={**shape, **values}, level=0)


def _plain(torch: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
    """Attention in fp32 by its definition, (batch, new, heads, d)."""
    group = query.shape[2] // key.shape[2]
    key, value = (x.float().repeat_interleave(group, dim=2) for x in (key, value))
    scores = torch.einsum("bnhd,bshd->bhns", query.float(), key) * query.shape[-1] ** -0.5
    shares = torch.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
    return torch.einsum("bhns,bshd->bnhd", shares, value)


def _compare(out: Any, expected: Any) -> None:
    error = float((out.float() - expected).norm() / expected.norm())
    if not error < TOLERANCE:
        raise ArithmeticError(f"relative error {error:.3g} against plain attention")
