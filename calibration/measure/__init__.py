"""Microbenchmarks of the machine at hand: points are planned, timed within a budget and appended to a folder.

How a point is timed. Operands are random views of one pool and rotate over three times the last cache. A GPU's kernels
are timed by device events around blocks of calls that were all queued behind a spinning kernel, so that no launch on
the host shows; copies and launches by the host's clock, since the host is part of them. Each point is warmed up,
then timed in 5 to 25 blocks; the file holds their median and interquartile range.

What is timed first. `plans` orders points by level: a coarse grid over all kinds, then refinements, kinds taking turns.
The runner estimates each point, skips what no longer fits in the time or the memory left, and says so in skipped.csv.

Which kernel is timed. Attention is tried with every installed library; the fastest one that agrees with attention by
its definition is used for all points of its variant, and device.toml tells the others' times or failures. Nothing here
sets a clock, a limit or a mode.
"""
