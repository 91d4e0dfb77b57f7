"""A small continuous-batching server that really runs, on the simulator's own scheduling policies: end-to-end truth."""
