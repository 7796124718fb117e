"""Keys of every loss; each task defines its own losses."""

from __future__ import annotations

from cvpipe.config.section import NonNegative, Section


class Loss(Section):
    """Training loss, with penalties on the weights."""

    kind: str
    """Kind of loss."""
    l1: NonNegative = 0.0
    """Adds l1 × the sum of the absolute values of all kernels; together with l2, the elastic net.
    """
    l2: NonNegative = 0.0
    """Adds l2 × the sum of squares of all kernels. Biases and normalization layers are excluded."""
