"""Small training problems for tests of the plan search, drawn at random."""

from typing import Any

from hypothesis import strategies as st

from sim.plan.training.plan import Choice, TrainingPlan
from sim.training_scenario import TrainingScenario

MODELS = ("gpt3-1.3b", "llama-3.1-8b")


def training_scenario(model: str = "gpt3-1.3b", nodes: int = 2, node: str = "dgx-a100-80gb", **keys: Any) -> Any:
    """A scenario whose [training] says no more than `keys`."""
    training = {"seq_length": 2048, "global_batch_size": 64} | keys
    return TrainingScenario.model_validate(
        {"model": {"config": model}, "cluster": {"node": node, "nodes": nodes}, "training": training}
    )


@st.composite
def plans(draw: st.DrawFn, schedules: tuple[str, ...] = ("1f1b", "interleaved_1f1b", "gpipe")) -> TrainingPlan:
    """Plans for 16 GPUs and 64 sequences of a model of 24 or 32 layers; not all of them can be."""
    tp, pp = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2, 4]))
    schedule = draw(st.sampled_from(schedules))
    keys = (("chunks", draw(st.sampled_from([2, 3]))),) if schedule in ("interleaved_1f1b", "breadth_first") else ()
    if pp == 1:
        schedule, keys = "1f1b", ()
    return TrainingPlan(
        nodes=2, gpus=16, tp=tp, pp=pp, dp=16 // (tp * pp), cp=1, ep=1,
        micro_batch=draw(st.sampled_from([1, 2])),
        schedule=Choice(schedule, keys),
        recompute=Choice(draw(st.sampled_from(["none", "selective", "full"]))),
        sharding=Choice(draw(st.sampled_from(["none", "zero1", "zero2", "zero3"]))),
        sequence_parallel=tp > 1 and draw(st.booleans()),
        split="even",
    )  # fmt: skip
