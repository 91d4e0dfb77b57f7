"""Our own trace format, CSV or Parquet: the columns of a run's `requests` frame read back as a trace."""

from workloads.traces.columns import Column, TableFormat

PLAIN = TableFormat(
    name="plain table",
    columns=(
        Column("arrival_s", ("arrival_s",), "seconds"),
        Column("prompt_tokens", ("prompt_tokens",), "tokens"),
        Column("output_tokens", ("output_tokens",), "tokens"),
        Column("request_id", ("request_id",), "name", required=False),
        Column("priority", ("priority",), "integer", required=False),
        Column("tenant", ("tenant",), "name", required=False),
        Column("session", ("session",), "name", required=False),
    ),
)
