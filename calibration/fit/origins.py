"""Who measured: the benchmarks that timings come from, the one that fits prefer first."""

from __future__ import annotations

from collections.abc import Iterable

from calibration.fit.kernel import Dataset

FLASH_ATTENTION = "github.com/Dao-AILab/flash-attention, arXiv 2307.08691 and 2407.08608"
AICONFIGURATOR = "github.com/ai-dynamo/aiconfigurator, Apache-2.0"
LLMSERVINGSIM = "github.com/casys-kaist/LLMServingSim, MIT"
OWN = "own"
# Where a device was timed by several, the first one's timings make its fit; the others check it.
ORIGINS = {
    OWN: "measured by `fleetcast calibrate measure`",
    "aiconfigurator/vllm": f"AI Configurator operator tables, vLLM 0.14 to 0.24 ({AICONFIGURATOR})",
    "aiconfigurator": f"AI Configurator operator tables ({AICONFIGURATOR})",
    "llmservingsim": f"LLMServingSim profiles of vLLM 0.19 ({LLMSERVINGSIM})",
    "vidur": "Vidur layer profiles (github.com/microsoft/vidur, MIT)",
    "llmservingsim/layers": f"LLMServingSim layer profiles ({LLMSERVINGSIM})",
    "flash_attention": f"speeds in the figures of FlashAttention's authors ({FLASH_ATTENTION})",
    "aiconfigurator/trtllm": f"AI Configurator operator tables, TensorRT-LLM 1.0 to 1.3 ({AICONFIGURATOR})",
}


def rank(origin: str) -> int:
    """Place among ORIGINS; 0 is preferred to all."""
    return list(ORIGINS).index(origin)


def preferred(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Of each key the best benchmark's with points enough for a fit, in the order of the keys."""
    chosen: dict[str, Dataset] = {}
    for dataset in sorted(datasets, key=lambda d: (d.key, rank(d.origin))):
        if len(dataset.timings.seconds) >= dataset.fewest:
            chosen.setdefault(dataset.key, dataset)
    return list(chosen.values())
