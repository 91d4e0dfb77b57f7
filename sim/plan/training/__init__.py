"""The fastest plan to train a model on a cluster: a space of layouts, proved lower bounds, exact evaluation.

`plan_training` (sim.plan.training.planner) is the entrance; `search` says what may be discarded and why that is safe.
"""
