"""Every kind that PyTorch measures on a CPU, at small sizes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from calibration.measure import attention, attention_kernels, meters  # noqa: E402
from calibration.measure.attention_cache import Heads, contexts_of, decode_set, sequence  # noqa: E402
from calibration.measure.collective import CollectiveBench  # noqa: E402
from calibration.measure.gemm import GemmBench  # noqa: E402
from calibration.measure.machine import Machine  # noqa: E402
from calibration.measure.moe import MoeBench, rows_per_expert  # noqa: E402
from calibration.measure.plans import plan  # noqa: E402
from calibration.measure.plans.target import PlanTarget  # noqa: E402
from calibration.measure.point import CannotMeasureError, Point  # noqa: E402
from calibration.measure.power import PowerBench  # noqa: E402
from calibration.measure.session import Request, measure  # noqa: E402
from calibration.measure.timer import Timer  # noqa: E402
from calibration.measure.transfers import CopyBench  # noqa: E402
from calibration.measurement import read_device, read_measurements  # noqa: E402

OPERATORS = ("gemm", "attention_prefill", "attention_decode", "moe", "elementwise", "memory", "host")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, a small cache, and gradients as they were."""
    monkeypatch.setattr("calibration.measure.machine._cpu_cache_bytes", lambda: 2.0**20)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_grad_enabled(True)


@pytest.fixture
def machine() -> Machine:
    return Machine("cpu")


def test_a_run_measures_every_planned_point(tmp_path: Path) -> None:
    request = Request(device="cpu", out=tmp_path / "m", budget_s=60.0, kinds=OPERATORS)
    results = measure(request)
    planned = plan(PlanTarget(is_gpu=False, threads=1), OPERATORS)
    assert not results.skipped
    frames = read_measurements(tmp_path / "m")
    assert sum(len(frame) for frame in frames.values()) == len(planned)
    assert set(frames) == set(OPERATORS)
    assert set(frames["attention_decode"]["backend"]) == {"torch sdpa cpu"}
    device = read_device(tmp_path / "m")
    assert device["attention"]["decode"] == "torch sdpa cpu"
    assert device["software"]["torch"] == torch.__version__


def test_operands_share_no_bytes_and_are_not_zero(machine: Machine) -> None:
    for dtype in ("bf16", "fp8", "int8", "fp32"):
        views = machine.operands(dtype, (3, 5), 4)
        assert len({view.data_ptr() for view in views}) == 4
        assert all(bool((view.float() != 0).any()) for view in views)
        first, second = machine.flat(dtype, (100,), (7, 3))
        assert second.data_ptr() >= first.data_ptr() + 100 * first.element_size()


def test_operand_sets_exceed_the_cache(machine: Machine) -> None:
    assert machine.rotations(2.0**18) * 2.0**18 >= 3 * machine.l2_bytes
    assert machine.rotations(100 * machine.l2_bytes) == 1
    assert machine.rotations(4 * machine.l2_bytes) == 2


def test_pools_grow_and_are_given_back(machine: Machine) -> None:
    before = machine.free_bytes()
    machine.operands("fp32", (2**20,), 1)
    machine.operands("fp32", (2**22,), 2)
    machine.release()
    assert machine.free_bytes() == pytest.approx(before, rel=0.5)
    assert machine.recover() is None


def test_unknown_dtypes_are_told(machine: Machine) -> None:
    with pytest.raises(CannotMeasureError, match="has no fp4"):
        machine.dtype("fp4")
    bench = GemmBench(machine, Timer(machine))
    mixed = Point(kind="gemm", values={"m": 1, "n": 16, "k": 16, "dtype": "bf16", "weight_dtype": "int4"}, level=0)
    with pytest.raises(CannotMeasureError, match="mixed-dtype"):
        bench(mixed, 0.01)


def test_a_looped_layer_computes_what_experts_compute(machine: Machine) -> None:
    bench = MoeBench(machine, Timer(machine))
    loads = rows_per_expert(6, 4, 2, 1.0)
    rows, weights = torch.randn(12, 8), torch.randn(4, 5, 8).transpose(1, 2)
    out = bench._product("loop", loads)(rows, weights)
    start = 0
    for expert, load in enumerate(loads):
        assert torch.allclose(out[start : start + load], rows[start : start + load] @ weights[expert], atol=1e-5)
        start += load


