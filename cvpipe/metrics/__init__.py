"""Metrics by task, computed in NumPy."""
