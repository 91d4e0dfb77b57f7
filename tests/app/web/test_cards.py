from typing import Any

from app.compare import beyond_error_bars, change_text
from app.web.cards import Card, delta, summary_cards
from app.web.comparison_table import settings_html
from sim.metrics import METRICS

TTFT = METRICS["ttft_s.p99"]


def summary(ttft_s: float, bars: tuple[float, float] | None = None) -> dict[str, Any]:
    intervals = {} if bars is None else {"ttft_s": {"p99": list(bars)}}
    return {"ttft_s": {"p99": ttft_s}, "interval_90": intervals}


def test_a_card_has_figure_unit_and_error_bar() -> None:
    (card,) = summary_cards(summary(0.5, (0.4, 0.61)))
    assert (card.label, card.value, card.unit, card.note, card.delta) == (
        "TTFT p99",
        "500",
        "ms",
        "90 %: 400 to 610",
        "",
    )


def test_what_a_summary_does_not_know_has_no_card() -> None:
    assert summary_cards({"interval_90": {}}) == []
    assert [card.label for card in summary_cards({"preemptions": 0})] == ["preemptions"]


def test_a_change_beyond_the_error_bars_is_better_or_worse() -> None:
    before = summary(0.5, (0.4, 0.6))
    assert delta(TTFT, before, summary(0.25, (0.2, 0.3))) == ("-50.0 %, better", "better")
    assert delta(TTFT, before, summary(1.0, (0.8, 1.2))) == ("+100.0 %, worse", "worse")
    assert delta(TTFT, before, summary(0.55, (0.45, 0.65))) == ("+10.0 %, within error bars", "same")
    assert delta(TTFT, before, summary(0.50001, (0.45, 0.65))) == ("as baseline", "same")


def test_without_error_bars_only_the_change_is_known() -> None:
    assert beyond_error_bars(summary(1.0), summary(2.0), "ttft_s.p99") is None
    assert delta(TTFT, summary(1.0), summary(2.0)) == ("+100.0 %, worse", "worse")
    assert delta(TTFT, summary(float("nan")), summary(2.0)) == ("", "")
    assert change_text(0.0, 3.0) == "new"
    assert change_text(1.0, 20.0) == "x20"


def test_what_a_user_wrote_is_text_and_no_markup() -> None:
    html = Card(label="<b>", value="<i>", unit="&", note='"', delta="<u>", title='"><script>').html()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;i&gt;" in html


def test_settings_that_are_alike_are_said_to_be() -> None:
    assert "Nothing" in settings_html([], {})
