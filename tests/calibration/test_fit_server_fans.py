"""The fans' speeds of the catalog are those that the fit finds."""

import pytest

from calibration.fit.server_fans import busy_reading, fan_speed, fan_speeds, idle_reading
from hardware_models import catalog
from hardware_models.server_power import server_power


def test_the_catalog_holds_what_the_fit_finds_and_says_how_far_it_may_be_off() -> None:
    h100, h200 = (server_power(catalog.node(name)) for name in ("dgx-h100", "dgx-h200"))
    rules = catalog.server_part()
    idle = fan_speed(h200, idle_reading(h200))
    still, hot = fan_speeds(idle, fan_speed(h100, busy_reading(h100)))
    assert (rules.fan_speed_still, rules.fan_speed_hot) == pytest.approx((still, hot), abs=0.001)
    least, most = (fan_speeds(idle, fan_speed(h100, busy_reading(h100, share)))[1] for share in (1.0, 0.0))
    assert f"{least:.2f} to {most:.2f}" in rules.source_of("fan_speed_hot").text


def test_a_reading_made_of_known_speeds_gives_them_back() -> None:
    server = server_power(catalog.node("dgx-h100"))
    found = [fan_speed(server, read) for read in (idle_reading(server), busy_reading(server))]
    assert all(0.0 < heat < 1.0 and 0.0 < speed < 1.0 for heat, speed in found)
    assert fan_speeds((0.2, 0.6), (0.7, 0.7)) == pytest.approx((0.56, 0.76))
