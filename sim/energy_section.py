"""[energy]: what electricity costs and emits where the computers stand, and from which hour of the day."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from hardware_models import catalog
from hardware_models.energy_account import Bill, Site, flat, profile
from hardware_models.errors import UnknownNameError
from hardware_models.site_specs import EmbodiedSpec
from hardware_models.specs import HOURS, Spec
from sim.power_section import PowerSection
from sim.section import Section

US_AVERAGE = "us-average"
CPU_SHARE: float = PowerSection.model_fields["cpu_share"].default  # of servers in use, where nothing is said


class EnergySection(Section):
    """[energy]: absent, an average American site; it prices a run, and changes nothing in it."""

    grid: str = Field(
        default=US_AVERAGE,
        min_length=1,
        description="what a kilowatt-hour emits, by the hour of the day: a catalog name, or the path of a grid file",
    )
    gco2e_per_kwh: float | None = Field(
        default=None, ge=0, le=5000, description="the same as one figure, in place of the grid's; absent: the grid's"
    )
    price: str = Field(
        default=catalog.ENERGY_PRICES,
        min_length=1,
        description="table of electricity prices: a catalog name, or the path of a file",
    )
    region: str = Field(default=US_AVERAGE, min_length=1, description="whose price of that table")
    usd_per_kwh: float | None = Field(
        default=None, ge=0, le=100, description="the same as one figure, in place of the table's; absent: the table's"
    )
    site: str = Field(
        default="survey-average", min_length=1, description="kind of site of that table, which has its PUE"
    )
    pue: float | None = Field(
        default=None, ge=1, le=10, description="watts of the site over those of its computers; absent: as of its kind"
    )
    start_hour: float = Field(default=0.0, ge=0, lt=HOURS, description="local hour of the day at which the run begins")
    embodied: str | None = Field(
        default=None,
        min_length=1,
        description="carbon of making the servers: a catalog name, or the path of a file; absent: not counted",
    )

    def site_of(self) -> Site:
        """What an account needs of it; raises FleetcastError for a name that no catalog has."""
        grams = profile(catalog.grid(self.grid).by_hour) if self.gco2e_per_kwh is None else flat(self.gco2e_per_kwh)
        prices = catalog.energy_price(self.price)
        usd = profile(prices.hourly(self.region)) if self.usd_per_kwh is None else flat(self.usd_per_kwh)
        if self.pue is None and self.site not in prices.pue:
            raise UnknownNameError(f"energy.site in {prices.name}", self.site, prices.pue)
        pue = prices.pue[self.site] if self.pue is None else self.pue
        return Site(pue, grams, usd, self.start_hour)

    def embodied_of(self) -> EmbodiedSpec | None:
        """What making a server emitted; None where it is not counted."""
        return None if self.embodied is None else catalog.embodied_carbon(self.embodied)

    def check_names(self) -> None:
        """Raise FleetcastError for a name that no catalog has, or a file that is wrong."""
        self.site_of()
        self.embodied_of()

    def own_files(self) -> list[Spec]:
        """Tables that are the user's own, as they read now."""
        tables: list[tuple[str | None, Callable[[str], Spec]]] = [
            (self.grid, catalog.grid),
            (self.price, catalog.energy_price),
            (self.embodied, catalog.embodied_carbon),
        ]
        return [read(name) for name, read in tables if name is not None and name.endswith(".toml")]

    def terms(self, bill: Bill) -> dict[str, float | str]:
        """At what energy was counted; of figures that follow the hours, their mean over what was drawn."""
        own = self.gco2e_per_kwh is not None
        return {
            "grid": f"{self.gco2e_per_kwh:g} g/kWh" if own else self.grid,
            "pue": self.site_of().pue,
            "gco2e_per_kwh": bill.kgco2e * 1e3 / bill.site_kwh,
            "usd_per_kwh": bill.usd / bill.site_kwh,
        }

    def grades(self) -> dict[str, str]:
        """What prices and carbon rest on; figures that the scenario itself gives have none."""
        found: dict[str, str] = {}
        if self.gco2e_per_kwh is None:
            found["grid"] = catalog.grid(self.grid).source["default"].grade
        prices = catalog.energy_price(self.price)
        if self.usd_per_kwh is None:
            found["price"] = prices.source_of(f"usd_per_kwh.{self.region}").grade
        if self.pue is None:
            found["pue"] = prices.source_of(f"pue.{self.site}").grade
        if (embodied := self.embodied_of()) is not None:
            found["embodied"] = embodied.source["default"].grade
        return found
