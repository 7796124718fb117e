"""Keys of every loss; the losses of a task stand with it."""

from __future__ import annotations

from cvpipe.config.section import NonNegative, Section


class Loss(Section):
    """Distance between answers and the truth, and penalties that are added to it."""

    kind: str
    """Kind of loss."""
    l1: NonNegative = 0.0
    """l1 × the sum of the absolute values of all kernels is added; with l2 too this is the elastic
    net.
    """
    l2: NonNegative = 0.0
    """l2 × the sum of squares of all kernels is added; biases and norms are left alone."""
