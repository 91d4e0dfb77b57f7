import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Fleetcast = Callable[..., int]
COMMAND = [sys.executable, "-c", "from app.cli import main; main()"]
LISTENING = (  # to Ctrl-C, which a shell's background jobs ignore
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from app.cli import main; main()"
)
ROOT = Path(__file__).parents[2]

SETTINGS = [  # override, what the sentence must name
    ("serving.max_num_seq=3", "did you mean 'serving.max_num_seqs'?"),
    ("servings.max_num_seqs=3", "unknown key 'servings'; did you mean 'serving'?"),
    ("replicas=3", "did you mean 'serving.replicas'?"),
    ("serving.scheduler.name=chunked_prefil", "did you mean 'chunked_prefill'?"),
    ("serving.router.name=least_outstandin", "did you mean 'least_outstanding'?"),
    ("serving.scheduler=chunked_prefill", "serving.scheduler = 'chunked_prefill': give a table, { name = \"...\" }"),
    ('serving.scheduler={name="chunked_prefill", polic="fcfs"}', "did you mean 'policy'?"),
    ('serving.scheduler={nme="chunked_prefill"}', "did you mean 'serving.scheduler.name'?"),
    ('serving.scheduler={name="chunked_prefill", policy="lifo"}', "serving.scheduler.policy = 'lifo'"),
    ("serving.scheduler={}", "'serving.scheduler.name' is missing"),
    ("serving.max_num_seqs=many", "serving.max_num_seqs = 'many': give a whole number"),
    ('serving.max_num_seqs="64"', "serving.max_num_seqs = '64': give a whole number"),
    ("serving.max_num_seqs=true", "serving.max_num_seqs = true: give a whole number"),
    ("serving.max_num_seqs=64.5", "serving.max_num_seqs = 64.5: give a whole number"),
    ("serving.max_num_seqs=", "serving.max_num_seqs = '': give a whole number"),
    ("workload.rate_scale=true", "workload.rate_scale = true: give a number"),
    ("workload.rate_scale=-1", "workload.rate_scale = -1: give at least"),
    ("workload.rate_scale=nan", "workload.rate_scale = nan: give a finite number"),
    ("workload.rate_scale=1e300", "workload.rate_scale = 1e+300: give at most"),
    ("workload.duration_s=1e18", "workload.duration_s = 1e+18: give at most"),
    ("workload.trace=azure-conv-2032", "workload.trace: unknown name 'azure-conv-2032'; did you mean"),
    ("workload.trace=absent.csv", "absent.csv: no such file"),
    ("workload.trace=./", "is a directory"),
    ('workload.trace=""', "workload.trace = ''"),
    ("workload.generator=3", 'workload.generator = 3: give a table, { name = "..." }'),
    ('workload.generator={name="synthetic"}', "workload: give exactly one of 'trace' and 'generator'"),
    ("slo.ttft_s=0", "slo.ttft_s = 0: give a number above 0"),
    ("slo.percentile=101", "slo.percentile = 101: give at most 100"),
    ("model=5", "model = 5: give a section, [model]"),
    ("model.config=llama-3.1-8", "model.config: unknown name 'llama-3.1-8'; did you mean"),
    ("model.config=./", "is a folder"),
    ("model.config=llama-3.1-70b", "does not fit"),
    ("model.weight_dtype=fp9", "model.weight_dtype: unknown name 'fp9'; did you mean 'fp8'?"),
    ("cluster.node=dgx-h1000", "cluster.node: unknown name 'dgx-h1000'; did you mean 'dgx-h100'?"),
    ("cluster.network=ethernet", "cluster.network: unknown name 'ethernet'; did you mean 'ethernet-25g'?"),
    ("serving.engine=vllm-0.7", "serving.engine: unknown name 'vllm-0.7'; did you mean"),
    ("serving.replicas=9", "serving.replicas = 9"),
    ("serving.pipeline_parallel_size=7000000", "serving.pipeline_parallel_size = 7000000"),
    ("serving.tensor_parallel_size=3", "serving.tensor_parallel_size = 3"),
    ("serving.max_num_seqs=1000000000000", "serving.max_num_seqs = 1000000000000"),
    ("serving.max_num_batched_tokens=1000000000000", "does not fit"),
    ("serving.block_size=1000000000", "serving.block_size = 1000000000: give at most 1,048,576"),
    ("serving.swap_space_gib=1e300", "serving.swap_space_gib = 1e+300: give at most"),
    ("serving.gpu_memory_utilization=1.1", "serving.gpu_memory_utilization = 1.1: give at most 1"),
    ("name=2020-01-01", "give text in quotes"),
    ('name="two\\nlines"', "give one line of printable text"),
    ("key", "--set key: write it as key=value"),
    ("=3", "--set =3: write it as key=value"),
    ("serving..max_num_seqs=3", "write it as key=value"),
    ("name.x=3", "--set name.x=3: 'name' is a value, not a table"),
]
BASE = b'[model]\nconfig = "llama-3.1-8b"\n[cluster]\nnode = "dgx-h100"\n[workload]\ntrace = "sharegpt"\n'
FILES = [  # content of x.toml, what the sentence must name
    (b"", "section [model] is missing; add it with its key 'config'"),
    (b"a = = 3", "is not valid TOML: Invalid value (at line 1, column 5)"),
    (b"a = 1" + b"0" * 5000, "is not valid TOML"),
    (b"a = " + b"[" * 3000, "is not valid TOML: nested too deeply"),
    (b'name = "\xe9"', "is not UTF-8 text"),
    (b'[model]\nconfg = "llama-3.1-8b"', "unknown key 'model.confg'; did you mean 'model.config'?"),
    (b'[model]\nconfig = "llama-3.1-8b"', "section [cluster] is missing; add it with its key 'node'"),
    (BASE + b"[[serving]]\nreplicas = 1", "give a section, [serving]"),
]
TRACES = [
    ("", "is empty"),
    ("arrival_s,prompt_tokens,output_tokens\n", "holds no requests"),
    ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,abc,2\n", "line 3: prompt_tokens is 'abc'"),
    ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n-1,2,2\n", "line 3: arrival_s is '-1'"),
    ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1e300,2,2\n", "the last request arrives at 1e+300 s"),
]
ARGUMENTS = [
    (["run"], "Missing argument 'SCENARIO'"),
    (["run", "absent.toml"], "absent.toml: no such file"),
    (["run", "."], ".: is a folder"),
    (["run", "a" * 5000], "cannot be read"),
    (["run", "small.toml", "--ot", "x"], "No such option '--ot'"),
    (["run", "small.toml", "--out"], "'--out' requires an argument"),
    (["rum"], "No such command 'rum'. Did you mean 'run'?"),
    (["run", "small.toml", "--out", "three.csv"], "--out three.csv: is a file"),
    (["run", "small.toml", "--out", "three.csv/x"], "three.csv is a file"),
    (["run", "small.toml", "--out", "."], "--out .: is the folder you are in"),
    (["run", "small.toml", "--out", "other"], "--out other: holds 'thesis.doc'"),
    (["run", "small.toml", "--out", "x" * 300], "File name too long"),
    (["run", "small.toml", "--out", "/proc/x"], "--out /proc/x"),
    (["run", "small.toml", "--trace-out", "absent/x.json"], "--trace-out absent/x.json: there is no folder absent"),
    (["run", "small.toml", "--trace-out", "other"], "--trace-out other: is a folder"),
    (["run", "small.toml", "--trace-out", "small.toml"], "--trace-out small.toml: is a file this run reads"),
    (["run", "small.toml", "--vllm-json", "three.csv"], "--vllm-json three.csv: is a file this run reads"),
    (["run", "small.toml", "--vllm-json", "x", "--trace-out", "x"], "is where --trace-out goes too"),
    (["compare"], "Missing argument 'RUNS...'"),
    (["compare", "other"], "give at least two run folders"),
    (["compare", "other", "other"], "other/summary.json: is not valid JSON"),
    (["compare", "three.csv", "other"], "three.csv: is no run folder"),
    (["catalog", "gpuz"], "did you mean 'gpus'?"),
    (["catalog", "gpus", "h100-sx"], "did you mean 'h100-sxm'?"),
    (["catalog", "studies", "../pyproject"], "unknown name '../pyproject'"),
]


