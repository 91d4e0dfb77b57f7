"""How far calibrated kernels are off: on sizes kept out of their fits, on other benchmarks, on other devices."""
