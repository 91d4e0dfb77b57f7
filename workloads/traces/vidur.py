"""Traces of the simulators Vidur and Splitwise, whose lengths-only form has no arrivals."""

from workloads.traces.columns import Column, TableFormat

VIDUR = TableFormat(
    name="Vidur/Splitwise CSV",
    columns=(
        Column("arrival_s", ("arrived_at", "arrived_at_s", "arrival_timestamp"), "seconds"),
        Column("prompt_tokens", ("num_prefill_tokens", "prompt_size"), "tokens"),
        Column("output_tokens", ("num_decode_tokens", "token_size"), "tokens"),
        Column("request_id", ("request_id",), "name", required=False),
    ),
)
