"""Parts of the kit that need no PyTorch: loads of experts, contexts, names of devices, disk, power, timer, watchdog."""

import io
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.measure import meters
from calibration.measure.attention_cache import contexts_of
from calibration.measure.device import catalog_name, describe, slug
from calibration.measure.machine import choose_device
from calibration.measure.moe import rows_per_expert
from calibration.measure.point import CannotMeasureError, Point
from calibration.measure.power import PowerBench, rows_for
from calibration.measure.processor import ProcessorBench
from calibration.measure.results import Results
from calibration.measure.session import Request, archive, measure
from calibration.measure.statistics import summarise
from calibration.measure.storage import NAME, StorageBench
from calibration.measure.timer import Timer
from calibration.measure.watch import HUNG_EXIT, ProgressLine, Watchdog
from calibration.measurement import read_device, read_measurements
from hardware_models import catalog
from hardware_models.errors import FleetcastError

ROOT = Path(__file__).parents[2]
POINT = Point(kind="host", values={"name": "python_op", "count": 1}, level=0)


@given(st.integers(1, 5000), st.integers(1, 64), st.data(), st.floats(0, 3))
def test_expert_loads_sum_to_the_rows_and_no_expert_gets_a_token_twice(
    tokens: int, experts: int, data: st.DataObject, skew: float
) -> None:
    top_k = data.draw(st.integers(1, experts))
    loads = rows_per_expert(tokens, experts, top_k, skew)
    assert loads.sum() == tokens * top_k
    assert (loads <= tokens).all()
    assert (loads >= 0).all()
    if skew == 0:
        assert loads.max() - loads.min() <= 1


def test_skewed_loads_follow_the_power_law() -> None:
    loads = rows_per_expert(100_000, 8, 1, 1.0)
    assert loads[0] / loads[7] == pytest.approx(8, rel=1e-3)


@given(st.integers(1, 300), st.integers(1, 100_000), st.floats(0, 3))
def test_contexts_have_the_mean_they_are_asked_for(batch: int, mean: int, skew: float) -> None:
    contexts = contexts_of(batch, mean, skew)
    assert len(contexts) == batch
    assert sum(contexts) == batch * mean
    assert min(contexts) >= 1


def test_contexts_vary_as_their_skew_says() -> None:
    contexts = contexts_of(1000, 4096, 0.5)
    mean = sum(contexts) / 1000
    deviation = (sum((context - mean) ** 2 for context in contexts) / 1000) ** 0.5
    assert deviation / mean == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("reported", "mebibytes", "name"),
    [
        ("NVIDIA H200", 143_771, "h200"),
        ("NVIDIA H200 NVL", 143_771, None),
        ("NVIDIA H200", 97_871, None),
        ("NVIDIA A100-SXM4-80GB", 81_920, "a100-80gb-sxm"),
        ("NVIDIA GH200 480GB", 97_871, "gh200"),
        ("NVIDIA GH200 480GB", 146_831, "gh200-144gb"),
        ("nvidia l4", 23_034, "l4"),
    ],
)
def test_a_card_is_known_by_name_and_memory(reported: str, mebibytes: int, name: str | None) -> None:
    assert catalog_name(reported, mebibytes * 2**20) == name


def test_every_card_of_the_catalog_has_a_reported_name() -> None:
    table = tomllib.loads((ROOT / "calibration/measure/gpu_names.toml").read_text())
    named = {name for entry in table["gpu"] for name in entry["catalog"]}
    assert named == set(catalog.names("gpu"))


def test_slugs_hold_letters_digits_and_dashes() -> None:
    assert slug("AMD EPYC 9654 (R) @ 2.4 GHz") == "amd-epyc-9654-r-2-4-ghz"
    assert slug("") == "unknown"


def test_summaries_are_medians_and_quartiles() -> None:
    sample = summarise([1.0, 2.0, 3.0, 4.0, 100.0], calls=10)
    assert (sample.seconds, sample.spread_s, sample.repeats) == (3.0, 2.0, 50)


def storage_point(operation: str, block: int, depth: int = 2, direct: int = 0) -> Point:
    values = {"operation": operation, "block_bytes": block, "queue_depth": depth, "direct": direct}
    return Point(kind="storage", values=values, level=0)


@pytest.mark.parametrize("operation", ["read", "write", "mixed"])
def test_storage_is_timed_and_leaves_nothing_behind(tmp_path: Path, operation: str) -> None:
    bench = StorageBench(tmp_path, file_bytes=16 * 2**20, slice_s=0.01)
    sample = bench(storage_point(operation, 4096), 0.1)
    assert sample.repeats >= 2
    assert (tmp_path / NAME).stat().st_size <= 16 * 2**20
    bench.close()
    assert list(tmp_path.iterdir()) == []


def test_requests_beyond_the_scratch_file_are_refused(tmp_path: Path) -> None:
    bench = StorageBench(tmp_path, file_bytes=8 * 2**20, slice_s=0.01)
    with pytest.raises(CannotMeasureError, match="exceed the scratch file"):
        bench(storage_point("read", 8 * 2**20, 2), 0.1)
    bench.close()


