"""Pipeline schedules by the names that a scenario uses, and the types they speak."""

from policies.parallelism.schedules.automatic import ZeroBubble1p, ZeroBubble2p
from policies.parallelism.schedules.breadth_first import BreadthFirst, Layered
from policies.parallelism.schedules.dependencies import dependencies, flaws, join, owners
from policies.parallelism.schedules.dualpipe import DualPipe
from policies.parallelism.schedules.generalized_interleaved import GeneralizedInterleaved
from policies.parallelism.schedules.gpipe import GPipe
from policies.parallelism.schedules.graph import pipeline_graph
from policies.parallelism.schedules.interleaved import Interleaved
from policies.parallelism.schedules.one_forward_one_backward import NoPipeline, OneForwardOneBackward
from policies.parallelism.schedules.schedule import (
    BACKWARD,
    BACKWARD_INPUT,
    BACKWARD_WEIGHT,
    FORWARD,
    PipelineSchedule,
    Programs,
    Slot,
    SlotTimes,
)
from policies.parallelism.schedules.v_shaped import VHalf, VMin, ZeroBubbleV
from policies.parallelism.schedules.vocabulary import InterlacedVocabulary, Vocabulary1, Vocabulary2
from policies.parallelism.schedules.zero_bubble import ZeroBubbleH1, ZeroBubbleH2

SCHEDULES: dict[str, type[PipelineSchedule]] = {
    "none": NoPipeline,
    "gpipe": GPipe,
    "1f1b": OneForwardOneBackward,
    "interleaved_1f1b": Interleaved,
    "gis": GeneralizedInterleaved,
    "breadth_first": BreadthFirst,
    "layered": Layered,
    "zb_h1": ZeroBubbleH1,
    "zb_h2": ZeroBubbleH2,
    "zb_1p": ZeroBubble1p,
    "zb_2p": ZeroBubble2p,
    "zb_v": ZeroBubbleV,
    "v_half": VHalf,
    "v_min": VMin,
    "dualpipe": DualPipe,
    "vocab_1": Vocabulary1,
    "vocab_2": Vocabulary2,
    "interlaced_vocab": InterlacedVocabulary,
}

__all__ = [
    "BACKWARD",
    "BACKWARD_INPUT",
    "BACKWARD_WEIGHT",
    "FORWARD",
    "SCHEDULES",
    "PipelineSchedule",
    "Programs",
    "Slot",
    "SlotTimes",
    "dependencies",
    "flaws",
    "join",
    "owners",
    "pipeline_graph",
]
