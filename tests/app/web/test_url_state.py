from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.web.examples import DEFAULT, example_names
from app.web.store import Store
from app.web.url_state import differences, flat, full_example, opened, query
from hardware_models.errors import FleetcastError

STORE = Store(Path("/nowhere"))


@pytest.mark.parametrize("name", example_names())
def test_an_example_is_its_name_alone(name: str) -> None:
    assert query(name, full_example(name, STORE), STORE) == {"base": name}


def test_a_url_reads_like_the_command_line() -> None:
    base, tables = opened({"base": DEFAULT, "serving.max_num_seqs": "64", "serving.scheduler.name": "orca"}, STORE)
    assert (base, tables["serving"]["max_num_seqs"]) == (DEFAULT, 64)
    assert query(base, tables, STORE) == {
        "base": DEFAULT,
        "serving.max_num_seqs": "64",
        "serving.scheduler.name": "orca",
    }


def test_a_key_without_a_value_is_absent() -> None:
    base, tables = opened({"workload.duration_s": "", "slo.ttft_s": "", "slo.tbt_s": ""}, STORE)
    assert "duration_s" not in tables["workload"]
    assert "ttft_s" not in tables["slo"]
    assert query(base, tables, STORE)["workload.duration_s"] == ""


def test_a_generator_travels_key_by_key() -> None:
    parameters = {
        "workload.trace": "",
        "workload.generator.name": "synthetic",
        "workload.generator.arrivals.name": "poisson",
        "workload.generator.arrivals.request_rate": "4.5",
        "workload.generator.prompt_tokens": "512",
        "workload.generator.output_tokens": '{ name = "fixed", tokens = 64 }',
    }
    base, tables = opened(parameters, STORE)
    again = opened(query(base, tables, STORE), STORE)
    assert again == (base, tables)
    assert tables["workload"]["generator"]["output_tokens"] == {"name": "fixed", "tokens": 64}


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=40),
    seed=st.integers(0, 2**70),
    rate=st.floats(1e-6, 1e9),
)
def test_every_value_comes_back_as_it_was(name: str, seed: int, rate: float) -> None:
    if not name.isprintable():
        return
    tables = full_example(DEFAULT, STORE)
    tables |= {"name": name, "seed": seed, "workload": {**tables["workload"], "rate_scale": rate}}
    assert opened(query(DEFAULT, tables, STORE), STORE) == (DEFAULT, tables)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"serving.max_num_seq": "64"}, "unknown key 'serving.max_num_seq'; did you mean 'serving.max_num_seqs'"),
        ({"base": "chat"}, "base: unknown name 'chat'"),
        ({"x": ""}, "'x' is given without a value"),
        ({"serving.max_num_seqs.x": "3"}, "'max_num_seqs' is a value, not a table"),
        ({"serving.max_num_seqs": "many"}, "serving.max_num_seqs = 'many': give a whole number"),
        ({"serving..x": "1"}, "write it as key=value"),
        ({"model.config": "/etc/passwd"}, "the app reads no files but its own"),
        ({f"k{number}": "1" for number in range(300)}, "has 300 parameters"),
        ({"workload.generator": "[" * 5000}, "give a table"),
        ({"seed": "9" * 5000}, "give a whole number"),
    ],
)
def test_a_bad_parameter_gets_a_sentence(parameters: dict[str, str], sentence: str) -> None:
    with pytest.raises(FleetcastError, match=sentence.replace("(", r"\(")):
        opened(parameters, STORE)


def test_tables_are_told_apart_key_by_key() -> None:
    before, after = {"a": {"b": 1, "c": 2}, "d": "x"}, {"a": {"b": 1, "e": "7"}, "d": "y z"}
    assert differences(before, after) == {"a.e": '"7"', "d": "y z", "a.c": ""}
    assert flat({"a": {}, "b": {"c": {"d": 1}}}) == {"a": {}, "b.c.d": 1}
