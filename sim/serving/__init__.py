"""The iteration-level serving engine."""
