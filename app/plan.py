"""`fleetcast plan`: what serves for least, what a deployment sustains, a fleet for a day, the servers that a breaker
carries; what trains fastest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from app.commands import FleetcastCommand
from app.plan_options import limits, names, numbers
from hardware_models.errors import FleetcastError

if TYPE_CHECKING:
    from app.plan_progress import Line
    from sim.plan.prices import Prices
    from sim.plan.space import Space
    from sim.scenario import Scenario
    from sim.training_scenario import TrainingScenario

NOTHING_FOUND = 1
MOST_SEEDS = 10  # of --capacity
OBJECTIVES = ("cost", "gpus", "energy")
SPACE = ("nodes", "tp", "pp", "schedulers", "weight_dtypes", "batched_tokens", "max_gpus")
PRICES = ("prices_file", "energy_prices", "region", "pue")
ANSWERS = {  # question: the options that it takes
    "capacity": ("confidence", "precision", "most_seeds"),
    "oversubscription": (
        "confidence",
        "most_seeds",
        "workers",
        "allow",
        "built_for",
        "most_servers",
        "policies",
        "confirm",
    ),
    "day": (*SPACE, *PRICES, "rate_per_s", "demand", "boot_minutes", "start_usd", "reserved_ratio", "limits"),
    "deployment": (*SPACE, *PRICES, "rate_per_s", "minimize", "exhaustive"),
    "training": ("tp", "pp", "micro_batches", "schedules", "sharding", "gpus", "free", "top", "workers", "exhaustive"),
    "energy": ("step_limit_s", "gpu_usd_per_h"),
    "offload": (),
}
WITH = {
    "capacity": "with --capacity",
    "day": "with --day",
    "oversubscription": "with --oversubscribe",
    "deployment": "without --capacity and --day",
    "training": "with a scenario of training",
    "energy": "with --energy",
    "offload": "with a scenario of [offload]",
}
FLAGS = {"capacity": "capacity", "day": "day", "oversubscribe": "oversubscription", "energy": "energy"}
ALWAYS = ("scenario", "overrides", *FLAGS, "out", "as_json")


@click.command("plan", cls=FleetcastCommand)
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key of the scenario.")
@click.option("--capacity", is_flag=True, help="The highest rate that the scenario's own deployment sustains.")
@click.option("--day", is_flag=True, help="A fleet, mixed and scaled by the hour, for a day's demand.")
@click.option("--oversubscribe", is_flag=True, help="The most servers that the breaker of the scenario's row carries.")
@click.option(
    "--rate", "rate_per_s", type=float, help="Demand, requests/s, in place of the workload's own; its peak with --day."
)
@click.option("--minimize", type=click.Choice(OBJECTIVES), default="cost", show_default=True, help="What is best.")
@click.option("--nodes", help="Node types to choose from (catalog names, or .toml files).")
@click.option("--tp", help="Tensor-parallel sizes to try. [1,2,4,8]")
@click.option("--pp", help="Pipeline-parallel sizes to try. [1,2]")
@click.option("--schedulers", help="Schedulers to try. [the scenario's]")
@click.option("--weight-dtypes", help="Weight formats to try. [the scenario's]")
@click.option("--batched-tokens", help="max_num_batched_tokens to try. [the scenario's]")
@click.option("--max-gpus", type=int, default=512, show_default=True, help="GPUs bought at most, at once with --day.")
@click.option("--exhaustive", is_flag=True, help="Simulate every number of nodes; take nothing for granted.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of what is said over seeds.")
@click.option("--precision", type=float, default=0.05, show_default=True, help="Half-width at which seeds suffice.")
@click.option("--seeds", "most_seeds", type=int, help="Most seeds for --capacity [10]; seeds of --oversubscribe [3].")
@click.option("--allow", multiple=True, metavar="NAME=VALUE", help="Row: the most that is safe, as high_p99=5%.")
@click.option("--built-for", type=click.IntRange(1), help="Row: servers that 0 % means. [by their rated watts]")
@click.option("--most-servers", type=click.IntRange(1), help="Row: try no more. [twice as many]")
@click.option("--policies", help="Row: policies to compare with the scenario's own. [all]")
@click.option("--confirm", type=click.IntRange(0), help="Row: further seeds at the answer. [as many as --seeds]")
@click.option("--demand", type=click.Path(path_type=Path), help="CSV of the day: hour,request_rate. [the trace's]")
@click.option(
    "--boot-minutes", type=float, default=10.0, show_default=True, help="A node is paid for before it serves."
)
@click.option("--start-usd", type=float, default=0.0, show_default=True, help="Each start of a node costs, besides.")
@click.option("--reserved", "reserved_ratio", type=float, help="Price of a node reserved for the day over on demand.")
@click.option("--limit", "limits", multiple=True, metavar="NODE=COUNT", help="Nodes of a type at most, with --day.")
@click.option("--prices", "prices_file", type=str, help="Your own GPU prices (.toml, as of `catalog prices`).")
@click.option("--energy-prices", type=str, help="Your own electricity prices (.toml, as of `catalog energy_prices`).")
@click.option("--region", type=str, help="Whose electricity. [us-average]")
@click.option("--pue", type=str, help="Site over computer power: a number, or a kind of site. [survey-average]")
@click.option("--free", multiple=True, metavar="KEY", help="Training: search a key of [training] though it is given.")
@click.option("--gpus", help="Training: numbers of GPUs to try. [the cluster's]")
@click.option("--micro-batches", help="Training: micro-batch sizes to try. [1 to 16]")
@click.option("--schedules", help="Training: pipeline schedules to try. [1f1b,interleaved_1f1b]")
@click.option(
    "--sharding", help="Training: what copies of the model share out. [none,zero1; without a pipeline zero2,zero3 too]"
)
@click.option("--energy", is_flag=True, help="Training: what a longer step saves, and which clocks then cost least.")
@click.option("--step-limit", "step_limit_s", type=float, help="With --energy: least energy of steps no longer, s.")
@click.option("--gpu-usd-per-h", type=float, help="With --energy: a GPU-hour without electricity. [its list price]")
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="Training: best plans shown.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that simulate. [as many as processors]")
@click.option("--out", type=click.Path(path_type=Path), help="Write plan.json, ready scenarios and a report here.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON on standard output, and nothing else.")
@click.pass_context
def plan(context: click.Context, /, scenario: Path, overrides: tuple[str, ...], **options: Any) -> None:
    """Plan for SCENARIO: the fewest or cheapest GPUs that serve its workload within its SLO; the most servers behind a
    breaker; the fastest way to train; with [offload] the best policy, and what to buy next.

    Exit code 1: nothing keeps the SLO; the report names what came nearest. 2: no plan of training fits.
    """
    from app.plan_progress import Line
    from sim.offload.inference_scenario import OffloadedInferenceScenario
    from sim.scenario_file import load_any
    from sim.training_scenario import TrainingScenario

    flags = [flag for flag in FLAGS if options[flag]]
    if len(flags) > 1:
        raise FleetcastError(f"--{flags[0]} and --{flags[1]} are two questions; ask one at a time")
    asked = FLAGS[flags[0]] if flags else "deployment"
    loaded = load_any(scenario, overrides)
    offloaded = isinstance(loaded, OffloadedInferenceScenario) or (
        isinstance(loaded, TrainingScenario) and loaded.offload is not None and not options["energy"]
    )
    if offloaded:
        asked = "offload"
    elif isinstance(loaded, TrainingScenario):
        asked = "energy" if options["energy"] else "training"
    elif options["energy"]:
        raise FleetcastError("--energy: has no meaning with a scenario of serving; it goes with one of training")
    _refuse_foreign(context, asked)
    if options["out"] is not None:
        from app.plan_outputs import check_out

        check_out(options["out"])
    with Line() as line:
        if isinstance(loaded, OffloadedInferenceScenario) or (offloaded and isinstance(loaded, TrainingScenario)):
            from app.plan_offload import offload

            offload(loaded, options, line)
            return
        if isinstance(loaded, TrainingScenario):
            (_energy if options["energy"] else _training)(loaded, options, line)
            return
        question = {
            "capacity": _capacity, "day": _day, "deployment": _deployment, "oversubscription": _oversubscription,
        }[asked]  # fmt: skip
        found = question(loaded, options, line)
    if not found:
        context.exit(NOTHING_FOUND)


def _refuse_foreign(context: click.Context, asked: str) -> None:
    """Raise FleetcastError for an option that is given, but is none of the question's."""
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)
        taken = (*ALWAYS, *ANSWERS[asked])
        if asked in ("training", "offload"):
            taken = tuple(one for one in taken if one not in FLAGS)
        if given and name not in taken:
            others = " or ".join(WITH[question] for question, names in ANSWERS.items() if name in names)
            others = others or f"with a scenario of {'training' if name == 'energy' else 'serving'}"
            raise FleetcastError(f"{option.opts[0]}: has no meaning {WITH[asked]}; it goes {others}")


