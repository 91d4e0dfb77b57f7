"""Ways to keep a training's power from swinging (Choukse et al., arXiv 2508.14318), by the names a scenario uses."""

from policies.power.smoothing.base import GpuBounds, NoSmoothing, Smoothing, Stored
from policies.power.smoothing.power_floor import PowerFloor
from policies.power.smoothing.rack_storage import RackStorage
from policies.power.smoothing.secondary_kernel import SecondaryKernel

SMOOTHING: dict[str, type[Smoothing]] = {
    "none": NoSmoothing,
    "power_floor": PowerFloor,
    "rack_storage": RackStorage,
    "secondary_kernel": SecondaryKernel,
}

__all__ = [
    "SMOOTHING",
    "GpuBounds",
    "NoSmoothing",
    "PowerFloor",
    "RackStorage",
    "SecondaryKernel",
    "Smoothing",
    "Stored",
]
