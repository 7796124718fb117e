"""Checks of a pipeline for an accelerator, without having one."""
