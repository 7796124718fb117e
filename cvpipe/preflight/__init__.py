"""Checks of a pipeline for an accelerator, on a machine that doesn't have the accelerator."""
