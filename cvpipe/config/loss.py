"""What every loss has; the losses of a task stand with it."""

from __future__ import annotations

from cvpipe.config.section import NonNegative, Section


class Loss(Section):
    """How far answers are from the truth, and what is added to it."""

    kind: str
    """Which loss."""
    l1: NonNegative = 0.0
    """l1 × the sum of the absolute values of all kernels is added; with l2 too this is the elastic
    net.
    """
    l2: NonNegative = 0.0
    """l2 × the sum of squares of all kernels is added; biases and norms are left alone."""
