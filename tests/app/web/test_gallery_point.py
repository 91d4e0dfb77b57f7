"""One point of a study, its knobs changed, without a browser."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.web import gallery_point, resources
from app.web.jobs import Job

STUDY, POINT = "serving/vllm-over-orca", "vLLM"


def show_gallery() -> None:
    from app.web.pages import gallery

    gallery.render()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], float]]:
    """Commands and their time limits, none of which runs."""
    found: list[tuple[list[str], float]] = []

    def start(arguments: list[str], folder: Path, time_limit_s: float, at_once: int) -> None:
        found.append((arguments, time_limit_s))

    monkeypatch.setattr(Job, "start", start)
    return found


def test_an_optional_knob_switched_off_is_simulated_without_it(
    app_runs: Path, started: list[tuple[list[str], float]]
) -> None:
    test = AppTest.from_function(show_gallery, default_timeout=60)
    for key, value in {"study": STUDY, "point": POINT, gallery_point.KNOB: "serving.max_model_len"}.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    simulate = next(button for button in test.button if button.label == "Simulate with this")
    assert simulate.disabled
    next(toggle for toggle in test.toggle if toggle.label.startswith("max_model_len")).set_value(False).run()
    simulate = next(button for button in test.button if button.label == "Simulate with this")
    assert not simulate.disabled
    simulate.click().run()
    assert not test.exception
    expected = ["validate", STUDY, "--point", POINT, "--set", "serving.max_model_len=", "--json"]
    assert started == [(expected, resources.settings().time_limit_s)]
