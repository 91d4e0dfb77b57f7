"""Model architectures as operator lists."""