def _deployment(scenario: Scenario, options: dict[str, Any], line: Line) -> bool:
    from app.plan_console import plan_lines
    from app.plan_outputs import deliver
    from sim.plan.serving import plan_serving
    from sim.plan.table import plan_json

    found = plan_serving(
        scenario,
        _space(options),
        rate_per_s=options["rate_per_s"],
        minimize=options["minimize"],
        prices=_prices(options),
        exhaustive=options["exhaustive"],
        progress=line.search,
    )
    line.clear()
    ready = {} if found.best is None else {"best.toml": found.best}
    deliver(plan_json(found), lambda: plan_lines(found), ready, options["out"], as_json=options["as_json"])
    return found.winner is not None


def _capacity(scenario: Scenario, options: dict[str, Any], line: Line) -> bool:
    from app.plan_console import capacity_lines
    from app.plan_outputs import deliver
    from sim.plan.demand import workload_at
    from sim.plan.sustainable import RateOptions, find_sustainable
    from sim.plan.table import sustainable_json

    most = MOST_SEEDS if options["most_seeds"] is None else options["most_seeds"]
    asked = RateOptions(
        confidence=options["confidence"], precision=options["precision"], most_seeds=most,
        least_seeds=min(3, max(1, most)),
    )  # fmt: skip
    found = find_sustainable(scenario, asked, line.say)
    line.clear()
    ready = {}
    if found.found:
        workload = workload_at(scenario.workload, scenario.seed, found.rate_per_s)
        ready["best.toml"] = scenario.model_copy(update={"workload": workload})
    deliver(
        sustainable_json(scenario, found), lambda: capacity_lines(scenario, found), ready, options["out"],
        as_json=options["as_json"],
    )  # fmt: skip
    return found.found


