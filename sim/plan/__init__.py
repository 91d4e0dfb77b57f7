"""Searches that simulate: what a deployment sustains, what serves a demand for least, a fleet for a day."""

from sim.plan.prices import Prices
from sim.plan.serving import Plan, plan_serving
from sim.plan.space import Space
from sim.plan.sustainable import RateOptions, Sustainable, find_sustainable

__all__ = ["Plan", "Prices", "RateOptions", "Space", "Sustainable", "find_sustainable", "plan_serving"]
