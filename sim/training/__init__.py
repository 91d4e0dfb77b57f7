"""Training on the clock: a plan's prices, its graph of tasks, its memory, and what comes of running it."""
