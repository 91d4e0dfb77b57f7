"""Transfers that share links, on the clock."""
