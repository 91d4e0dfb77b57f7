"""What a plan costs: dated list prices of GPUs and of electricity, the user's own in place of the catalog's."""

from __future__ import annotations

from dataclasses import dataclass

from hardware_models import catalog
from hardware_models.errors import FleetcastError, UnknownNameError
from hardware_models.specs import EnergyPriceTable, PriceTable

DEFAULT_REGION = "us-average"
DEFAULT_SITE = "survey-average"
HOURS_A_DAY = 24.0


@dataclass(frozen=True, slots=True)
class Prices:
    """Of GPUs and of a kilowatt-hour at the computer, the site's overhead included."""

    gpus: PriceTable
    energy: EnergyPriceTable
    region: str
    pue: float

    @classmethod
    def read(
        cls,
        gpus: str = catalog.LIST_PRICES,
        energy: str = catalog.ENERGY_PRICES,
        region: str = DEFAULT_REGION,
        pue: str | float = DEFAULT_SITE,
    ) -> Prices:
        """Catalog names or the user's own .toml files; pue: a number, or a kind of site of the table.

        Raises FleetcastError for a file or a name that is wrong.
        """
        table = catalog.energy_price(energy)
        if region not in table.usd_per_kwh:
            raise UnknownNameError(f"region in {table.name}", region, table.usd_per_kwh)
        return cls(catalog.prices(gpus), table, region, _pue(pue, table))

    def usd_per_gpu_h(self, gpu: str) -> float | None:
        """Of a GPU by its own name; None: it has no price."""
        return self.gpus.usd_per_gpu_h.get(gpu)

    @property
    def usd_per_kwh(self) -> float:
        """Of a kilowatt-hour that computers draw: the meter's price times the site's overhead."""
        return self.energy.usd_per_kwh[self.region] * self.pue

    def energy_usd_per_day(self, watts: float) -> float:
        """Of a day at so many watts."""
        return watts / 1e3 * HOURS_A_DAY * self.usd_per_kwh

    def sources(self) -> list[str]:
        """One sentence a table: its date, and how far to trust it."""
        usd, region = self.gpus, f"usd_per_kwh.{self.region}"
        power = self.energy.source_of(region)
        return [
            f"GPU prices: {usd.name} of {usd.date.isoformat()}, {usd.source['default'].grade}"
            f" ({usd.source['default'].text})",
            f"electricity: {self.energy.usd_per_kwh[self.region]:g} USD/kWh ({self.region}) x PUE {self.pue:g},"
            f" {self.energy.name} of {self.energy.date.isoformat()}, {power.grade} ({power.text}); watts are the GPUs'"
            " alone, without the rest of the server",
        ]


def _pue(pue: str | float, table: EnergyPriceTable) -> float:
    if isinstance(pue, str) and pue in table.pue:
        return table.pue[pue]
    try:
        number = float(pue)
    except ValueError:
        raise UnknownNameError(f"pue in {table.name}", str(pue), table.pue) from None
    if not 1.0 <= number <= 10.0:
        raise FleetcastError(f"pue = {number:g}: is site over computer watts; give 1 to 10")
    return number
