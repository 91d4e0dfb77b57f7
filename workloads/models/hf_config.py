"""From a Hugging Face config.json to a ModelArchitecture."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from hardware_models.errors import FleetcastError
from workloads.models.architecture import ModelArchitecture
from workloads.models.config_fields import ConfigFields
from workloads.models.hf_common import Reader
from workloads.models.hf_gemma import GEMMA
from workloads.models.hf_gpt_like import GPT_LIKE
from workloads.models.hf_llama_like import LLAMA_LIKE
from workloads.models.hf_moe import MIXTURES
from workloads.models.hf_parallel import PARALLEL

FAMILIES: dict[str, Reader] = {**LLAMA_LIKE, **MIXTURES, **GEMMA, **GPT_LIKE, **PARALLEL}


def architecture_from_config(config: Mapping[str, Any], name: str) -> ModelArchitecture:
    """The architecture a config describes; `name` stands for it in errors and results."""
    model_type = config.get("model_type")
    accepted = ", ".join(sorted(FAMILIES))
    if model_type is None:
        raise FleetcastError(f"{name}: missing key 'model_type' (accepted: {accepted})")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        close = difflib.get_close_matches(str(model_type), FAMILIES, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise FleetcastError(f"{name}: model_type = {model_type!r}: unknown architecture; {hint}(accepted: {accepted})")
    return FAMILIES[model_type](ConfigFields(config, name))
