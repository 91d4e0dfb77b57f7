"""The clock: scenarios, SimPy processes, metering, results."""
