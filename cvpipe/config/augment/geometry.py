"""Mirroring, and distortions of the whole image."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cvpipe.config.augment.augmentation import Augmentation, Degrees, Fill
from cvpipe.config.section import Probability


class Flip(Augmentation):
    """Mirror left and right, or top and bottom."""

    op: Literal["flip"]
    """Kind of operation."""
    direction: Literal["horizontal", "vertical"] = "horizontal"
    """horizontal: swap left and right. vertical: swap top and bottom."""
    probability: Probability = 0.5
    """Probability of a change."""


class Rotate(Augmentation):
    """Rotate around the center by a uniformly random angle."""

    op: Literal["rotate"]
    """Kind of operation."""
    degrees: Degrees = 15.0
    """Largest angle in either direction."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


class Translate(Augmentation):
    """Move by a uniformly random distance."""

    op: Literal["translate"]
    """Kind of operation."""
    share: Probability = 0.1
    """Largest distance in either direction, as a share of height and of width."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


class Shear(Augmentation):
    """Shear horizontally around the center by a uniformly random angle."""

    op: Literal["shear"]
    """Kind of operation."""
    degrees: Annotated[float, Field(ge=0, le=60)] = 10.0
    """Largest angle in either direction."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


class Lens(Augmentation):
    """Distort like a lens: barrel or pincushion distortion by a uniformly random amount (Brown
    1966, first radial term).
    """

    op: Literal["lens"]
    """Kind of operation."""
    strength: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest increase or decrease of the scale at the corners, as a share."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


class Elastic(Augmentation):
    """Deform smoothly by random displacements on a coarse grid (Simard et al. 2003; Ronneberger et
    al. 2015, U-Net).
    """

    op: Literal["elastic"]
    """Kind of operation."""
    share: Annotated[float, Field(ge=0, le=0.2)] = 0.02
    """Standard deviation of the vertical and horizontal displacements, as a share of the image's
    shorter side (U-Net: 10 of 512 pixels).
    """
    points: Annotated[int, Field(ge=2, le=32)] = 3
    """Number of grid points along each side. Fewer points give a smoother deformation.

    If the displacements of adjacent points differ by more than the distance between the points, the
    image folds.
    """
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """
