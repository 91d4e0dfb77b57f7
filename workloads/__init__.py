"""Workloads: what must be computed, and when it is asked for."""