def mistakes() -> Iterator[tuple[list[str], str, dict[str, bytes]]]:
    for setting, sentence in SETTINGS:
        nodes = ["--set", "cluster.nodes=1000000"] if "pipeline" in setting else []
        yield ["run", "small.toml", "--out", "result", *nodes, "--set", setting], sentence, {}
    for content, sentence in FILES:
        yield ["run", "x.toml", "--out", "result"], sentence, {"x.toml": content}
    for text, sentence in TRACES:
        setting = ["--set", "workload.trace=x.csv"]
        yield ["run", "small.toml", "--out", "result", *setting], sentence, {"x.csv": text.encode()}
    for arguments, sentence in ARGUMENTS:
        yield arguments, sentence, {}
    config = json.dumps({"model_type": "foo", "hidden_size": 4}).encode()
    setting = ["--set", "model.config=config.json"]
    yield ["run", "small.toml", "--out", "result", *setting], "model_type = 'foo'", {"config.json": config}


@pytest.mark.parametrize(("arguments", "sentence", "files"), list(mistakes()))
def test_a_mistake_is_one_sentence_and_exit_code_2_and_nothing_is_written(
    folder: Path,
    fleetcast: Fleetcast,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
    files: dict[str, bytes],
) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "other").mkdir()
    (folder / "other" / "summary.json").write_text("x")
    (folder / "other" / "thesis.doc").write_text("x")
    before = {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    assert fleetcast(*arguments) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert err.startswith("fleetcast")
    assert out == ""
    assert {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")} == before


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"\r\n"])
def test_a_byte_order_mark_or_windows_line_ends_are_read(folder: Path, fleetcast: Fleetcast, content: bytes) -> None:
    text = (folder / "small.toml").read_bytes()
    (folder / "x.toml").write_bytes(content + text if len(content) == 3 else text.replace(b"\n", content))
    assert fleetcast("run", "x.toml") == 0


