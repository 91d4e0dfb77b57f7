"""What node pairs of a cluster have of their network, as measured: links of one kind are often not alike.

Measured on a real cluster, pairs of servers with the same cards attained 11.1 to 14.5 GB/s (Pipette, arXiv 2405.18093).
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from hardware_models.specs import Rate, Spec


class NodeLinkSpec(Spec):
    """Bandwidth of every node pair: row i, column j is what node i sends to node j with; the diagonal is not read."""

    bytes_per_s: tuple[tuple[float, ...], ...]
    full_bytes_per_s: Rate | None = None  # that a pair has whose link is as good as the catalog's; None: the fastest's

    @model_validator(mode="after")
    def _is_a_matrix_of_bandwidths(self) -> Self:
        size = len(self.bytes_per_s)
        if size < 2 or any(len(row) != size for row in self.bytes_per_s):
            raise ValueError(f"bytes_per_s has {size} rows; give a row and a column for each of two nodes or more")
        pairs = [
            (i, j, rate) for i, row in enumerate(self.bytes_per_s) for j, rate in enumerate(row) if i != j
        ]  # fmt: skip
        for i, j, rate in pairs:
            if not 1e6 <= rate < float("inf"):
                raise ValueError(f"bytes_per_s of nodes {i} and {j} is {rate:g}; give bytes/s of at least 1e6")
        fastest = max(rate for _, _, rate in pairs)
        if self.full_bytes_per_s is not None and self.full_bytes_per_s < fastest:
            full = self.full_bytes_per_s
            raise ValueError(f"full_bytes_per_s = {full:g} is less than the fastest pair's {fastest:g}")
        return self

    @property
    def nodes(self) -> int:
        """How many were measured."""
        return len(self.bytes_per_s)

    def slowdowns(self) -> list[list[float]]:
        """Times as long as a pair takes for the same bytes as one whose link is the catalog's; 0 on the diagonal."""
        rates = [rate for i, row in enumerate(self.bytes_per_s) for j, rate in enumerate(row) if i != j]
        full = self.full_bytes_per_s or max(rates)
        return [
            [full / rate if i != j else 0.0 for j, rate in enumerate(row)] for i, row in enumerate(self.bytes_per_s)
        ]
