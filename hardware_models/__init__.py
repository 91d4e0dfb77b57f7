"""Hardware models: how long, and bound by what, an operator takes on a device or a link."""
