"""Power on the clock: locked clocks, what meters read, and loops that act on it with their delays."""
