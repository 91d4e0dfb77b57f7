"""Policies: who goes next. Decisions only, over read-only views; no clock, no SimPy, no input or output."""
