"""Training beyond a GPU's memory: from a scenario with [offload] to a step on tiers."""
