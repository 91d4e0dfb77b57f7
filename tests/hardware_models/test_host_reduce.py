import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.errors import ImpossibleError
from hardware_models.host_reduce import HostReduce

PAYLOAD = 186.0 * (1 << 20)  # of the published figures
# all-reduce GB/s, payload over time, of HFReduce by GPUs (arXiv 2408.14158, figures 7a and 7b, intra-zone)
PLAIN = {16: 8.1, 128: 7.78}
BRIDGED = {16: 19.18, 32: 13.0, 64: 12.07, 128: 10.3}


def hosts(nodes: int, name: str = "fire-flyer-2", copies: int = 8, chunk_bytes: float = 4 << 20) -> HostReduce:
    return HostReduce(node=catalog.node(name), copies=copies, nodes=nodes, chunk_bytes=chunk_bytes)


def test_a_byte_is_touched_24_times_as_the_paper_counts_which_320_gigabytes_a_second_allow_13_of() -> None:
    assert PAYLOAD / hosts(16).stages_s(PAYLOAD)["memory"] == pytest.approx(320e9 / 24)


def test_two_devices_on_one_root_port_share_it_in_both_directions() -> None:
    assert PAYLOAD / hosts(16).stages_s(PAYLOAD)["shared ports"] == pytest.approx(37.5e9 / 4)
    assert PAYLOAD / hosts(16, "fire-flyer-2-nvlink").stages_s(PAYLOAD)["shared ports"] == pytest.approx(37.5e9 / 2)


@pytest.mark.parametrize(("nodes", "sent"), [(2, 1.0), (4, 2.0), (16, 2.0), (180, 2.0)])
def test_the_busiest_server_of_two_trees_sends_every_byte_twice_but_of_two_servers_once(
    nodes: int, sent: float
) -> None:
    assert hosts(nodes).sent_fraction == sent


@given(nodes=st.sampled_from([1, 2, 8, 64]), size=st.floats(1e3, 1e10), name=st.sampled_from(["", "-nvlink"]))
def test_it_takes_at_least_its_slowest_stage_and_at_most_all_of_them_a_chunk_at_a_time(
    nodes: int, size: float, name: str
) -> None:
    one = hosts(nodes, f"fire-flyer-2{name}")
    stages = one.stages_s(size)
    hops = 14 * (one.nodes > 1) * 1e-6 + 14 * min(size, one.chunk_bytes) / one.card_bytes_per_s
    assert max(stages.values()) <= one.seconds(size) <= 2 * sum(stages.values()) + hops


def test_of_long_messages_the_first_chunk_counts_for_nothing() -> None:
    one = hosts(128)
    assert one.seconds(1e13) == pytest.approx(max(one.stages_s(1e13).values()), rel=1e-4)


def test_more_servers_are_slower_and_bridges_faster() -> None:
    seconds = [hosts(nodes).seconds(PAYLOAD) for nodes in (2, 4, 16, 64, 128)]
    assert seconds == sorted(seconds)
    for nodes in (2, 16, 128):
        assert hosts(nodes, "fire-flyer-2-nvlink").seconds(PAYLOAD) < hosts(nodes).seconds(PAYLOAD)


def test_tensor_parallel_copies_have_their_own_sums_and_no_bridges() -> None:
    one = hosts(4, "fire-flyer-2-nvlink", copies=4)
    assert one.groups == 2
    assert not one.bridged
    assert one.stages_s(PAYLOAD)["network"] == pytest.approx(2 * hosts(4).stages_s(PAYLOAD)["network"])


@pytest.mark.parametrize(("name", "rows"), [("fire-flyer-2", PLAIN), ("fire-flyer-2-nvlink", BRIDGED)])
def test_published_bandwidths_up_to_128_gpus_are_within_a_sixth(name: str, rows: dict[int, float]) -> None:
    for gpus, published in rows.items():
        got = PAYLOAD / hosts(gpus // 8, name).seconds(PAYLOAD) / 1e9
        assert got == pytest.approx(published, rel=0.16)


def test_one_device_and_no_bytes_take_no_time() -> None:
    assert hosts(1, copies=1).seconds(PAYLOAD) == 0.0
    assert hosts(4).seconds(0.0) == 0.0


def test_servers_without_cards_cannot() -> None:
    lone = catalog.node("fire-flyer-2").model_copy(update={"nics": 0, "pcie_switches": None})
    with pytest.raises(ImpossibleError, match="no network card"):
        HostReduce(node=lone, copies=8, nodes=2)
