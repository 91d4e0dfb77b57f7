"""The highest safe number of servers behind a row's breaker, and how it compares under other policies.

Every number is simulated with each seed, with the policy and without a limit: the same servers and the same requests,
so that a ratio of latencies is the policy's doing (common random numbers). The searches of all policies go on side by
side. The answer is confirmed by seeds that had no say in it, and lowered where these break a criterion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from hardware_models import catalog
from hardware_models.errors import FleetcastError, ImpossibleError, UnknownNameError
from hardware_models.server_power import ServerPower, server_power
from policies.power import ROW_POLICIES
from sim.cores import usable_cores
from sim.plan.demand import same_requests
from sim.plan.power.climb import Asking, Climbed, climb
from sim.plan.power.criteria import Criteria
from sim.plan.power.rating import Rating
from sim.plan.power.servers import under_policy, unlimited, with_servers
from sim.plan.power.trial import LIMITLESS, Runner, Trial, Trials, local_runner
from sim.policy_choice import make_policy
from sim.power.start import row_limit_w
from sim.scenario import Scenario
from sim.section import PolicyChoice
from sim.workload import load_requests

STRIDE = 0.1  # of the provisioned servers, up to the first number that is not safe
MOST = 2.0  # times the provisioned servers


@dataclass(frozen=True, slots=True, kw_only=True)
class OversubscribeOptions:
    """How to search."""

    criteria: Criteria = field(default_factory=Criteria)
    built_for: int | None = None  # servers that the breaker was built for; absent: as their rated watts have it
    most_servers: int | None = None
    policies: tuple[str, ...] | None = None  # to compare with the scenario's own; absent: all
    seeds: int = 3
    confirm: int | None = None  # further seeds at the answer; absent: as many
    confidence: float = 0.95
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise FleetcastError(f"--seeds {self.seeds}: give 1 or more")
        if not 0.0 < self.confidence < 1.0:
            raise FleetcastError(f"--confidence {self.confidence:g}: give a share between 0 and 1")


@dataclass(frozen=True, slots=True)
class Search:
    """One policy's."""

    policy: str
    ratings: dict[int, Rating]
    climbed: Climbed | None  # None: refused, as the only rating says

    @property
    def best(self) -> Rating | None:
        """The highest safe number."""
        return None if self.climbed is None or self.climbed.best is None else self.ratings[self.climbed.best]

    @property
    def next_unsafe(self) -> Rating | None:
        """The least number that is not safe."""
        return None if self.climbed is None or self.climbed.above is None else self.ratings[self.climbed.above]


@dataclass(frozen=True, slots=True)
class Oversubscription:
    """The answer, and all that was tried for it."""

    scenario: Scenario
    options: OversubscribeOptions
    built_for: int
    limit_w: float
    searches: tuple[Search, ...]  # the scenario's own policy first
    confirmed: tuple[Rating, ...]  # by other seeds, from the search's answer downwards
    answer: Rating | None  # the last of these that is safe
    simulations: int
    notes: tuple[str, ...]

    @property
    def own(self) -> Search:
        """Of the scenario's policy."""
        return self.searches[0]

    @property
    def best(self) -> Scenario | None:
        """The scenario with the servers of the answer."""
        return None if self.answer is None else with_servers(self.scenario, self.answer.servers)

    def share(self, servers: int) -> float:
        """Servers beyond those that the breaker was built for; 0.3 is 30 %."""
        return servers / self.built_for - 1.0


def plan_oversubscription(
    scenario: Scenario,
    options: OversubscribeOptions | None = None,
    progress: Callable[[str], None] = lambda _: None,
    runner: Runner | None = None,
) -> Oversubscription:
    """Find it for the row of a scenario; raises FleetcastError for one without a limit, or that cannot be.

    runner: in place of worker processes of this machine.
    """
    options = options or OversubscribeOptions()
    with ExitStack() as stack:
        if runner is None:
            runner = stack.enter_context(local_runner(options.workers or usable_cores()))
        return _Planner(scenario, options, progress, runner).plan()


