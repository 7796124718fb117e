"""Checks of a pipeline for an accelerator on a machine without one."""