def test_a_failing_request_raises_instead_of_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(5, "Input/output error")

    bench = StorageBench(tmp_path, file_bytes=8 * 2**20, slice_s=0.01)
    monkeypatch.setattr("os.preadv", broken)
    with pytest.raises(OSError, match="Input/output"):
        bench(storage_point("read", 4096), 0.1)
    bench.close()


def test_the_triad_is_timed_on_threads() -> None:
    point = Point(kind="cpu", values={"name": "stream_triad", "bytes": 24 * 10_000, "threads": 2}, level=0)
    assert ProcessorBench()(point, 0.01).repeats >= 3


class PlayedMeter:
    name = "played"

    def read(self) -> meters.Reading:
        return meters.Reading(123.0, 1e9)

    def card(self) -> meters.Card:
        return meters.Card("1", "x", 1e9, 1.0, 1e9, 1e9)


def power_point(load: str, intensity: float) -> Point:
    return Point(kind="power", values={"load": load, "intensity": intensity}, level=0)


def test_idle_power_is_the_mean_of_readings() -> None:
    bench = PowerBench(SimpleNamespace(is_gpu=False), PlayedMeter(), settle_s=0.0, watch_s=0.05)  # type: ignore[arg-type]
    sample = bench(power_point("idle", 0.0), 1.0)
    assert sample.more["watts"] == 123.0
    assert sample.more["flop_per_s"] == 0.0
    assert sample.seconds >= 0.05


def test_power_without_a_meter_is_refused() -> None:
    with pytest.raises(CannotMeasureError, match="no power meter"):
        PowerBench(SimpleNamespace(is_gpu=False), None)(power_point("idle", 0.0), 1.0)  # type: ignore[arg-type]


def test_rows_reach_the_intensity_they_are_chosen_for() -> None:
    for intensity in (1, 16, 256, 1024):
        m = rows_for(intensity, 8192)
        assert m * 8192 / (8192 + 2 * m) == pytest.approx(intensity, rel=0.1)
    with pytest.raises(CannotMeasureError):
        rows_for(4096, 8192)


def test_nvidia_smi_is_read_where_the_binding_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], **_: Any) -> SimpleNamespace:
        assert not any(option in command for option in ("-pl", "-lgc", "-pm", "-r"))
        return SimpleNamespace(stdout="GPU-1, 75.50, 345, 700.00, 1980, 3201, 580.1, NVIDIA H200, 143771\n")

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(meters.shutil, "which", lambda _: "/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", answer)
    meter = meters.find_meter()
    assert meter is not None
    assert meter.read() == meters.Reading(75.5, 345e6)
    card = meter.card()
    assert (card.name, card.power_limit_w, card.max_clock_hz) == ("NVIDIA H200", 700.0, 1.98e9)
    assert catalog_name(card.name, card.memory_bytes) == "h200"


def test_the_card_in_use_is_read_among_several(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: object, **__: Any) -> SimpleNamespace:
        rest = "345, 700.00, 1980, 3201, 580.1, NVIDIA H200, 143771"
        return SimpleNamespace(stdout=f"GPU-a, 75.5, {rest}\nGPU-b, 80.5, {rest}\n")

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(meters.shutil, "which", lambda _: "/bin/nvidia-smi")
    monkeypatch.setattr(subprocess, "run", answer)
    meter = meters.find_meter("b")
    assert meter is not None
    assert meter.read().watts == 80.5
    assert meters.find_meter("c") is None


def played_nvml() -> SimpleNamespace:
    """The calls of nvidia-ml-py that read; none that sets exists."""
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: f"index {index}",
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetPowerUsage": lambda handle: 650_000 if handle == "GPU-b" else 0,
        "nvmlDeviceGetClockInfo": lambda _, clock: {1: 1755, 2: 3201}[clock],
        "nvmlDeviceGetMaxClockInfo": lambda *_: 1980,
        "nvmlSystemGetDriverVersion": lambda: b"580.1",
        "nvmlDeviceGetName": lambda _: "NVIDIA H200",
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=150_754_820_096),
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
    }
    return SimpleNamespace(NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2, **answers)


