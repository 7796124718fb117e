"""Training: build, start, step, loop, state and report."""
