"""How long each kind of kernel takes: one vectorised formula a file, its parameters as shares of the data sheet."""
