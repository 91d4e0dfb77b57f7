"""A tier that has too little: which one, by how much, and what of."""

from __future__ import annotations

from hardware_models.errors import DoesNotFitError

REMEDY = {
    "GPU memory": "shorten the micro-batch, or send more to host memory",
    "host memory": "add memory, or send more to drives",
    "drives": "add drives",
}


class TierError(DoesNotFitError):
    """Raised for a plan that needs more of a tier than there is."""

    def __init__(self, tier: str, needed_bytes: float, missing_bytes: float, owners: dict[str, float]) -> None:
        self.tier, self.missing_bytes = tier, missing_bytes
        largest = sorted(owners.items(), key=lambda item: -item[1])[:4]
        what = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in largest if size)
        verb = "are" if tier == "drives" else "is"
        super().__init__(
            f"{tier} {verb} {missing_bytes / 1e9:.1f} GB short: a rank needs {needed_bytes / 1e9:.1f} GB ({what});"
            f" {REMEDY[tier]}"
        )
