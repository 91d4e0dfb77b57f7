"""`fleetcast calibrate fit` and `report` as a user calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.fit.elementwise import elementwise_timings, price_passes
from calibration.fit.files import read_fit_files
from calibration.measurement import write_device, write_rows
from calibration.measurement_kinds import KINDS
from calibration.report.errors import rank_correlation
from calibration.report.markdown import FITS, POINTS, block_in, fingerprint, fits_block
from hardware_models import catalog
from hardware_models.fits import FOLDER
from hardware_models.kernels.elementwise import START

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
HEAD = "name,rows,width,reads,writes,dtype,seconds,spread_s,repeats"
ON_CPU = ("--device", "cpu", "--num-gpu-blocks", "64")
NAMES = ("measure", "fit", "report", "serve", "compare-served")
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Norms of an L40S that obeys the formula but for two per cent."""
    import pandas as pd

    sizes = pd.MultiIndex.from_product([[2**i for i in range(17)], [1024, 2048, 4096, 8192]], names=["rows", "width"])
    table = sizes.to_frame(index=False).assign(name="rmsnorm", reads=1, writes=1, dtype="bf16", spread_s=0.0, repeats=9)
    exact = price_passes(catalog.gpu("l40s"), START, elementwise_timings(table.assign(seconds=1.0))).seconds
    table = table.assign(seconds=exact * np.exp(0.02 * np.random.default_rng(1).standard_normal(len(table))))
    names = HEAD.split(",")
    path = tmp_path / "measured"
    write_device(path, {"device": "l40s", "date": "2026-01-02"})
    write_rows(path / "elementwise.csv", KINDS["elementwise"], table[names].to_dict("records"))
    return path


