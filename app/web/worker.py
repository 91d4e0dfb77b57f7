"""`python -m app.web.worker MEMORY_LIMIT_BYTES`: a warm process that simulates one scenario after another.

Reads a line of JSON a scenario ({"scenario": tables, "run_id": identity, "folder": place}) and writes lines of JSON:
progress, then `finished` or `error`. It ends when its input ends, so that it never outlives the app.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.offload.inference_result import OffloadedInferenceResult
    from sim.result import Result
    from sim.scenario_file import AnyScenario
    from sim.serving.record import RequestLog
    from sim.training.result import TrainingResult

PERIOD_S = 0.1  # between two words on progress
GIB = 1024**3


class FileChanged(Exception):  # noqa: N818  # an event, which the app turns into a sentence
    """A file of the scenario is not what it was when the run was asked for."""


class Messages:
    """Lines of JSON to the app, from any thread."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._lock = threading.Lock()

    def send(self, **record: Any) -> None:
        """One message."""
        with self._lock:
            self._out.write(json.dumps(record) + "\n")
            self._out.flush()


def main(memory_limit_bytes: int) -> None:
    """Serve scenarios until the input ends."""
    messages = Messages(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # whatever prints, prints to the app's log
    orders: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read_orders, args=(orders,), daemon=True).start()
    import pandas as pd  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import sim.run
    import sim.training.result  # noqa: F401

    _limit_memory(memory_limit_bytes)
    messages.send(ready=True)
    while True:
        order = json.loads(orders.get())
        messages.send(began=True)
        messages.send(**_outcome(order, messages, memory_limit_bytes))


def _read_orders(orders: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        orders.put(line)
    os._exit(0)  # the app is gone, and nobody waits for what is being simulated


def _outcome(order: dict[str, Any], messages: Messages, memory_limit_bytes: int) -> dict[str, Any]:
    from app.web.families import family_of
    from hardware_models.errors import FleetcastError

    try:
        _simulate(order, messages)
    except FileChanged:
        return {
            "error": "the scenario: a file that it names changed meanwhile; ask again (start the app anew if the"
            " simulator's own files did)",
            "changed": True,
        }
    except FleetcastError as error:
        return {"error": str(error)}
    except MemoryError:
        return {
            "error": f"the simulation needs more than {memory_limit_bytes / GIB:.3g} GiB of memory, the app's limit;"
            f" {family_of(order['scenario']).smaller}, or use the command line",
            "worn": True,  # what is left of it in memory goes with the process
        }
    except Exception as error:  # a defect of the simulator: the app must live on, and says so
        traceback.print_exc()
        return {"error": f"the simulator failed ({type(error).__name__}: {str(error)[:200]}); the app's log has more"}
    return {"finished": True}


def _simulate(order: dict[str, Any], messages: Messages) -> None:
    from sim.scenario_file import scenario_model

    scenario = scenario_model(order["scenario"]).model_validate(order["scenario"])
    _check_identity(scenario, order["run_id"])
    result = _result(scenario, messages)
    _check_identity(scenario, order["run_id"])
    result.write(Path(order["folder"]))


def _result(scenario: AnyScenario, messages: Messages) -> Result | TrainingResult | OffloadedInferenceResult:
    from sim.offload.inference_scenario import OffloadedInferenceScenario
    from sim.scenario import Scenario

    if isinstance(scenario, OffloadedInferenceScenario):
        from sim.offload.inference_result import run_inference

        return run_inference(scenario)
    if not isinstance(scenario, Scenario):
        from sim.training.result import run_training

        return run_training(scenario)
    from sim.run import run

    with _progress(messages) as watch:
        return run(scenario, watch=watch)


def _check_identity(scenario: AnyScenario, run_id: str) -> None:
    """Raises FileChanged where it would be another run now than the one asked for."""
    from hardware_models.errors import FleetcastError
    from sim.identity import scenario_id

    try:
        now = scenario_id(scenario)
    except FleetcastError:  # a file that could be read when the run was asked for
        raise FileChanged from None
    if now != run_id:
        raise FileChanged


@contextmanager
def _progress(messages: Messages) -> Iterator[Any]:
    """Gives what `run` calls with its log; from then on the requests done are told."""
    over = threading.Event()

    def tell(log: RequestLog) -> None:
        total = len(log.requests)
        while not over.wait(PERIOD_S):
            messages.send(done=log.finished, total=total)

    threads: list[threading.Thread] = []

    def watch(log: RequestLog) -> None:
        threads.append(threading.Thread(target=tell, args=(log,), daemon=True))
        threads[0].start()

    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _limit_memory(limit_bytes: int) -> None:
    """Beyond what is taken already by code and libraries; without effect where the system has no such limit."""
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + limit_bytes, resource.RLIM_INFINITY))
    except (ImportError, FileNotFoundError):  # no Linux: the app watches over time alone
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
