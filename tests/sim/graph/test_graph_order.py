import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_graphs import task_graphs

from hardware_models.errors import FleetcastError
from policies.task_graph import NO_STREAM, TaskGraph, Transfer
from sim.graph import compile_graph, execute, max_plus
from sim.graph.order import task_order


@given(task_graphs(by_priority=True))
@settings(max_examples=80, deadline=None)
def test_every_task_comes_once_after_those_it_waits_for(graph: TaskGraph) -> None:
    order = task_order(graph)
    assert sorted(order) == list(range(len(graph)))
    place = {task: number for number, task in enumerate(order)}
    assert all(place[other] < place[task] for task, others in enumerate(graph.after) for other in others)
    for stream, one in enumerate(graph.streams):
        program = [task for task in order if graph.stream[task] == stream]
        assert one.by_priority or program == sorted(program)


@given(task_graphs(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_compiled_graph_takes_other_durations(graph: TaskGraph, data: st.DataObject) -> None:
    compiled = compile_graph(graph)
    durations = data.draw(st.lists(st.floats(0, 10), min_size=len(graph), max_size=len(graph)))
    graph.duration_s = durations
    times = max_plus(graph)
    assert compiled.times(durations) == times
    assert compiled.ends(durations) == times.end_s


def test_two_streams_that_wait_for_each_other_s_later_tasks_are_named() -> None:
    graph = TaskGraph()
    one, other = graph.add_stream(0, "compute"), graph.add_stream(1, "copy")
    first = graph.add(one, 1.0, "forward", name="forward 0")
    graph.add(other, 1.0, "load")
    later = graph.add(one, 1.0, "forward", name="forward 1")
    fetch = graph.add(other, 1.0, "fetch", [later])
    save = graph.add(other, 1.0, "save")
    graph.wait_for(first, save)
    for use in (compile_graph, execute, max_plus):
        with pytest.raises(FleetcastError) as error:
            use(graph)
        text = str(error.value)
        assert "stream 'compute' of device 0, stream 'copy' of device 1 wait in a circle" in text
        assert f"task {first} 'forward 0' on stream 'compute' of device 0 waits for task {save} 'save'" in text
        assert f"which comes after task {fetch} 'fetch'" in text
        assert f"task {fetch} 'fetch' on stream 'copy' of device 1 waits for task {later} 'forward 1'" in text


@pytest.mark.parametrize("by_priority", [False, True])
def test_tasks_that_no_stream_orders_can_wait_in_a_circle_too(by_priority: bool) -> None:
    graph = TaskGraph()
    stream = graph.add_stream(0, "compute", by_priority=True) if by_priority else NO_STREAM
    last = graph.add(stream, 1.0, "a")
    for kind in "bcdefghij":
        last = graph.add(stream, 1.0, kind, [last])
    graph.wait_for(0, last)
    outside = graph.add_stream(0, "other")
    graph.add(outside, 1.0, "bystander", [last])
    with pytest.raises(FleetcastError, match=r"wait in a circle.*and 4 more") as error:
        execute(graph)
    assert "bystander" not in str(error.value)


def test_a_task_that_waits_for_itself_is_a_circle() -> None:
    graph = TaskGraph()
    graph.wait_for(graph.add(NO_STREAM, 1.0, "wait"), 0)
    with pytest.raises(FleetcastError, match="task 0 'wait' waits for task 0 'wait'"):
        compile_graph(graph)


def test_a_stream_goes_on_when_what_it_waits_for_was_added_later() -> None:
    graph = TaskGraph()
    first, second = graph.add_stream(0, "a"), graph.add_stream(0, "b")
    waits = [graph.add(first, 1.0, "wait") for _ in range(3)]
    for task in waits:
        graph.wait_for(task, graph.add(second, 2.0, "work"))
    assert max_plus(graph).end_s == [3.0, 5.0, 7.0, 2.0, 4.0, 6.0]


def broken(change: str) -> TaskGraph:
    graph = TaskGraph()
    stream, pool, link = graph.add_stream(0, "compute"), graph.add_pool(0, "hbm"), graph.add_link("wire", 10.0)
    task = graph.add(stream, 1.0, "work")
    if change == "duration":
        graph.duration_s[task] = -1.0
    elif change == "nan":
        graph.duration_s[task] = float("nan")
    elif change == "stream":
        graph.add(3, 1.0, "work")
    elif change == "after":
        graph.wait_for(task, -1)
    elif change == "column":
        graph.kind.append("more")
    elif change == "pool":
        graph.acquire(task, pool + 1, 1.0, "x")
    elif change == "bytes":
        graph.acquire(task, pool, float("inf"), "x")
    elif change == "transfer":
        graph.add(stream, 2.0, "send", transfer=Transfer((link,), 10.0))
    elif change == "link":
        graph.add(stream, 1.0, "send", transfer=Transfer((link + 1,), 10.0))
    elif change == "no link":
        graph.add(stream, 1.0, "send", transfer=Transfer((), 10.0))
    return graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("duration", "task 0 lasts -1.0 s"),
        ("nan", "task 0 lasts nan s"),
        ("stream", "task 1 'work': stream 3 is none of 1"),
        ("after", r"task 0 'work' on stream 'compute' of device 0 waits for \[-1\], but there are 1 tasks"),
        ("column", "columns of other lengths"),
        ("pool", "one of 1 pools"),
        ("bytes", "finite bytes"),
        ("transfer", "lasts 2.0 s but takes 1.0 s alone on its links"),
        ("link", r"crosses links \(1,\), but there are 1"),
        ("no link", r"crosses links \(\), but there are 1"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(change: str, message: str) -> None:
    for use in (compile_graph, execute, max_plus):
        with pytest.raises(FleetcastError, match=message):
            use(broken(change))


def test_durations_that_are_too_few_or_no_numbers_are_refused() -> None:
    compiled = compile_graph(broken("nothing"))
    with pytest.raises(FleetcastError, match="2 durations for a graph of 1 tasks"):
        compiled.ends([1.0, 2.0])
    with pytest.raises(FleetcastError, match="task 0 lasts nan s"):
        compiled.times([float("nan")])