def test_pages_hold_each_sequence_once(machine: Machine) -> None:
    kernel = attention_kernels.DecodeKernel("paged", 16, True, True, lambda shape: lambda q, k, v: q)
    contexts = [40, 5, 33]
    data = decode_set(machine, kernel, Heads(4, 2, 8), contexts, count=3)
    used = [table[i, : -(-context // 16)] for table in data.tables for i, context in enumerate(contexts)]
    pages = torch.cat(used).tolist()
    assert sorted(pages) == list(range(3 * (3 + 1 + 3)))
    assert sequence(data, 16, contexts, 0)[0].shape == (40, 2, 8)


def test_a_wrong_kernel_is_not_chosen(machine: Machine) -> None:
    bench = attention.AttentionBench(machine, Timer(machine))
    right = bench._prefill[0]
    wrong = attention_kernels.PrefillKernel("wrong", lambda q, k, v, w: q, True)
    broken = attention_kernels.PrefillKernel("broken", lambda q, k, v, w: q[999], True)
    bench._prefill = [wrong, broken, right]
    bench.prefill(next(p for p in plan(PlanTarget(is_gpu=False), ("attention_prefill",))), 0.01)
    assert bench.report["prefill"] == right.name
    assert "relative error" in bench.report["prefill: wrong"]
    assert "IndexError" in bench.report["prefill: broken"]


def test_a_kernel_that_lost_the_device_before_is_left_alone(machine: Machine) -> None:
    earlier = {"prefill: torch sdpa cpu": "AcceleratorError: ['CUDA error: illegal address']"}
    bench = attention.AttentionBench(machine, Timer(machine), earlier)
    with pytest.raises(CannotMeasureError, match="no installed kernel does prefill attention"):
        bench.prefill(next(p for p in plan(PlanTarget(is_gpu=False), ("attention_prefill",))), 0.01)


def test_a_later_run_keeps_to_the_kernel_of_the_earlier_one(machine: Machine) -> None:
    point = next(p for p in plan(PlanTarget(is_gpu=False), ("attention_prefill",)))
    bench = attention.AttentionBench(machine, Timer(machine), {"prefill": "slow"})
    bench._prefill = [*bench._prefill, attention_kernels.PrefillKernel("slow", bench._prefill[0].run, True)]
    assert bench.prefill(point, 0.01).more["backend"] == "slow"
    assert bench.report == {}


def test_masks_stand_at_the_lower_right() -> None:
    assert attention_kernels.causal_mask(torch, 2, 4, 0).tolist() == [[True, True, True, False], [True] * 4]
    assert attention_kernels.causal_mask(torch, 2, 4, 2).tolist() == [
        [False, True, True, False],
        [False, False, True, True],
    ]


def test_unequal_contexts_are_attended_each_to_its_end(machine: Machine) -> None:
    bench = attention.AttentionBench(machine, Timer(machine))
    bench._check_decode(bench._decode[0], contexts_of(4, 30, 1.0), 0)
    bench._check_decode(bench._decode[0], contexts_of(4, 30, 1.0), 7)


class PlayedMeter:
    name = "played"

    def read(self) -> meters.Reading:
        return meters.Reading(300.0, 2e9)


@pytest.mark.parametrize(("load", "intensity", "rows"), [("compute", 0.5, 64), ("compute", 1.0, 64), ("mixed", 4.0, 5)])
def test_power_is_read_beside_a_load(machine: Machine, load: str, intensity: float, rows: int) -> None:
    bench = PowerBench(machine, PlayedMeter(), settle_s=0.0, watch_s=0.1, side=64)
    sample = bench(Point(kind="power", values={"load": load, "intensity": intensity}, level=0), 1.0)
    assert sample.more["watts"] == 300.0
    assert sample.repeats >= 2
    ratio = float(sample.more["flop_per_s"]) / float(sample.more["bytes_per_s"])
    assert ratio == pytest.approx(rows * 64 / (64 + 2 * rows))


def test_copies_move_every_block(machine: Machine) -> None:
    machine.is_gpu, machine.synchronize = True, lambda: None
    bench = CopyBench(machine, Timer(machine))
    moved = {"pinned": 0, "blocks": 3, "block_bytes": 4096}

    def copied(direction: str) -> int:
        return bench(Point(kind="copy", values={"direction": direction, **moved}, level=0), 0.01).repeats

    machine.free_bytes = lambda: 1e12
    assert min(copied("h2d"), copied("d2h")) >= 5
    device = machine.operands("int8", (4096,), 6)
    host = bench._host[False].view(6, 4096)
    assert torch.equal(torch.stack(device[:3]), host[:3])  # up
    assert torch.equal(host[3:], torch.stack(device[3:]))  # down
    assert copied("d2d") >= 5
    assert torch.equal(torch.stack(device[:3]), torch.stack(device[3:]))


def test_two_processes_exchange_all_kinds() -> None:
    bench = CollectiveBench("cpu")
    try:
        for point in plan(PlanTarget(is_gpu=False, ranks=(2,)), ("collective",)):
            if point.count("payload_bytes") < 2**20:
                assert bench(point, 0.02).seconds > 0
        wrong = Point(kind="collective", values={**point.values, "backend": "nccl"}, level=0)
        with pytest.raises(CannotMeasureError, match="backend is gloo"):
            bench(wrong, 0.02)
    finally:
        bench.close()
