"""What a result is the result of: the scenario with every default filled in, the files it names, and this simulator.

Equal identities mean equal bytes, so that results can be kept, shared and found again by name.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from hardware_models import catalog
from hardware_models.errors import FleetcastError
from sim.offload.inference_scenario import OffloadedInferenceScenario
from sim.row_training import row_training
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario, scenario_toml
from sim.training_scenario import TrainingScenario

ROOT = Path(__file__).parent.parent
ROOMS = ("hardware_models", "workloads", "policies", "sim")
SUFFIXES = (".py", ".toml", ".json")
HEX_DIGITS = 16  # 64 bits: a clash among a million results has a chance of 3e-8


@functools.cache
def simulator_fingerprint() -> str:
    """Of the code and data that every result rests on."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted(path for path in (ROOT / room).rglob("*") if path.suffix in SUFFIXES):
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:HEX_DIGITS]


def scenario_id(scenario: AnyScenario) -> str:
    """Sixteen hexadecimal digits; raises FleetcastError where a file that the scenario names cannot be read."""
    digest = hashlib.sha256(simulator_fingerprint().encode())
    digest.update(scenario_toml(scenario).encode())
    for content in _contents(scenario):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:HEX_DIGITS]


def _contents(scenario: AnyScenario) -> Iterator[bytes]:
    """Of the user's own files: hardware as it was read, model and trace as they lie."""
    if scenario.cluster.node.endswith(".toml"):
        node = catalog.node(scenario.cluster.node)
        for spec in (node, *catalog.user_parts(node)):
            yield spec.model_dump_json().encode()
    if isinstance(scenario, TrainingScenario) and (measured := scenario.cluster.node_links or "").endswith(".toml"):
        yield catalog.node_link(measured).model_dump_json().encode()
    energy = None if isinstance(scenario, OffloadedInferenceScenario) else scenario.energy
    for spec in energy.own_files() if energy is not None else ():
        yield spec.model_dump_json().encode()
    if isinstance(scenario, Scenario) and scenario.power is not None and scenario.power.training is not None:
        training = row_training(scenario.power.training)
        yield scenario_toml(training).encode()
        yield from _contents(training)
    trace = scenario.workload.trace if isinstance(scenario, Scenario) else None
    for name in (scenario.model.config, trace):
        if name and Path(name).is_file():
            yield file_digest(Path(name))


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file as it is now; raises FleetcastError where it cannot be read."""
    try:
        stat = path.stat()
        return _digest(path.resolve(), (stat.st_ino, stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size))
    except OSError as error:
        raise FleetcastError(f"{path}: cannot be read ({error.strerror}); give another file") from None


@functools.lru_cache(maxsize=1000)
def _digest(path: Path, _version: tuple[int, ...]) -> bytes:
    """Of a file as it was last changed: a sweep asks for the same one at every point."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
