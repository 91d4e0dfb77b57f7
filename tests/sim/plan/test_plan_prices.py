"""Prices and electricity: dated tables that the user may replace, and what they are worth a day."""

import pytest

from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from sim.plan.prices import Prices

TABLE = 'name = "mine"\ndate = 2026-01-01\n[usd_per_gpu_h]\nh100-sxm = 1.25\n'
SOURCE = '[source]\ndefault = { grade = "quoted", text = "our contract" }\n'
ENERGY = 'name = "grid"\ndate = 2026-02-01\n[usd_per_kwh]\nhome = 0.3\n[pue]\nshed = 1.2\n'


def test_a_kilowatt_hour_costs_the_meter_s_price_times_the_site_s_overhead():
    prices = Prices.read(region="ireland", pue="hyperscale")
    table = catalog.energy_price()
    assert prices.usd_per_kwh == pytest.approx(table.usd_per_kwh["ireland"] * table.pue["hyperscale"])
    assert prices.energy_usd_per_day(1000.0) == pytest.approx(24 * prices.usd_per_kwh)


def test_the_user_s_own_tables_are_read(tmp_path):
    (tmp_path / "p.toml").write_text(TABLE + SOURCE)
    (tmp_path / "e.toml").write_text(ENERGY + SOURCE)
    prices = Prices.read(str(tmp_path / "p.toml"), str(tmp_path / "e.toml"), "home", "1.1")
    assert prices.usd_per_gpu_h("h100-sxm") == 1.25
    assert prices.usd_per_gpu_h("l40s") is None
    assert prices.usd_per_kwh == pytest.approx(0.33)
    assert all("our contract" in sentence for sentence in prices.sources())
    assert "2026-01-01" in prices.sources()[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE, "no source given"),
        (TABLE.replace("date = 2026-01-01\n", "") + SOURCE, "missing key 'date'"),
        (TABLE.replace("1.25", "-1.0") + SOURCE, "usd_per_gpu_h.h100-sxm"),
        (TABLE.replace("1.25", "'free'") + SOURCE, "usd_per_gpu_h.h100-sxm"),
        ("usd = [", "not valid TOML"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path, text, message):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(FleetcastError, match=message):
        Prices.read(str(tmp_path / "p.toml"))


def test_unknown_regions_sites_and_files_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'ireland'"):
        Prices.read(region="irland")
    with pytest.raises(UnknownNameError, match="did you mean 'hyperscale'"):
        Prices.read(pue="hyper-scale")
    with pytest.raises(FleetcastError, match="give 1 to 10"):
        Prices.read(pue=0.5)
    with pytest.raises(FleetcastError, match="cannot be read"):
        Prices.read(str(tmp_path / "none.toml"))
    (tmp_path / "e.toml").write_text('name = "x"\ndate = 2026-01-01\n' + SOURCE)
    with pytest.raises(FleetcastError, match="missing key"):
        Prices.read(energy=str(tmp_path / "e.toml"))


def test_every_figure_of_the_electricity_table_is_dated_and_graded():
    table = catalog.energy_price()
    assert table.date.year >= 2024
    for region in table.usd_per_kwh:
        assert table.source_of(f"usd_per_kwh.{region}").grade == "assumed"  # remembered, not looked up
    assert all(1.0 <= pue < 2.0 for pue in table.pue.values())
