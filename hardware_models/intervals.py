"""Error bars: 90 % intervals of figures whose logarithm errs as a normal distribution does."""

NORMAL_90 = 1.6449  # half-width of the central 90 % of a normal distribution, in standard deviations
