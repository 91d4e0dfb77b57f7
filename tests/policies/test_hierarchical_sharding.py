import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models.errors import ImpossibleError
from policies.parallelism import SHARDING, HybridShard, Sharding, ThreeLevel, Zero3, ZeroPlusPlus
from policies.parallelism.exchange import Hops

SERVER = 8
RANKS = st.sampled_from([8, 16, 64, 384])


def leaving(hops: Hops, server: int = SERVER) -> float:
    """Bytes a parameter and server that ring and all-to-all traffic takes out of a server of `server` copies."""
    sent = 0.0
    for one in hops:
        reach = one.ranks * one.apart
        if reach <= server:
            continue
        inside = max(1, server // one.apart)  # of the hop's ranks in a server
        groups = server // inside  # such hops that run side by side in it
        servers = one.ranks // inside
        sent += groups * one.bytes_per_parameter * (servers - 1) / servers
    return sent


def test_zero_plus_plus_cuts_what_leaves_a_server_to_a_quarter() -> None:
    """Table 1 of arXiv 2306.10209: M + M + M of 16-bit weights become M/2 + 0 + M/4, up to scales."""
    plain, better = Zero3(), ZeroPlusPlus().placed(384, SERVER)
    most = leaving(plain.gather(384, 2.0))
    assert leaving(better.gather(384, 2.0)) == pytest.approx(most / 2, rel=2e-3)
    assert leaving(better.gather(384, 2.0, backward=True)) == 0.0
    assert leaving(better.reduce(384, 2.0)) == pytest.approx(leaving(plain.reduce(384, 2.0)) / 4, rel=5e-3)


@given(ranks=RANKS)
def test_three_levels_cross_servers_once_a_step_only(ranks: int) -> None:
    policy = ThreeLevel().placed(ranks, SERVER)
    for backward in (False, True):
        assert leaving(policy.gather(ranks, 2.0, backward=backward)) == 0.0
    assert leaving(policy.reduce(ranks, 2.0)) == 0.0
    servers = ranks // SERVER
    assert leaving(policy.finish(ranks, 2.0)) == pytest.approx(2.0 * (servers - 1) / servers)


@given(ranks=RANKS)
def test_hybrid_shard_leaves_a_server_with_one_all_reduce_of_each_part(ranks: int) -> None:
    policy = HybridShard().placed(ranks, SERVER)
    assert leaving(policy.gather(ranks, 2.0) + policy.reduce(ranks, 2.0)) == 0.0
    kinds = [one.kind for one in policy.finish(ranks, 2.0)]
    assert kinds == (["all_reduce"] if ranks > SERVER else [])
    assert sum(one.bytes_per_parameter for one in policy.finish(ranks, 2.0)) in (0.0, 2.0 / SERVER)


@given(ranks=RANKS)
def test_memory_of_each_kind_is_divided_over_those_who_share_it(ranks: int) -> None:
    parameters = 1e9
    three = ThreeLevel(weight_ranks=2).placed(ranks, SERVER)
    assert three.weight_bytes(parameters, ranks, 2.0) == parameters
    assert three.gradient_bytes(parameters, ranks, 4.0) == parameters * 4 / SERVER
    assert three.optimizer_parameters(parameters, ranks) == parameters / ranks
    near = HybridShard().placed(ranks, SERVER)
    assert near.optimizer_parameters(parameters, ranks) == parameters / SERVER
    twice = ZeroPlusPlus().placed(ranks, SERVER)
    assert twice.weight_bytes(parameters, ranks, 2.0) == pytest.approx(parameters * 2 * (1 / ranks + 1 / SERVER))


@given(ranks=RANKS)
def test_the_widest_groups_are_stage_three(ranks: int) -> None:
    plain = Zero3()
    for one in (HybridShard(shard_size=ranks), ThreeLevel(weight_ranks=ranks, gradient_ranks=ranks)):
        placed = one.placed(ranks, SERVER)
        assert placed.gather(ranks, 2.0) == plain.gather(ranks, 2.0)
        assert placed.reduce(ranks, 4.0) + placed.finish(ranks, 4.0) == plain.reduce(ranks, 4.0)
        assert placed.refresh(ranks, 2.0) == ()
        assert placed.weight_bytes(1.0, ranks, 2.0) == plain.weight_bytes(1.0, ranks, 2.0)


@pytest.mark.parametrize("name", sorted(SHARDING))
def test_one_copy_exchanges_nothing(name: str) -> None:
    policy: Sharding = (
        SHARDING[name]().placed(1, SERVER) if name != "three_level" else ThreeLevel(weight_ranks=1).placed(1, SERVER)
    )
    hops = policy.gather(1, 2.0) + policy.reduce(1, 4.0) + policy.finish(1, 4.0) + policy.refresh(1, 2.0)
    assert hops == ()


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (HybridShard(shard_size=6), "shard_size = 6: makes no groups of 16"),
        (ThreeLevel(weight_ranks=3), "weight_ranks = 3"),
        (ZeroPlusPlus(partition_size=0), "partition_size = 0"),
    ],
)
def test_groups_that_do_not_divide_the_copies_are_refused(policy: Sharding, words: str) -> None:
    with pytest.raises(ImpossibleError, match=words):
        policy.placed(16, SERVER)


def test_a_server_that_holds_one_copy_has_no_neighbours_to_share_with() -> None:
    with pytest.raises(ImpossibleError, match="1 in a server"):
        HybridShard().placed(16, 1)
