"""The Power page as a user meets it: a row against its limit, who is slowed, and what cannot be."""

from typing import Any

from browser_steps import card, open_page, set_number, shoot

SHORT = "workload.duration_s=300&power.provisioned_nodes=36"


def test_a_row_shows_its_watts_and_a_policy_without_anybody_to_slow_is_refused(
    server: Any, page: Any, look: Any
) -> None:
    open_page(page, f"{server.url}/power?{SHORT}")
    assert page.get_by_text("Power of the row against its limit").is_visible()
    assert page.get_by_text("row power, kW: mean", exact=False).is_visible()
    peak = float(card(page, "row power, highest reading of its limit"))
    assert 50.0 < peak < 100.0
    shoot(page, "power")
    assert look.complaints == []
    set_number(page, "low_priority_replicas", 0)
    page.get_by_text("caps servers of low priority first, and there are none", exact=False).first.wait_for()
    assert page.get_by_text("Below is the last answer, to other settings.").is_visible()
    assert float(card(page, "row power, highest reading of its limit")) == peak
