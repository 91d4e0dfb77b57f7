"""How many servers a row's breaker carries: found by simulation, judged by stated criteria, over several seeds."""

from sim.plan.power.criteria import Criteria
from sim.plan.power.oversubscribe import OversubscribeOptions, Oversubscription, plan_oversubscription
from sim.plan.power.servers import with_servers

__all__ = ["Criteria", "OversubscribeOptions", "Oversubscription", "plan_oversubscription", "with_servers"]
