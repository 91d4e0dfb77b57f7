"""Whole servers that somebody measured, played again in the simulator."""
