"""Which fits of a device's calibration serve an attention layer, and which kernel vLLM runs there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hardware_models.kernels import attention_decode, attention_prefill

WIDE = 128  # head dimension above which FlashAttention runs smaller tiles


def attention_keys(
    dtype: str, kv_dtype: str, *, qk_dim: int, window: int = 0, latent: bool = False, mixed: bool = False
) -> list[str]:
    """Keys to look for with `FitFile.find`, in this order.

    latent: multi-head latent attention on its compressed cache. mixed: decoding sequences in a step with a prompt's
    chunk, which FlashAttention-2 runs as short prompts, query heads unpacked and contexts not split.
    """
    formats = f"{dtype}/{kv_dtype}"
    wide = qk_dim > WIDE
    variants = []
    if latent:
        variants.append("mla")
    if window:
        variants += ["window-wide"] if wide else []
        variants.append("window")
    if mixed:
        variants.append("mixed")
    if wide and not latent:
        variants.append("wide")
    return [f"{formats}:{variant}" for variant in variants] + [formats]


@dataclass(frozen=True, slots=True)
class Kernel:
    """What code runs: its name for people, and what the formula has to know of it."""

    name: str
    facts: Mapping[str, float]


def prefill_kernel(architecture: str, key: str) -> Kernel:
    """The kernel vLLM runs for these formats on a GPU of this architecture."""
    if architecture == "hopper":
        return Kernel("FlashAttention-3", attention_prefill.FLASH_ATTENTION_3)
    if "/fp8" in key:
        return Kernel("FlashInfer", attention_prefill.FLASH_INFER)
    return Kernel("FlashAttention-2", attention_prefill.FLASH_ATTENTION_2)


def decode_kernel(architecture: str, key: str) -> Kernel:
    """The kernel vLLM runs for these formats and this company on a GPU of this architecture."""
    formats, _, variant = key.partition(":")
    if variant == "mla":
        if architecture == "hopper":
            return Kernel("FlashAttention-3 or FlashMLA, growth with the context", attention_decode.LATENT)
        return Kernel("Triton MLA, growth with the context", attention_decode.LATENT_TRITON)
    if architecture == "hopper":
        return Kernel("FlashAttention-3", attention_decode.PACKED)
    if formats.endswith("/fp8"):
        return Kernel("FlashInfer", attention_decode.PACKED)
    alone = variant in ("", "wide")
    return Kernel("FlashAttention-2", attention_decode.PACKED if alone else attention_decode.UNPACKED)
