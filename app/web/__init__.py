"""The what-if app: pages over the commands' own code."""
