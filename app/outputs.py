"""Where a run's files go: refused before the simulation if impossible, and written after it, all or none."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hardware_models.errors import FleetcastError
from sim.offload.inference_result import OffloadedInferenceResult
from sim.result import FileContent, Result, check_run_folder
from sim.scenario import Scenario
from sim.scenario_file import AnyScenario
from sim.training.result import TrainingResult


@dataclass(frozen=True, slots=True)
class Outputs:
    """The places a user named; None: not wanted."""

    folder: Path | None = None
    trace: Path | None = None
    vllm_json: Path | None = None

    def check(self, scenario_file: Path, scenario: AnyScenario) -> None:
        """Raises FleetcastError for a place that cannot be written, or that holds what the run reads."""
        if self.folder is not None:
            check_run_folder(
                self.folder,
                [path.name for path in (self.trace, self.vllm_json) if path is not None and self._inside(path)],
            )
        if self.vllm_json is not None and not isinstance(scenario, Scenario):
            raise FleetcastError(f"--vllm-json {self.vllm_json}: is for serving; use --json or --out for others")
        trace = scenario.workload.trace if isinstance(scenario, Scenario) else None
        read = [str(scenario_file), scenario.model.config, scenario.cluster.node, trace or ""]
        inputs = {Path(name).resolve() for name in read if name}
        for option, path in (("--trace-out", self.trace), ("--vllm-json", self.vllm_json)):
            if path is not None:
                self._check_file(f"{option} {path}", path, inputs)
        if self.trace is not None and self.vllm_json is not None and self.trace.resolve() == self.vllm_json.resolve():
            raise FleetcastError(f"--vllm-json {self.vllm_json}: is where --trace-out goes too; give another file")

    def write(self, result: Result) -> None:
        """Write what was asked for; raises FleetcastError, and then nothing is left behind."""

        def folder(folder: Path, inside: Mapping[str, FileContent]) -> None:
            from app.html_report import html_report

            result.write(folder, {"report.html": html_report(result), **inside})

        self._write(self._files(result), folder)

    def write_training(self, result: TrainingResult) -> None:
        """The same of a training step."""
        files: dict[Path, FileContent] = {}
        if self.trace is not None:
            from sim.graph.trace import write_graph_trace

            run = result.run
            files[self.trace] = lambda path: write_graph_trace(run.graph, run.times, path)

        def folder(folder: Path, inside: Mapping[str, FileContent]) -> None:
            from app.training_page import training_html_report

            result.write(folder, {"report.html": training_html_report(result), **inside})

        self._write(files, folder)

    def write_offload(self, result: OffloadedInferenceResult) -> None:
        """The same of offloaded inference."""
        files: dict[Path, FileContent] = {}
        if self.trace is not None:
            from sim.graph.trace import write_graph_trace

            run = result.run
            files[self.trace] = lambda path: write_graph_trace(run.graph, run.times, path)

        def folder(folder: Path, inside: Mapping[str, FileContent]) -> None:
            from app.offload_page import offload_html_report

            result.write(folder, {"report.html": offload_html_report(result), **inside})

        self._write(files, folder)

    def _write(
        self, files: Mapping[Path, FileContent], write_folder: Callable[[Path, Mapping[str, FileContent]], None]
    ) -> None:
        inside: dict[str, FileContent] = {}
        with ExitStack() as stack:
            for path, content in files.items():
                if self._inside(path):
                    inside[path.name] = content
                else:
                    _fill(stack.enter_context(_new_file(path)), content)
            if self.folder is not None:
                write_folder(self.folder, inside)

    def _files(self, result: Result) -> dict[Path, FileContent]:
        files: dict[Path, FileContent] = {}
        if self.trace is not None:
            from sim.trace_export import write_chrome_trace

            files[self.trace] = lambda path: write_chrome_trace(result, path)
        if self.vllm_json is not None:
            from sim.vllm_bench import vllm_bench_json

            files[self.vllm_json] = json.dumps(vllm_bench_json(result, detailed=True), allow_nan=False) + "\n"
        return files

    def _inside(self, path: Path) -> bool:
        """Is it a file of the run folder?"""
        return self.folder is not None and path.resolve().parent == self.folder.resolve()

    def _check_file(self, named: str, path: Path, inputs: set[Path]) -> None:
        try:
            if path.resolve() in inputs:
                raise FleetcastError(f"{named}: is a file this run reads; give another")
            if path.is_dir():
                raise FleetcastError(f"{named}: is a folder; give a file")
            if self._inside(path):
                return
            if not path.parent.is_dir():
                raise FleetcastError(f"{named}: there is no folder {path.parent}; make it first, or give another file")
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise FleetcastError(f"{named}: the folder {path.parent} may not be written to; give another file")
        except (OSError, RuntimeError):  # a name too long, a loop of links
            raise FleetcastError(f"{named[:100]}: cannot be a file; give another") from None


def _fill(path: Path, content: FileContent) -> None:
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        content(path)


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A place beside a file, moved onto it at the end; after a failure nothing of it is left."""
    building = path.with_name(f".{secrets.token_hex(4)}-{path.name[-100:]}")  # keeps its suffix
    try:
        yield building
        building.replace(path.resolve())
    except OSError as error:
        raise FleetcastError(f"{path}: cannot be written ({error.strerror}); give another file") from None
    finally:
        building.unlink(missing_ok=True)