def test_nested_keys_are_set(folder: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleetcast("run", "small.toml", "--set", "serving.scheduler.name=prefill_first") == 0
    assert "prefill_first" in capsys.readouterr().out


EXTREMES = [
    [],
    ["--exact"],
    ["--set", "serving.max_model_len=5"],  # rejects every request
    ["--set", "workload.num_requests=1", "--set", "workload.trace=one.csv"],
    ["--set", "serving.gpu_memory_utilization=1.0"],
    ["--set", "serving.replicas=3"],
    ["--set", "serving.tensor_parallel_size=2", "--set", "serving.pipeline_parallel_size=2"],
]


@pytest.mark.parametrize("extra", EXTREMES)
def test_every_number_of_the_json_is_finite_or_null(
    folder: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    (folder / "one.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,100,1\n")
    files = ["--out", "deep/result", "--trace-out", "t.json.gz", "--vllm-json", "v.json"]
    assert fleetcast("run", "small.toml", "--json", *files, *extra) == 0
    printed = capsys.readouterr().out

    def strict(constant: str) -> None:
        raise AssertionError(constant)

    summary = json.loads(printed, parse_constant=strict)
    assert summary["requests"] == summary["completed"] + summary["rejected"]
    assert json.loads((folder / "deep/result/summary.json").read_text(), parse_constant=strict) == summary
    json.loads((folder / "v.json").read_text(), parse_constant=strict)
    json.loads(gzip.decompress((folder / "t.json.gz").read_bytes()), parse_constant=strict)
    assert all(math.isfinite(value) for value in summary["bound_by"].values() if value is not None)


def test_a_run_may_replace_an_earlier_one_and_gives_the_same_bytes(folder: Path, fleetcast: Fleetcast) -> None:
    arguments = ["run", "small.toml", "--out", "result", "--trace-out", "result/t.json.gz"]
    assert fleetcast(*arguments) == 0
    first = {path.name: path.read_bytes() for path in (folder / "result").iterdir()}
    assert fleetcast(*arguments) == 0
    assert {path.name: path.read_bytes() for path in (folder / "result").iterdir()} == first
    assert sorted(first) == sorted(
        ["scenario.toml", "summary.json", "requests.parquet", "steps.parquet", "report.html", "t.json.gz"]
    )
    assert not list(folder.rglob(".*"))


def test_the_written_scenario_runs_again(folder: Path, fleetcast: Fleetcast) -> None:
    assert fleetcast("run", "small.toml", "--out", "a") == 0
    assert fleetcast("run", "a/scenario.toml", "--out", "b") == 0
    assert (folder / "a/requests.parquet").read_bytes() == (folder / "b/requests.parquet").read_bytes()


def test_an_interrupted_run_says_so_and_leaves_nothing(folder: Path) -> None:
    (folder / "long.csv").write_text(
        "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i / 50},500,100\n" for i in range(50_000))
    )
    settings = ["--set", "workload.trace=long.csv", "--out", "runs/x", "--trace-out", "t.json"]
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, "run", "small.toml", "--exact", *settings],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "fleetcast: interrupted; nothing was written\n"
    assert out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["long.csv", "small.toml", "three.csv"]


def test_a_reader_that_has_had_enough_is_no_error(folder: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "catalog", "gpus", "h100-sxm"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=30)
    process.stderr.close()
    assert err == ""


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"], ["catalog", "-h"], ["compare", "--help"]])
def test_help_is_printed(fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert fleetcast(*arguments) == 0
    assert "Usage: fleetcast" in capsys.readouterr().out


def test_the_version_is_printed(fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]) -> None:
    assert fleetcast("--version") == 0
    assert "fleetcast" in capsys.readouterr().out


def test_the_report_names_the_slo_the_reason_and_the_next_step(
    folder: Path, fleetcast: Fleetcast, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleetcast("run", "small.toml") == 0
    out = capsys.readouterr().out
    assert "3 requests from three.csv" in out
    assert "SLO p99 TTFT <= 500 ms: met" in out
    assert "time bound by: compute" in out
    assert "--set serving.scheduler.name=prefill_first" in out
