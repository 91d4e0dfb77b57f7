import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.errors import FleetcastError
from sim.scenario import ModelSection, Scenario, ServingSection, SloSection, WorkloadSection
from sim.scenario_file import (
    apply_override,
    load_any,
    load_scenario,
    override_value,
    parse_any,
    parse_scenario,
    read_toml,
    relocated,
    scenario_toml,
    toml_tables,
    toml_value,
)
from sim.section import PolicyChoice

BASE = {"model": {"config": "llama-3.1-8b"}, "cluster": {"node": "dgx-h100"}, "workload": {"trace": "sharegpt"}}
texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
values = st.recursive(
    st.one_of(st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
positive = st.floats(1e-6, 1e6)
names = texts.filter(lambda text: text.isprintable() and text != "")
scenarios = st.builds(
    Scenario,
    name=names,
    seed=st.integers(0, 2**70),
    model=st.builds(ModelSection, config=st.just("llama-3.1-8b"), weight_dtype=st.sampled_from(["bf16", "fp8"])),
    cluster=st.just(BASE["cluster"]),
    serving=st.builds(
        ServingSection,
        max_num_seqs=st.integers(1, 64),
        max_num_batched_tokens=st.integers(64, 10**9),
        gpu_memory_utilization=st.floats(0.01, 1.0),
        max_model_len=st.none() | st.integers(1, 10**6),
        scheduler=st.dictionaries(texts.filter(lambda key: key != "name"), values, max_size=3).map(
            lambda keys: PolicyChoice(name="chunked_prefill", **keys)
        ),
    ),
    workload=st.builds(
        WorkloadSection,
        generator=st.dictionaries(texts, values, max_size=3),
        num_requests=st.integers(1, 100),
        rate_scale=positive,
    ),
    slo=st.builds(SloSection, ttft_s=st.none() | positive, tbt_s=st.none() | positive),
)


@settings(max_examples=60, deadline=None)
@given(scenarios)
def test_a_scenario_written_and_read_is_the_same(scenario: Scenario) -> None:
    tables = tomllib.loads(scenario_toml(scenario))
    assert parse_scenario(tables, "x", Path()) == scenario


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml")))
def test_shipped_scenarios_load_and_survive_writing(path: Path) -> None:
    scenario = load_any(path)
    assert parse_any(tomllib.loads(scenario_toml(scenario)), "x", Path()) == scenario


def test_relative_paths_start_at_the_scenario_s_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.csv").write_text("")
    (tmp_path / "sub" / "s.toml").write_text(
        '[model]\nconfig = "../m/config.json"\n[cluster]\nnode = "./n.toml"\n[workload]\ntrace = "t.csv"\n'
    )
    monkeypatch.chdir(tmp_path)
    scenario = load_scenario("sub/s.toml")
    assert scenario.workload.trace == "sub/t.csv"
    assert Path(scenario.model.config) == Path("m/config.json")
    assert scenario.cluster.node == "sub/n.toml"


def test_a_written_scenario_names_its_files_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    tables = {**BASE, "workload": {"trace": "t.csv"}}
    scenario = parse_scenario(tables, "x", Path())
    written = relocated(scenario, tmp_path / "runs" / "a")
    assert written.workload.trace == "../../t.csv"
    back = parse_scenario(tomllib.loads(scenario_toml(written)), "x", Path("runs/a"))
    assert back.workload.trace == "./t.csv"
    assert relocated(back, tmp_path / "runs" / "a") == written


def test_a_path_into_the_same_folder_stays_a_path(tmp_path: Path) -> None:
    tables = {**BASE, "model": {"config": "./llama"}}
    assert parse_scenario(tables, "x", Path()).model.config == "./llama"
    assert parse_scenario(tables, "x", tmp_path).model.config == str(tmp_path / "llama")


def test_a_catalog_name_stays_a_name_and_an_absolute_path_a_path(tmp_path: Path) -> None:
    tables = {**BASE, "workload": {"trace": "/data/t.csv"}}
    scenario = parse_scenario(tables, "x", tmp_path)
    assert scenario.model.config == "llama-3.1-8b"
    assert scenario.workload.trace == "/data/t.csv"


@pytest.mark.parametrize(
    ("override", "value"),
    [("max_num_seqs=7", 7), ("max_num_seqs = 7", 7), ("swap_space_gib=1e1", 10.0)],
)
def test_overrides_are_toml_values(override: str, value: float) -> None:
    tables = {key: dict(table) for key, table in BASE.items()}
    serving = parse_scenario(tables, "x", Path(), (f"serving.{override}",)).serving
    key = override.partition("=")[0].strip()
    assert getattr(serving, key) == value


def test_a_bare_word_is_a_string_and_makes_its_table() -> None:
    tables = {key: dict(table) for key, table in BASE.items()}
    assert parse_scenario(tables, "x", Path(), ("serving.scheduler.name=orca",)).serving.scheduler.name == "orca"


def test_the_message_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[model]\nconfig = "x"\nfoo = 1\n')
    with pytest.raises(FleetcastError, match=r"s\.toml: unknown key 'model\.foo'"):
        load_scenario(tmp_path / "s.toml")
    with pytest.raises(FleetcastError, match="is a folder"):
        read_toml(tmp_path)


LONG_KEY = ".".join("k" * 17)


@pytest.mark.parametrize(
    "document",
    [f"{LONG_KEY} = 1", f"[{LONG_KEY}]", f"[[{LONG_KEY}]]", f"x = {{ {LONG_KEY} = 1 }}", LONG_KEY.replace(".", " .\t"),
     LONG_KEY.replace("k", "'k.k'"), LONG_KEY.replace("k", '"k\\""'), ".".join("k" * 100_000)],
)  # fmt: skip
def test_a_key_of_many_parts_is_refused_before_it_is_parsed(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("parsed"))
    with pytest.raises(FleetcastError, match="t: has a key of more than 16 parts"):
        toml_tables(document.encode(), "t")
    assert override_value(f"{{{document}}}") == f"{{{document}}}"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab.#'\"\\ []{}=")).map(toml_value) | st.just(f"'''\n'{LONG_KEY} = 1\n'''''"),
             max_size=4),
    st.text(st.sampled_from("ab.#'\"\\ ")),
    st.integers(1, 20),
)  # fmt: skip
def test_strings_and_comments_hide_no_key_and_are_none(strings: list[str], comment: str, parts: int) -> None:
    document = f"x = [{', '.join(strings)}] # {comment}\n{'.'.join('c' * parts)} = 1 # {comment}\n"
    if parts > 16:
        with pytest.raises(FleetcastError, match="more than 16 parts"):
            toml_tables(document.encode(), "t")
    else:
        found = toml_tables(document.encode(), "t")
        assert found["x"] == [tomllib.loads(f"x = {text}")["x"] for text in strings]


def test_numbers_in_a_row_are_no_key() -> None:
    assert toml_tables(f"x = [{', '.join(['1.5'] * 50)}]".encode(), "t") == {"x": [1.5] * 50}
    assert override_value(".".join("word" * 20)) == ".".join("word" * 20)


def test_an_override_without_a_value_takes_one_away() -> None:
    tables = {key: dict(table) for key, table in BASE.items()} | {"slo": {"ttft_s": 1.0}}
    assert parse_scenario(tables, "x", Path(), ("slo.ttft_s=",)).slo.ttft_s is None
    with pytest.raises(FleetcastError, match=r"unknown key 'slo\.ttft'"):
        parse_scenario(tables, "x", Path(), ("slo.ttft=",))
    with pytest.raises(FleetcastError, match="x: seed = "):
        parse_scenario({key: dict(table) for key, table in BASE.items()}, "x", Path(), ("seed=",))
    apply_override(tables, "slo.tbt_s=2")
    assert tables["slo"]["tbt_s"] == 2
