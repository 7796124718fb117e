"""Packed data: any source as a few large ArrayRecord files that are read by number."""