def test_nvml_is_preferred_and_read_in_si(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", played_nvml())
    meter = meters.find_meter("b")
    assert meter is not None
    assert meter.read() == meters.Reading(650.0, 1.755e9)
    assert meter.card() == meters.Card("580.1", "NVIDIA H200", 150_754_820_096.0, 700.0, 1.98e9, 3.201e9)


def test_no_meter_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(meters.shutil, "which", lambda _: None)
    assert meters.find_meter() is None


class PlayedCuda:
    """A device whose kernels take `kernel_s` each on its own clock, and a host that takes `queue_s` to queue one."""

    def __init__(self, kernel_s: float, queue_s: float) -> None:
        self.kernel_s, self.queue_s = kernel_s, queue_s
        self.host = self.device = 0.0
        self.is_gpu = True
        self.torch = SimpleNamespace(cuda=self)

    def call(self, _: int) -> None:
        self.host += self.queue_s
        self.device = max(self.device, self.host) + self.kernel_s

    def synchronize(self) -> None:
        self.host = max(self.host, self.device)

    def _sleep(self, cycles: int) -> None:
        self.device = max(self.device, self.host) + cycles / 2e9

    def Event(self, enable_timing: bool) -> "PlayedEvent":  # noqa: N802
        assert enable_timing
        return PlayedEvent(self)


class PlayedEvent:
    def __init__(self, cuda: PlayedCuda) -> None:
        self.cuda, self.at = cuda, 0.0

    def record(self) -> None:
        self.at = max(self.cuda.device, self.cuda.host)

    def query(self) -> bool:
        return self.at <= self.cuda.host

    def elapsed_time(self, other: "PlayedEvent") -> float:
        return (other.at - self.at) * 1e3


@pytest.mark.parametrize(("kernel_s", "queue_s"), [(2e-6, 2e-5), (1e-3, 1e-5), (3e-5, 3e-5), (0.05, 1e-5), (2.0, 1e-5)])
def test_device_time_is_the_kernels_whatever_the_host_takes(kernel_s: float, queue_s: float) -> None:
    played = PlayedCuda(kernel_s, queue_s)
    sample = Timer(played, clock=lambda: played.host).device_time(played.call, 0.25)  # type: ignore[arg-type]
    assert sample.seconds == pytest.approx(kernel_s, rel=0.02)
    assert played.host < 0.25 * 2 + 8 * kernel_s + 0.1


def test_a_kernel_that_compiles_at_first_is_timed_well_after() -> None:
    played, calls = PlayedCuda(1e-4, 1e-5), []

    def call(index: int) -> None:
        calls.append(index)
        if len(calls) == 1:
            played.host += 3.0
        played.call(index)

    sample = Timer(played, clock=lambda: played.host).device_time(call, 0.25)  # type: ignore[arg-type]
    assert sample.seconds == pytest.approx(1e-4, rel=0.01)
    assert sample.repeats > 10


def test_the_watchdog_records_the_point_and_leaves(tmp_path: Path) -> None:
    results, left = Results(tmp_path), []
    watchdog = Watchdog(results, leave=left.append, least_s=0.01, period_s=0.005)
    watchdog.begin(POINT, 1e-6)
    deadline = time.monotonic() + 10
    while not left and time.monotonic() < deadline:
        time.sleep(0.01)
    watchdog.close()
    assert left == [HUNG_EXIT]
    assert Results(tmp_path).is_fatal(POINT)


def test_the_watchdog_lets_an_ended_point_be(tmp_path: Path) -> None:
    left: list[int] = []
    watchdog = Watchdog(Results(tmp_path), leave=left.append, least_s=0.01, period_s=0.005)
    watchdog.begin(POINT, 1e-6)
    watchdog.end()
    time.sleep(0.05)
    watchdog.close()
    assert left == []


def test_progress_says_how_many_and_how_long() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.begin(POINT)
    line.end(3, 120, 61.4)
    assert stream.getvalue() == "[  3 of 120] 61 s left; host name=python_op count=1\n"


def test_a_folder_of_another_machine_or_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(device="cpu", out=tmp_path / "m", budget_s=1.0, kinds=("host",))
    measure(request)
    described = read_device(tmp_path / "m")
    monkeypatch.setattr("calibration.measure.session.describe", lambda *_: {**described, "software": {"python": "2.7"}})
    with pytest.raises(FleetcastError, match="software"):
        measure(request)
    monkeypatch.setattr("calibration.measure.session.describe", lambda *_: {**described, "device": "abacus"})
    with pytest.raises(FleetcastError, match="this machine has abacus; give a new folder"):
        measure(request)


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("a\n1\n")
    with pytest.raises(FleetcastError, match="give a new folder"):
        measure(Request(device="cpu", out=tmp_path, budget_s=1.0))


def test_without_pytorch_disk_and_memory_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("calibration.measure.plans.system.GIB", 2**20)
    request = Request(device="auto", out=tmp_path / "m", budget_s=8.0, kinds=("cpu", "gemm"))
    results = measure(request)
    assert results.skipped["gemm", "unsupported"] > 0
    assert results.skipped["cpu", "unsupported"] > 0  # Adam
    frames = read_measurements(tmp_path / "m")
    assert set(frames) == {"cpu"}
    packed = archive(tmp_path / "m")
    assert packed.name == "m.tar.gz"
    assert packed.stat().st_size > 100
    with pytest.raises(FleetcastError, match="PyTorch is not installed"):
        choose_device("cuda")


def test_descriptions_name_the_cpu_and_versions() -> None:
    description = describe(None, None)
    assert description["device"] == slug(description["reported"])
    assert "numpy" in description["software"]


def test_measuring_needs_no_package_but_click_numpy_and_pytorch() -> None:
    blocked = ("pydantic", "pandas", "simpy", "scipy", "plotly", "streamlit", "pulp", "pyarrow")
    code = (
        f"import sys; [sys.modules.__setitem__(n, None) for n in {blocked}]; "
        "import app.calibrate, calibration.measure.session, calibration.measure.report"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
