"""Pipeline steps whose times can be worked out by hand."""

import pytest
from task_graphs import pipeline

from sim.graph import Peak, execute, lower_bound_s, max_plus, peak
from sim.graph.frames import busy


def by_name(schedule: str) -> dict[tuple[int, str], tuple[float, float]]:
    graph = pipeline(2, 3, 1.0, 2.0, schedule)
    times = execute(graph)
    assert times == max_plus(graph)
    return {
        (graph.stream[task], graph.name[task]): (times.start_s[task], times.end_s[task]) for task in range(len(graph))
    }


def test_gpipe_with_two_stages_and_three_micro_batches() -> None:
    """Forwards 0..2 on stage 0 and 1..3 on stage 1; the last stage's backwards at 4, 6, 8, the first's at 6, 8, 10."""
    assert by_name("gpipe") == {
        (0, "forward 0"): (0.0, 1.0),
        (0, "forward 1"): (1.0, 2.0),
        (0, "forward 2"): (2.0, 3.0),
        (1, "forward 0"): (1.0, 2.0),
        (1, "forward 1"): (2.0, 3.0),
        (1, "forward 2"): (3.0, 4.0),
        (1, "backward 0"): (4.0, 6.0),
        (1, "backward 1"): (6.0, 8.0),
        (1, "backward 2"): (8.0, 10.0),
        (0, "backward 0"): (6.0, 8.0),
        (0, "backward 1"): (8.0, 10.0),
        (0, "backward 2"): (10.0, 12.0),
    }


def test_1f1b_with_two_stages_and_three_micro_batches() -> None:
    """Stage 1 alternates from 1 on; stage 0 has two forwards ahead, then waits for each backward."""
    assert by_name("1f1b") == {
        (0, "forward 0"): (0.0, 1.0),
        (0, "forward 1"): (1.0, 2.0),
        (1, "forward 0"): (1.0, 2.0),
        (1, "backward 0"): (2.0, 4.0),
        (0, "backward 0"): (4.0, 6.0),
        (1, "forward 1"): (4.0, 5.0),
        (1, "backward 1"): (5.0, 7.0),
        (0, "forward 2"): (6.0, 7.0),
        (0, "backward 1"): (7.0, 9.0),
        (1, "forward 2"): (7.0, 8.0),
        (1, "backward 2"): (8.0, 10.0),
        (0, "backward 2"): (10.0, 12.0),
    }


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 1), (2, 7), (4, 4), (4, 16), (8, 3), (16, 32)])
def test_the_bubble_is_the_closed_form(schedule: str, stages: int, micro_batches: int) -> None:
    """(p - 1) / m of the ideal time: Narayanan et al., 2021, section 2.2."""
    graph = pipeline(stages, micro_batches, 1.0, 2.0, schedule)
    times = execute(graph)
    ideal_s = micro_batches * 3.0
    assert times.makespan_s == ideal_s * (1 + (stages - 1) / micro_batches) == max_plus(graph).makespan_s
    assert lower_bound_s(graph) == times.makespan_s  # nothing binds but waiting
    account = busy(graph, times)
    assert (account["busy_s"] == ideal_s).all()
    assert (account["idle_s"] == (stages - 1) * 3.0).all()


@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 16), (8, 3)])
def test_1f1b_holds_as_many_activations_as_stages_are_ahead_and_gpipe_all(stages: int, micro_batches: int) -> None:
    for schedule in ("gpipe", "1f1b"):
        graph = pipeline(stages, micro_batches, 1.0, 2.0, schedule)
        times = execute(graph)
        for stage in range(stages):
            held = micro_batches if schedule == "gpipe" else min(stages - stage, micro_batches)
            found = peak(graph, times, stage)
            assert found.used_bytes == held
            assert found.owners == {"activations": held}
    assert peak(pipeline(1, 1, 1.0, 2.0, "1f1b"), max_plus(pipeline(1, 1, 1.0, 2.0, "1f1b")), 0) == Peak(
        0.0, 1.0, {"activations": 1.0}
    )
