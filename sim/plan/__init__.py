"""Searches that simulate: capacity under a service-level objective."""
