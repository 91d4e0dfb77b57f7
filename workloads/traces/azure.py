"""Azure LLM inference traces (Azure/AzurePublicDataset, 2023 to 2025)."""

from workloads.traces.columns import Column, TableFormat

AZURE = TableFormat(
    name="Azure LLM CSV",
    columns=(
        Column("arrival_s", ("TIMESTAMP",), "timestamp"),
        Column("prompt_tokens", ("ContextTokens",), "tokens"),
        Column("output_tokens", ("GeneratedTokens",), "tokens"),
    ),
    drops_empty_answers=True,
)
