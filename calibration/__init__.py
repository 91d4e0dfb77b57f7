"""Microbenchmarks on real hardware, curve fitting, fidelity reports, and raw measurements."""
