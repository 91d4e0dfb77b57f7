"""From measurement folders to calibrated kernels: parameters come back, files merge, mistakes are named."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from fit_measurements import NOISE, TRUTH, link_truth, write_folder

from calibration.fit.files import read_fit_files
from calibration.fit.own import KINDS, read_own
from calibration.fit.run import FitRequest, fit_all
from calibration.fit.transfer import read_spreads, write_spreads
from hardware_models.errors import FleetcastError
from hardware_models.fits import FitFile

DATE = datetime.date(2026, 1, 2)
DEVICE = "a100-80gb-sxm"
RECOVERED = {  # kind of kernel -> parameters that the points determine, and how well
    "gemm": {"compute_fraction": 0.05, "memory_fraction": 0.03, "launch_s": 0.1},
    "grouped_gemm": {"launch_s": 0.1, "memory_fraction": 0.05},
    "elementwise": {"launch_s": 0.05, "memory_fraction": 0.05},
    "attention_prefill": {"operand_clocks": 0.15, "launch_s": 0.1},
    "attention_decode": {"memory_fraction": 0.05, "launch_s": 0.1},
}
MEASURED_AS = {"grouped_gemm": "moe"}


def request(folder: Path, out: Path, date: datetime.date = DATE, devices: tuple[str, ...] = ()) -> FitRequest:
    return FitRequest(measurements=(folder,), out=out, date=date, devices=devices)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], FitFile]]:
    folder = tmp_path_factory.mktemp("measured")
    out = tmp_path_factory.mktemp("calibrated")
    fit_all(request(write_folder(folder, DEVICE, KINDS), out))
    return out, read_fit_files(out)


@pytest.mark.parametrize("operator", RECOVERED)
def test_known_parameters_come_back_from_a_folder(fitted, operator: str) -> None:
    fit = fitted[1][DEVICE, operator].find("bf16/bf16" if operator != "elementwise" else "bf16")
    assert fit is not None
    truth = TRUTH[MEASURED_AS.get(operator, operator)]
    for name, tolerance in RECOVERED[operator].items():
        assert fit.parameters[name] == pytest.approx(truth[name], rel=tolerance), name
    assert fit.held_out.median < 1.5 * NOISE
    assert fit.held_out.p90 < 4.0 * NOISE
    assert abs(fit.held_out.bias) < 0.5 * NOISE
    assert 0.75 <= fit.held_out.coverage <= 1.0
    assert fit.source.text.endswith("measured by `fleetcast calibrate measure`")


def test_a_link_comes_back_under_the_catalog_s_name(fitted) -> None:
    fit = fitted[1]["links", "nvlink3-switch"].find("nccl")
    assert fit is not None
    assert fit.parameters["wire_fraction"] == pytest.approx(link_truth(DEVICE)["wire_fraction"], rel=0.05)
    assert fit.held_out.median < 2.0 * NOISE


def test_processes_do_not_change_a_byte(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "l40s", ("elementwise", "attention_decode"))
    written = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        fit_all(FitRequest(measurements=(folder,), out=out, date=DATE, jobs=jobs))
        written.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.toml"))})
    assert len(written[0]) == 2
    assert written[0] == written[1]


def test_without_published_tables_other_formats_stay(fitted, tmp_path: Path) -> None:
    out = tmp_path / "calibrated"
    folder = write_folder(tmp_path / "m", DEVICE, ("elementwise",))
    fit_all(request(folder, out))
    path = out / DEVICE / "elementwise.toml"
    path.write_text(path.read_text().replace('key = "bf16"', 'key = "other"'))
    fit_all(request(folder, out))
    assert [fit.key for fit in read_fit_files(out)[DEVICE, "elementwise"].fit] == ["bf16", "other"]


def test_relatives_are_judged_where_every_device_has_timings(tmp_path: Path) -> None:
    out = tmp_path / "calibrated"
    folders = tuple(write_folder(tmp_path / name, name, ("elementwise",)) for name in ("a40", "a6000", "l40s"))
    write_spreads({"elementwise": {"any": 9.0}, "gemm": {"any": 0.3}}, out)
    fit_all(FitRequest(measurements=folders, out=out, date=DATE))
    spreads = read_spreads(out)
    # devices that obey one formula with the same shares price each other to the noise
    assert 0.5 * NOISE < spreads["elementwise"]["family"] < 2.0 * NOISE
    assert 0.5 * NOISE < spreads["elementwise"]["any"] < 2.0 * NOISE
    assert "gemm" not in spreads  # nobody there was timed for it
    said: list[str] = []
    fit_all(FitRequest(measurements=folders[:1], out=out, date=DATE), said.append)
    assert read_spreads(out) == spreads
    assert any("elementwise stays as it was" in line for line in said)


def test_too_few_points_of_our_own_are_said_and_published_ones_not_hidden(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "l40s", ("gemm",), points=20)
    write_folder(folder, "l40s", ("elementwise",))
    said: list[str] = []
    files = fit_all(request(folder, tmp_path / "out"), said.append)
    assert [file.operator for file in files] == ["elementwise"]
    assert "l40s gemm bf16/bf16: 20 points of our own are too few for a fit (60); there is no fit of it" in said


@pytest.mark.parametrize(
    ("devices", "words"),
    [(("a100-80gb-sxm",), "device = 'l40s' where 'a100-80gb-sxm' was expected"), (("l40x",), "did you mean 'l40s'")],
)
def test_a_folder_of_another_device_is_refused(tmp_path: Path, devices: tuple[str, ...], words: str) -> None:
    folder = write_folder(tmp_path / "m", "l40s", ("elementwise",))
    with pytest.raises(FleetcastError, match=words):
        fit_all(request(folder, tmp_path / "out", devices=devices))
    assert not (tmp_path / "out").exists()


def test_a_device_without_timings_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "l40s", ("elementwise",))
    with pytest.raises(FleetcastError, match="--device a40: there are no timings of it"):
        fit_all(request(folder, tmp_path / "out", devices=("l40s", "a40")))


def test_a_device_outside_the_catalog_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "l40s", ("elementwise",))
    path = folder / "device.toml"
    path.write_text(path.read_text().replace("l40s", "Some CPU"))
    with pytest.raises(FleetcastError, match="'Some CPU': is no GPU of the catalog"):
        read_own((folder,))


def test_a_link_nobody_knows_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", DEVICE, ("collective",))
    path = folder / "collective.csv"
    path.write_text(path.read_text().replace("scale-up", "a cable"))
    with pytest.raises(FleetcastError, match="link = 'a cable' is no link of the catalog"):
        read_own((folder,))


def test_folders_of_one_device_make_one_table(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "1", "l40s", ("elementwise",), points=50)
    second = write_folder(tmp_path / "2", "l40s", ("elementwise", "gemm"), points=30)
    own = read_own((first, second))
    assert {kind: len(table) for kind, table in own["l40s"].items()} == {"elementwise": 80, "gemm": 30}
