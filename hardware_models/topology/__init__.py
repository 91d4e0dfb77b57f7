"""Networks as data: which links lie between two devices, who shares them, and what groups of ranks have of them."""
