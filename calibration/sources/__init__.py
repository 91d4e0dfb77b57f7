"""Published operator measurements, read into the same tables as our own."""
