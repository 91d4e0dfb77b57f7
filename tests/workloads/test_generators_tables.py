"""Generators join arrivals and lengths into tables, reproducibly and without shifting one another's draws."""

import itertools

import numpy as np
import pytest

from hardware_models.errors import FleetcastError
from workloads.generators import make_generator

POISSON = {"name": "poisson", "request_rate": 10}
BASE = {"name": "synthetic", "arrivals": POISSON, "prompt_tokens": {"name": "lognormal", "p50": 500, "p99": 8000}}
SESSIONS = {
    "name": "sessions",
    "arrivals": {"name": "poisson", "request_rate": 1},
    "turns": {"name": "uniform", "min_tokens": 1, "max_tokens": 6},
    "prompt_tokens": {"name": "lognormal", "mean": 60, "std": 40},
    "output_tokens": 50,
    "system_prompt_tokens": 100,
    "system_prompts": 2,
    "max_context_tokens": 500,
}


def client(name, rate=5.0):
    return {"name": name, "arrivals": POISSON | {"request_rate": rate}, "prompt_tokens": 100, "output_tokens": 9}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    made = [make_generator(BASE | {"output_tokens": 30}).generate(seed, duration_s=50) for seed in (1, 1, 2)]
    assert made[0].arrival_s.tobytes() == made[1].arrival_s.tobytes()
    assert made[0].prompt_tokens.tobytes() == made[1].prompt_tokens.tobytes()
    assert made[0].arrival_s.tobytes() != made[2].arrival_s.tobytes()


def test_a_change_of_one_law_shifts_no_other_draw():
    one = make_generator(BASE | {"output_tokens": 30}).generate(1, num_requests=200)
    zipf = {"name": "zipf", "min_tokens": 1, "max_tokens": 90}
    two = make_generator(BASE | {"output_tokens": zipf, "rank_correlation": 0.5}).generate(1, num_requests=200)
    assert np.array_equal(one.arrival_s, two.arrival_s)
    assert np.array_equal(one.prompt_tokens, two.prompt_tokens)


def test_total_tokens_split_by_a_ratio():
    spec = {"name": "synthetic", "arrivals": POISSON, "total_tokens": 1000, "prompt_to_output_ratio": 9.0}
    table = make_generator(spec).generate(0, num_requests=3)
    assert table.prompt_tokens.tolist() == [900] * 3
    assert table.output_tokens.tolist() == [100] * 3


def test_adding_a_client_shifts_no_other_client():
    few = make_generator({"name": "clients", "clients": [client("a"), client("b", 2.0)]}).generate(3, duration_s=100)
    more = make_generator({"name": "clients", "clients": [client("c"), client("a"), client("b", 2.0)]})
    table = more.generate(3, duration_s=100)
    assert few.tenant is not None
    assert table.tenant is not None
    for name in ("a", "b"):
        before = few.arrival_s[np.array(few.tenant) == name]
        assert np.array_equal(before, table.arrival_s[np.array(table.tenant) == name])
    assert len(table) == pytest.approx(1200, rel=0.1)


def test_a_sum_of_clients_stops_at_the_count():
    table = make_generator({"name": "clients", "clients": [client("a"), client("b")]}).generate(3, num_requests=50)
    assert len(table) == 50
    assert np.all(np.diff(table.arrival_s) >= 0)


def test_turns_of_a_session_grow_by_what_was_said_and_share_its_blocks():
    table = make_generator(SESSIONS).generate(5, duration_s=400)
    assert table.session is not None
    assert table.prefix_hashes is not None
    assert table.prompt_tokens.max() <= 500
    long = [s for s in np.unique(table.session) if np.count_nonzero(table.session == s) > 2]
    assert long
    for session in long[:20]:
        turns = np.flatnonzero(table.session == session)
        prompts, outputs = table.prompt_tokens[turns], table.output_tokens[turns]
        assert np.all(prompts[1:] > prompts[:-1] + outputs[:-1])
        for before, after in itertools.pairwise(turns):
            shared = table.prefix_hashes[before]
            assert table.prefix_hashes[after][: len(shared)] == shared
    for tokens, hashes in zip(table.prompt_tokens, table.prefix_hashes, strict=True):
        assert len(hashes) == tokens // 16
        assert len(set(hashes)) == len(hashes)


def test_sessions_share_only_system_prompts():
    table = make_generator(SESSIONS).generate(5, duration_s=400)
    assert table.prefix_hashes is not None
    assert table.session is not None
    assert len({hashes[:6] for hashes in table.prefix_hashes}) == 2
    owners = {}
    for session, hashes in zip(table.session.tolist(), table.prefix_hashes, strict=True):
        for one in hashes[6:]:
            assert owners.setdefault(one, session) == session


