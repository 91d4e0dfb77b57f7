"""Reading fields of a Hugging Face config.json under their several spellings, with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hardware_models.errors import FleetcastError

# our name: other spellings in use, in order of preference
ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "n_embed", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "head_dim": ("kv_channels",),
    "intermediate_size": ("ffn_hidden_size", "ffn_dim", "n_inner"),
    "max_position_embeddings": ("n_positions", "seq_length", "n_ctx"),
    "num_experts": ("n_routed_experts", "num_local_experts"),
    "num_experts_per_tok": ("experts_per_token", "num_experts_per_token"),
    "n_shared_experts": ("num_shared_experts",),
}

LARGEST = {"num_hidden_layers": 10_000}  # a larger one is a slip of the keyboard
LARGEST_OF_OTHERS = 2**31 - 1
LONGEST_VALUE = 60  # characters of a value that an error repeats


class ConfigFields:
    """A config.json and the name by which errors call it."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self.config = config
        self.name = name

    def error(self, key: str, value: object, problem: str) -> FleetcastError:
        """The one-sentence error about a key."""
        shown = repr(value)
        shown = shown if len(shown) <= LONGEST_VALUE else f"{shown[:LONGEST_VALUE]}..."
        return FleetcastError(f"{self.name}: {key} = {shown}: {problem}")

    def find(self, key: str) -> tuple[str, Any]:
        """The spelling that is present and its value; (key, None) where absent or null."""
        for spelling in (key, *ALIASES.get(key, ())):
            if self.config.get(spelling) is not None:
                return spelling, self.config[spelling]
        return key, None

    def integer(self, key: str, default: int | None = None, minimum: int = 1) -> int:
        """An integer of at least `minimum`; absent or null: the default, or an error where there is none."""
        spelling, value = self.find(key)
        if value is None:
            if default is not None:
                return default
            others = ALIASES.get(key, ())
            hint = f" (also accepted: {', '.join(others)})" if others else ""
            raise FleetcastError(f"{self.name}: missing key '{key}'{hint}")
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            kind = "a positive integer" if minimum == 1 else f"an integer of at least {minimum}"
            raise self.error(spelling, value, f"must be {kind}")
        largest = LARGEST.get(key, LARGEST_OF_OTHERS)
        if value > largest:
            raise self.error(spelling, value, f"must be at most {largest:,}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A boolean; absent or null: the default."""
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, value, "must be true or false")
        return value

    def refuse(self, key: str, why: str) -> None:
        """Raise where a flag that nobody modelled is set."""
        if self.flag(key, False):
            raise self.error(key, True, why)
