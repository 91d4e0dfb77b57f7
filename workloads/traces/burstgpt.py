"""BurstGPT logs (HPMLL/BurstGPT); failed requests have no response tokens and are left out, as vLLM's reader does."""

from workloads.traces.columns import Column, TableFormat

BURSTGPT = TableFormat(
    name="BurstGPT CSV",
    columns=(
        Column("arrival_s", ("Timestamp",), "seconds"),
        Column("prompt_tokens", ("Request tokens",), "tokens"),
        Column("output_tokens", ("Response tokens",), "tokens"),
        Column("tenant", ("Model",), "name", required=False),
    ),
    drops_empty_answers=True,
)