def _day(scenario: Scenario, options: dict[str, Any], line: Line) -> bool:
    from app.plan_day_console import day_lines
    from app.plan_outputs import deliver
    from sim.plan.day import DayOptions, plan_day
    from sim.plan.day_demand import day_demand
    from sim.plan.day_table import day_json

    demand = day_demand(scenario, options["demand"], options["rate_per_s"])
    asked = DayOptions(
        boot_minutes=options["boot_minutes"], start_usd=options["start_usd"],
        reserved_ratio=options["reserved_ratio"], limits=limits(options["limits"]), max_gpus=options["max_gpus"],
    )  # fmt: skip
    found = plan_day(scenario, demand, _space(options), _prices(options), asked, line.say)
    line.clear()
    deliver(day_json(found), lambda: day_lines(found), found.ready(), options["out"], as_json=options["as_json"])
    return found.found


def _oversubscription(scenario: Scenario, options: dict[str, Any], line: Line) -> bool:
    from app.plan_oversubscribe import oversubscribe

    return oversubscribe(scenario, options, names("--policies", options["policies"]), line)


def _training(scenario: TrainingScenario, options: dict[str, Any], line: Line) -> None:
    from app.plan_training import deliver_training
    from sim.plan.training.planner import plan_training
    from sim.plan.training.space import RUN_BY_FRAMEWORKS, TrainingSpace

    space = TrainingSpace(
        free=frozenset(options["free"]),
        gpus=numbers("--gpus", options["gpus"]),
        tensor_parallel_sizes=numbers("--tp", options["tp"]),
        pipeline_parallel_sizes=numbers("--pp", options["pp"]),
        micro_batch_sizes=numbers("--micro-batches", options["micro_batches"]),
        schedules=names("--schedules", options["schedules"]) or RUN_BY_FRAMEWORKS,
        shardings=names("--sharding", options["sharding"]) or None,
    )
    found = plan_training(
        scenario, space, top=options["top"], exhaustive=options["exhaustive"], workers=options["workers"],
        progress=line.say,
    )  # fmt: skip
    line.clear()
    deliver_training(found, options["out"], as_json=options["as_json"])


def _energy(scenario: TrainingScenario, options: dict[str, Any], line: Line) -> None:
    from app.plan_energy import deliver_energy
    from sim.plan.training.energy import plan_energy

    found = plan_energy(
        scenario, limit_s=options["step_limit_s"], gpu_usd_per_h=options["gpu_usd_per_h"], progress=line.say
    )
    line.clear()
    deliver_energy(found, options["out"], as_json=options["as_json"])


def _space(options: dict[str, Any]) -> Space:
    from sim.plan.space import Space

    return Space(
        nodes=names("--nodes", options["nodes"]),
        tensor_parallel_sizes=numbers("--tp", options["tp"]),
        pipeline_parallel_sizes=numbers("--pp", options["pp"]),
        schedulers=names("--schedulers", options["schedulers"]),
        weight_dtypes=names("--weight-dtypes", options["weight_dtypes"]),
        max_num_batched_tokens=numbers("--batched-tokens", options["batched_tokens"]),
        max_gpus=options["max_gpus"],
    )


def _prices(options: dict[str, Any]) -> Prices:
    from hardware_models import catalog
    from sim.plan.prices import DEFAULT_REGION, DEFAULT_SITE, Prices

    return Prices.read(
        options["prices_file"] or catalog.LIST_PRICES,
        options["energy_prices"] or catalog.ENERGY_PRICES,
        options["region"] or DEFAULT_REGION,
        options["pue"] or DEFAULT_SITE,
    )