class _Planner:
    def __init__(
        self, scenario: Scenario, options: OversubscribeOptions, progress: Callable[[str], None], runner: Runner
    ) -> None:
        self._server = server_power(catalog.node(scenario.cluster.node))
        self._built_for, self._limit_w = _row(scenario, options, self._server)
        assert scenario.power is not None
        self._scenario, self._options = scenario, options
        self._choices = _choices(scenario.power.policy, options.policies)
        self._acts_from_w = {  # a row whose readings stay below runs as without a limit
            name: self._limit_w * min(1.0, make_policy("power.policy", choice, ROW_POLICIES, {}).first_fraction)
            for name, choice in self._choices.items()
        }
        self._seeds = tuple(range(scenario.seed, scenario.seed + options.seeds))
        self._trials = Trials(runner, self._build, progress)
        self._notes: list[str] = []
        if same_requests(*(load_requests(scenario.workload, scenario.seed + i) for i in (0, 1))):
            self._notes.append("seeds do not change the requests, so that more of them make nobody surer")

    def plan(self) -> Oversubscription:
        searches = self._search()
        own = searches[0]
        if own.climbed is None:
            raise ImpossibleError(next(iter(own.ratings.values())).refused)
        self._say_odd(searches)
        confirmed, answer = self._confirm(own)
        return Oversubscription(
            self._scenario, self._options, self._built_for, self._limit_w, searches, confirmed, answer,
            self._trials.simulations, tuple(self._notes),
        )  # fmt: skip

    def _search(self) -> tuple[Search, ...]:
        """All policies' searches, a round of each at a time."""
        most = self._options.most_servers or max(self._built_for + 1, int(MOST * self._built_for))
        stride = max(1, round(STRIDE * self._built_for))
        asking: dict[str, Asking] = {name: climb(self._built_for, most, stride) for name in self._choices}
        wanted = {name: next(search) for name, search in asking.items()}
        ratings: dict[str, dict[int, Rating]] = {name: {} for name in asking}
        ended: dict[str, Climbed | None] = {}
        while wanted:
            self._ask(wanted, self._seeds)
            for name, numbers in list(wanted.items()):
                found = {number: self._rating(name, number, self._seeds) for number in numbers}
                ratings[name] |= found
                if self._built_for in found and found[self._built_for].refused:
                    ended[name] = None
                    del wanted[name]
                    continue
                try:
                    safe = {number: rating.safe(self._options.criteria) for number, rating in found.items()}
                    wanted[name] = asking[name].send(safe)
                except StopIteration as end:
                    ended[name] = end.value
                    del wanted[name]
        return tuple(Search(name, ratings[name], ended[name]) for name in self._choices)

    def _ask(self, wanted: Mapping[str, Sequence[int]], seeds: Sequence[int]) -> None:
        """Have runs with and without a limit in hand; those that are sure to be the same are simulated once."""
        limited = [
            Trial(number, seed, name) for name, numbers in wanted.items() for number in numbers for seed in seeds
        ]
        numbers = " and ".join(str(number) for number in sorted({one.servers for one in limited}))
        self._trials.ask([replace(one, policy=LIMITLESS) for one in limited], f"{numbers} servers without a limit")
        for one in limited:
            if one.servers == self._built_for and one.seed == self._seeds[0]:
                continue  # which says whether there can be such a policy
            free = self._trials.known[replace(one, policy=LIMITLESS)]
            if free.refused or free.figures["row_peak_w"] < self._acts_from_w[one.policy]:
                self._trials.known[one] = free
        self._trials.ask(limited, f"{numbers} servers under {' and '.join(wanted)}")

    def _confirm(self, own: Search) -> tuple[tuple[Rating, ...], Rating | None]:
        """The highest safe number that other seeds find safe too, and what they say of each that was asked."""
        count = self._options.seeds if self._options.confirm is None else self._options.confirm
        fresh = tuple(range(self._seeds[-1] + 1, self._seeds[-1] + 1 + count))
        assert own.climbed is not None
        number, asked = own.climbed.best, []
        if number is None or not fresh:
            return (), own.best
        while number >= self._built_for:
            self._ask({own.policy: (number,)}, fresh)
            asked.append(self._rating(own.policy, number, fresh))
            if asked[-1].safe(self._options.criteria):
                return tuple(asked), asked[-1]
            number -= 1
        return tuple(asked), None

    def _rating(self, policy: str, servers: int, seeds: tuple[int, ...]) -> Rating:
        limited, free = (
            tuple(self._trials.known[Trial(servers, seed, which)] for seed in seeds) for which in (policy, LIMITLESS)
        )
        return Rating(policy, servers, seeds, limited, free)

    def _build(self, trial: Trial) -> Scenario:
        row = with_servers(self._scenario, trial.servers).model_copy(update={"seed": trial.seed, "energy": None})
        if trial.policy == LIMITLESS:
            return unlimited(row, self._server)
        return under_policy(row, self._choices[trial.policy])

    def _say_odd(self, searches: Sequence[Search]) -> None:
        for search in searches:
            if search.climbed is not None and search.climbed.odd:
                numbers = ", ".join(str(number) for number in search.climbed.odd)
                self._notes.append(
                    f"{search.policy} is not monotone: {numbers} servers are safe though {search.climbed.above} are"
                    " not; the answer is below the least that is not"
                )


def _choices(own: PolicyChoice, others: tuple[str, ...] | None) -> dict[str, PolicyChoice]:
    """The scenario's own policy, with its keys, then others with their defaults."""
    for name in others or ():
        if name not in ROW_POLICIES:
            raise UnknownNameError("--policies", name, ROW_POLICIES)
    serving = [name for name, kind in ROW_POLICIES.items() if not kind().needs_training]
    names = serving if others is None else others
    return {own.name: own} | {name: PolicyChoice(name=name) for name in names if name != own.name}


def _row(scenario: Scenario, options: OversubscribeOptions, server: ServerPower) -> tuple[int, float]:
    """Servers that the breaker was built for, and its limit; raises FleetcastError."""
    power = scenario.power
    if power is None or not power.has_row:
        raise FleetcastError(
            "plan --oversubscribe: the scenario has no row with a breaker; give power.provisioned_nodes or"
            " power.row_limit_w"
        )
    if power.training is not None:
        raise FleetcastError(
            "plan --oversubscribe: counts servers of a row that only serves, and power.training shares this one; leave"
            " it out, and take its watts off power.row_limit_w"
        )
    limit_w = row_limit_w(power, 1, server)
    built_for = options.built_for or max(1, int(limit_w / server.rated_w * (1.0 + 1e-12)))
    if options.most_servers is not None and options.most_servers < built_for:
        raise FleetcastError(
            f"--most-servers {options.most_servers}: the breaker was built for {built_for} servers; give no fewer"
        )
    return built_for, limit_w
