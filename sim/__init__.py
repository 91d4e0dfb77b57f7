"""The clock: scenarios, SimPy processes, metering, results."""

from sim.result import Result
from sim.run import run
from sim.scenario import Scenario
from sim.scenario_file import load_scenario

__all__ = ["Result", "Scenario", "load_scenario", "run"]