MISTAKES = [
    ({"name": "sinthetic"}, "g.name: unknown name 'sinthetic'; did you mean 'synthetic'"),
    ({"arrivals": POISSON}, "g = .*: give a table with a name"),
    ({"name": "synthetic"}, "g: lacks the key 'arrivals'"),
    (BASE | {"output_token": 3}, "g: unknown key 'output_token'; did you mean 'output_tokens'"),
    (BASE, "g.synthetic: give either prompt_tokens and output_tokens, or total_tokens"),
    (BASE | {"output_tokens": 0}, "g.output_tokens.tokens = 0: give a whole number of at least 1"),
    (BASE | {"output_tokens": "many"}, "g.output_tokens = 'many': give a table with a name"),
    (BASE | {"output_tokens": 3, "rank_correlation": 2}, "g.rank_correlation = 2: give a number at least -1 and at"),
    (BASE | {"arrivals": {"name": "gama"}}, "g.arrivals.name: unknown name 'gama'; did you mean 'gamma'"),
    (BASE | {"arrivals": {"name": "poisson", "request_rate": -1}}, "g.arrivals.request_rate = -1: give a number above"),
    (BASE | {"arrivals": {"name": "poisson", "request_rate": "5"}}, "request_rate = '5': give a number above 0"),
    (BASE | {"arrivals": {"name": "poisson", "request_rate": True}}, "request_rate = True"),
    (BASE | {"arrivals": {"name": "gamma", "request_rate": 1, "burstiness": 0}}, "burstiness = 0: give a number abo"),
    (BASE | {"arrivals": {"name": "weibull", "request_rate": 1, "shape": 0.01}}, "shape = 0.01: give a number at le"),
    (BASE | {"arrivals": {"name": "profile", "t_s": [1, 0], "request_rate": [1, 2]}}, "t_s = .*rise"),
    (BASE | {"arrivals": {"name": "profile", "t_s": [0, 1], "request_rate": [1]}}, "t_s has 2 values and request_ra"),
    (BASE | {"arrivals": {"name": "profile", "t_s": [0, 1], "request_rate": [0, 0]}}, "request_rate = 0: give a num"),
    (BASE | {"arrivals": {"name": "profile", "t_s": [0, 9], "request_rate": [1, 0], "period_s": 5}}, "period_s = 5"),
    (BASE | {"prompt_tokens": {"name": "lognormal", "mean": 3}}, "lognormal: give either mean and std, or p50 and"),
    (BASE | {"prompt_tokens": {"name": "lognormal", "p50": 30, "p99": 3}}, "p99 = 3: give a number at least 30"),
    (BASE | {"prompt_tokens": {"name": "uniform", "min_tokens": 9, "max_tokens": 3}}, "max_tokens = 3: give a whole"),
    (BASE | {"prompt_tokens": {"name": "empirical", "probabilities": [0, 2], "tokens": [1, 2]}}, "at most 1"),
    (BASE | {"prompt_tokens": {"name": "empirical", "probabilities": [0, 1], "tokens": [3, 2]}}, "tokens = .*never f"),
    ({"name": "clients", "clients": []}, "g.clients = .*: give at least one client"),
    ({"name": "clients", "clients": [client("a"), client("a")]}, "the name 'a' is given twice"),
    ({"name": "clients", "clients": [{"name": "a"}]}, r"g.clients\[0\]: lacks the key 'arrivals'"),
    (SESSIONS | {"think_time_mean_s": -1}, "g.think_time_mean_s = -1"),
]


@pytest.mark.parametrize(("spec", "message"), MISTAKES)
def test_a_bad_generator_names_key_value_and_remedy(spec, message):
    with pytest.raises(FleetcastError, match=message):
        make_generator(spec, "g")


@pytest.mark.parametrize(
    ("extent", "message"),
    [
        ({}, "neither duration_s nor num_requests is given"),
        ({"duration_s": 0}, "duration_s = 0"),
        ({"num_requests": 0}, "num_requests = 0"),
        ({"duration_s": 1e-9}, "holds no requests before duration_s"),
        ({"duration_s": 1e12}, "would hold about 1e\\+13 requests"),
    ],
)
def test_a_bad_extent_is_refused(extent, message):
    for spec in (BASE | {"output_tokens": 3}, {"name": "clients", "clients": [client("a", 10)]}):
        with pytest.raises(FleetcastError, match=message):
            make_generator(spec).generate(0, **extent)


def test_a_rate_that_dies_out_cannot_promise_a_count():
    arrivals = {"name": "profile", "t_s": [0, 9], "request_rate": [1, 0]}
    generator = make_generator(BASE | {"output_tokens": 3, "arrivals": arrivals})
    with pytest.raises(FleetcastError, match="request_rate ends at 0 after 9 s"):
        generator.generate(0, num_requests=100)
