"""Published accounts from their own inputs, and accounts by the hour: exact, whatever pieces time is cut into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_models import catalog
from hardware_models.energy_account import HOUR_S, Bill, DayProfile, Site, embodied_kgco2e, flat, profile
from hardware_models.errors import FleetcastError, UnknownNameError

LB_PER_KG = 1.0 / 0.45359237
FRANCE = catalog.grid("france").by_hour[0]
DAY = st.lists(st.floats(0.0, 900.0), min_size=24, max_size=24)


def account(kilowatts: float, hours: float, grams: float, pue: float = 1.0) -> Bill:
    return Site(pue, flat(grams), flat(0.1)).bill([0.0, hours * HOUR_S], [kilowatts * 1e3])


# GPUs' or servers' kW, hours, g/kWh, PUE -> MWh, t: as published; stated inputs, or as remembered where none is printed
PUBLISHED = {
    "BLOOM, dynamic": (0.4, 1_082_990, FRANCE, 1.0, 433.196, 24.69),
    "BLOOM, idle": (256.646, 1000.0, FRANCE, 1.0, 256.646, 14.6),
    "BLOOM, whole project": (1163.088, 1000.0, FRANCE, 1.0, 1163.088, 66.29),
    "Strubell, BERT base": (12.04151, 79.0, 432.7, 1.58, 1.507, 1438 / LB_PER_KG / 1e3),
    "Patterson, GPT-3": (330 * 10.0, 14.8 * 24, 429.0, 1.1, 1287.0, 552.0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_accounts_follow_from_their_own_inputs(name: str) -> None:
    kilowatts, hours, grams, pue, mwh, tonnes = PUBLISHED[name]
    bill = account(kilowatts, hours, grams, pue)
    assert bill.site_kwh / 1e3 == pytest.approx(mwh, rel=0.003)
    assert bill.kgco2e / 1e3 == pytest.approx(tonnes, rel=0.003)


def test_blooms_servers_bear_the_carbon_of_being_made_that_it_published() -> None:
    hours = 1_082_990 / 8
    made = embodied_kgco2e(catalog.embodied_carbon("bloom-2022"), hours, 8)
    assert made / 1e3 == pytest.approx(11.2, rel=0.002)
    whole = made + account(0.4, 1_082_990, FRANCE).kgco2e + account(256.646, 1000.0, FRANCE).kgco2e
    assert whole / 1e3 == pytest.approx(50.5, rel=0.001)


@given(DAY, st.floats(0.0, 23.9), st.lists(st.floats(0.0, 3e5), min_size=2, max_size=12), st.floats(1.0, 2.0))
def test_a_bill_is_that_of_its_pieces_and_of_each_hour_at_its_own_figure(figures, start_hour, instants, pue) -> None:
    site = Site(pue, profile(figures), flat(0.1), start_hour)
    edges = sorted(instants)
    whole = site.bill([edges[0], edges[-1]], [1000.0])
    pieces = site.bill(edges, [1000.0] * (len(edges) - 1))
    assert pieces.kgco2e == pytest.approx(whole.kgco2e, rel=1e-9, abs=1e-6)
    assert pieces.site_j == pytest.approx(pue * whole.wall_j, rel=1e-9, abs=1e-6)
    # by hand, second for second of each hour
    hours = start_hour + np.array([edges[0], edges[-1]]) / HOUR_S
    grams = sum(
        figures[int(hour) % 24] * max(0.0, min(hours[1], hour + 1) - max(hours[0], hour))
        for hour in range(int(hours[0]), int(hours[1]) + 1)
    )
    assert whole.kgco2e == pytest.approx(grams * pue / 1e3, rel=1e-9, abs=1e-6)


def test_a_day_has_one_figure_or_twenty_four_and_an_instant_that_of_its_hour() -> None:
    day = DayProfile(tuple(map(float, range(24))))
    assert day.means([5.0, 5.0, 6.0, 30.0]) == pytest.approx([5.0, 5.0, 11.5])
    with pytest.raises(FleetcastError, match="23 figures of a day"):
        profile([1.0] * 23)
    with pytest.raises(FleetcastError, match="one rising instant more"):
        Site(1.0, flat(1.0), flat(1.0)).bill([0.0, 1.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("0.08, 0.08, 0.08, 0.08, 0.08, 0.08, 0.08, 0.12", "0.08, 0.12", "has 18 prices"),
        ("evening-peak = 0.12", "evening-peak = 0.15", "its mean over the day is 0.12"),
    ],
)
def test_prices_by_the_hour_are_refused_where_they_are_not_of_a_day(old, new, complaint, tmp_path: Path) -> None:
    text = (catalog.ROOT / "energy_prices" / "time-of-use.toml").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(FleetcastError, match=complaint):
        catalog.energy_price(str(tmp_path / "mine.toml"))
    (tmp_path / "grid.toml").write_text('name = "g"\ngco2e_per_kwh = [1.0, 2.0]\n')
    with pytest.raises(FleetcastError, match="has 2 entries; give one figure, or one for each hour"):
        catalog.grid(str(tmp_path / "grid.toml"))


def test_regions_without_hours_have_one_price_for_all() -> None:
    assert catalog.energy_price().hourly("france") == (0.14,)
    with pytest.raises(UnknownNameError, match="region in large-users"):
        catalog.energy_price().hourly("atlantis")
