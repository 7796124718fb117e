"""Packed data: any source as a few large ArrayRecord files with random access."""
