"""From measurements to the fitted parameters of `hardware_models/calibrated/`."""
