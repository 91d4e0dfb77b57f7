"""What copies, drives and CPU kernels reach of their data sheets: rates measured on devices, each with its source."""

from __future__ import annotations

from typing import Annotated, Self, TypeAlias

from pydantic import Field, model_validator

from hardware_models.specs import Count, Rate, Spec

Share: TypeAlias = Annotated[float, Field(gt=0.0, le=1.0, strict=True)]


class TierRatesSpec(Spec):
    """Of any server; tables are by the catalog's names of links and CPUs."""

    dram_fraction: Share  # of the sockets' peak that streams over host memory reach together
    cpu_dram_fraction: dict[str, Share]  # the same, of CPUs on which it was seen
    pinned_bytes_per_s: dict[str, Rate]  # one direction, by link of a GPU to its host
    other_pinned_fraction: Share  # of a link that is not in the table
    pageable_fraction: Share  # of the link, for copies from or to memory that is not pinned
    both_ways_fraction: Share  # of each direction's rate, when both are in use
    drives: tuple[Count, ...]  # numbers of drives that are read and written as one, rising
    drives_read_fraction: tuple[Share, ...]  # of their data sheets together, by asynchronous reads of large blocks
    drives_write_fraction: tuple[Share, ...]
    direct_read_fraction: Share  # of that through GPUDirect Storage, beside a bounce in host memory
    direct_write_fraction: Share
    adam_parameters_per_s: dict[str, Rate]  # of one process, by CPU
    process_bytes_per_s: Rate  # of host memory that one process's kernel touches, on other CPUs
    thread_bytes_per_s: Rate  # of host memory that one thread reads and writes as it converts numbers
    fresh_bytes_per_s: Rate  # that a thread writes to host memory that was allocated just now
    save_bytes_per_s: Rate  # that torch.save writes, a process
    process_flop_fraction: Share  # of vector units' peak that one process's matrix products reach

    @model_validator(mode="after")
    def _one_share_for_each_number_of_drives(self) -> Self:
        lengths = {len(self.drives), len(self.drives_read_fraction), len(self.drives_write_fraction)}
        if len(lengths) > 1 or not self.drives or sorted(set(self.drives)) != list(self.drives):
            raise ValueError("drives must rise, with one drives_read_fraction and drives_write_fraction for each")
        for key, fractions in (("read", self.drives_read_fraction), ("write", self.drives_write_fraction)):
            reached = [count * share for count, share in zip(self.drives, fractions, strict=True)]
            if sorted(reached) != reached:
                raise ValueError(f"drives_{key}_fraction: more drives must not be slower")
        return self