def test_all_that_calibrates_is_one_group(command: Command) -> None:
    code, said, _ = command("calibrate", "-h")
    assert code == 0
    names = [line.split()[0] for line in said.partition("Commands:")[2].splitlines() if line.strip()]
    assert [name for name in names if name in NAMES] == list(NAMES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("measure",), "--out is missing"),
        (("compare-served", "nowhere"), "nowhere"),
        (("serve", "no-such-model", "azure-conv-2023", "--out", "OUT", *ON_CPU), "no-such-model"),
        (("report", "--data", "nowhere"), "--data nowhere: is no folder"),
    ],
)
def test_every_command_of_it_says_a_mistake_in_one_sentence(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    given = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    code, said, error = command("calibrate", *given)
    assert (code, said) == (2, "")
    assert error.startswith("fleetcast: ")
    assert words in error
    assert len(error.splitlines()) == 1


def test_one_command_from_measurements_to_parameters(command: Command, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated"
    arguments = ("calibrate", "fit", "--measurements", folder, "--out", out, "--date", "2026-01-02", "--jobs", 1)
    code, said, progress = command(*arguments)
    assert code == 0, progress
    assert said.splitlines()[0].split()[:3] == ["device", "kernel", "format"]
    assert said.splitlines()[1].split()[:3] == ["l40s", "elementwise", "bf16"]
    assert said.splitlines()[-1] == f"1 fits in 1 files of {out}"
    assert "s] l40s elementwise bf16: median error" in progress
    first = (out / "l40s" / "elementwise.toml").read_bytes()
    assert b"date = 2026-01-02" in first
    assert command(*arguments)[0] == 0
    assert (out / "l40s" / "elementwise.toml").read_bytes() == first
    code, said, _ = command("calibrate", "report", "--calibration", out)
    assert code == 0
    assert said.splitlines()[1].split()[:3] == ["l40s", "elementwise", "bf16"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "elementwise.csv: is empty"),
        (f"{HEAD}\n", "elementwise.csv: has a header and no row"),
        (f"{HEAD}\nrmsnorm,16,4096,1,1,bf16,2e-6,0\n", "elementwise.csv, row 2: has 8 cells"),
        (f"{HEAD}\nrmsnorm,16,4096,1,1,bf16,fast,0,9\n", "row 2, column seconds = 'fast': give a number"),
        (f"{HEAD}\nrmsnorm,16,4096,1,1,bf16,2e-6,0,9\nrmsnorm,32,4096,1,1,bf16,2.1,0,9\n", "row 3, column seconds"),
        (f"{HEAD.replace('seconds', 'ms')}\n", "row 1: unknown column 'ms'"),
    ],
)
def test_bad_files_are_named_with_their_row(
    command: Command, folder: Path, tmp_path: Path, text: str, words: str
) -> None:
    (folder / "elementwise.csv").write_text(text)
    code, said, error = command("calibrate", "fit", "--measurements", folder, "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--data or --measurements is missing"),
        (("--data", "nowhere"), "--data nowhere: is no folder"),
        (("--measurements", "FOLDER", "--device", "a40"), "device = 'l40s' where 'a40' was expected"),
        (("--measurements", "FOLDER", "--date", "tomorrow"), "--date"),
    ],
)
def test_mistakes_are_one_sentence_and_code_2(
    command: Command, folder: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    given = [str(folder) if word == "FOLDER" else word for word in arguments]
    code, _, error = command("calibrate", "fit", "--out", tmp_path / "out", *given)
    assert code == 2
    assert words in error


def test_an_empty_calibration_is_refused(command: Command, tmp_path: Path) -> None:
    code, _, error = command("calibrate", "report", "--calibration", tmp_path)
    assert code == 2
    assert "holds no calibration" in error


def test_tables_stand_between_their_marks(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    assert command("calibrate", "report", "--markdown", path)[0] == 0
    written = path.read_text()
    assert block_in(written, FITS) == fits_block(read_fit_files(FOLDER))
    path.write_text(f"# Mine\n\n{written}\nThe end.\n")
    assert command("calibrate", "report", "--markdown", path)[0] == 0
    assert path.read_text() == f"# Mine\n\n{written}\nThe end.\n"
    path.write_text("# Without marks\n")
    code, _, error = command("calibrate", "report", "--markdown", path)
    assert code == 2
    assert "lacks the lines" in error
    assert path.read_text() == "# Without marks\n"


def test_the_shipped_tables_are_those_of_the_shipped_fits() -> None:
    """After a new fit: `fleetcast calibrate report --data DIR --markdown docs/fidelity.md`."""
    text, files = (ROOT / "docs" / "fidelity.md").read_text(), read_fit_files(FOLDER)
    assert block_in(text, FITS) == fits_block(files)
    assert f"`{fingerprint(files)}`" in block_in(text, POINTS)


def test_the_page_has_a_section_a_device_and_needs_no_network(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "fidelity.html"
    assert command("calibrate", "report", "--out", path)[0] == 0
    page = path.read_text()
    for device in {device for device, _ in read_fit_files(FOLDER)}:
        assert f'<h2 id="{device}">' in page
    assert 'src="http' not in page


@pytest.mark.skipif(not SHARED.is_dir(), reason="published tables are not part of the project")
def test_published_points_are_predicted_anew(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "llmservingsim").mkdir(parents=True)
    for pattern in ("RTX4090*", "H100_meta-llama_Llama-3.1-8B_tp1_layers*"):
        for path in (SHARED / "llmservingsim").glob(pattern):
            (data / "llmservingsim" / path.name).symlink_to(path)
    page = tmp_path / "fidelity.html"
    code, said, progress = command("calibrate", "report", "--data", data, "--out", page)
    assert code == 0
    held_out = read_fit_files(FOLDER)["rtx-4090", "gemm"].fit[0].held_out
    line = next(line for line in said.splitlines() if line.startswith("rtx-4090") and " gemm " in line)
    assert line.split()[4:7] == [f"{held_out.points:,}", f"{held_out.median:.1%}", f"{held_out.p90:.1%}"]
    assert "device held out, priced from its family" in said
    other = said.partition("another benchmark of this device")[2].splitlines()[2].split()
    assert other[:4] == ["h100-sxm", "gemm", "bf16/bf16", "llmservingsim/layers"]
    assert "rtx-4090 gemm bf16/bf16 llmservingsim" in progress
    assert page.read_text().count('class="figure"') == 8 + 1


def test_rank_correlation_is_of_sweeps_not_of_everything() -> None:
    """Two sweeps over m, each predicted in reverse; over all points large n would still look well ordered."""
    m, n = (size.ravel().astype(float) for size in np.meshgrid([1, 2, 3, 4, 5], [1, 1000]))
    measured = n * 10 + m
    assert rank_correlation({"m": m, "n": n}, measured, measured) == pytest.approx(1.0)
    assert rank_correlation({"m": m, "n": n}, measured, n * 10 - m) == pytest.approx(-1.0)
    assert rank_correlation({"m": m, "n": n}, measured, n) == 0.0
    assert np.isnan(rank_correlation({"m": m[:4], "n": n[:4]}, measured[:4], measured[:4]))
