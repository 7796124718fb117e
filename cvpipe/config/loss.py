"""What is minimized."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.section import NonNegative, Positive, Section, Share


class Loss(Section):
    """How far scores are from labels, and what is added to it."""

    kind: Literal[
        "softmax", "hinge", "squared_hinge", "binary", "focal", "dice", "multibox", "yolo"
    ] = "softmax"
    """softmax: cross-entropy. hinge, squared_hinge: the multiclass SVM (Weston and Watkins 1999).
    binary: a cross-entropy of its own for every class, summed. focal: binary, with easy examples
    weighing less (Lin et al. 2017); every class's probability starts out at 0.01, as there. For
    detection with head ssd, multibox: the paper's softmax with background, or focal; with the
    others yolo, the paper's of each head. For segmentation, a mean over pixels: softmax; focal,
    which is −(1 − p)^γ ln p of the softmax's p there; or dice, 1 − the soft Dice coefficient, over
    the classes that an image shows (Milletari et al. 2016).
    """
    label_smoothing: Share = 0.0
    """For softmax: this share of each label is spread evenly over all classes (Szegedy et al. 2015,
    section 7).
    """
    focal_gamma: NonNegative = 2.0
    """For focal: how much less an easy example weighs."""
    focal_alpha: Share = 0.25
    """For focal: weight of the true class; the others weigh 1 − this.

    Unused for segmentation, see class_weights.
    """
    class_weights: tuple[Positive, ...] = ()
    """For segmentation with softmax or focal: what a pixel of each class weighs, in the order of
    the classes; all the same by default.
    """
    dice_weight: NonNegative = 0.0
    """For segmentation with softmax or focal: so many times the Dice loss is added."""
    hard_pixels: Annotated[float, Field(gt=0, le=1)] = 1.0
    """For segmentation with softmax or focal: the share of each image's pixels that is learned
    from, those that cost most.
    """
    box: Literal["offsets", "giou", "diou", "ciou"] = "offsets"
    """For detection, how far a box is off: offsets, by its coordinates as the head's paper does
    (smooth L1 for ssd, squares for yolo), or by an IoU that also tells apart boxes that don't touch
    (Rezatofighi et al. 2019; Zheng et al. 2019).
    """
    box_weight: NonNegative = 1.0
    """For detection: what boxes weigh against classes."""
    negatives: NonNegative = 3.0
    """For multibox: boxes without an object that are learned from, the hardest ones, for each box
    with one.
    """
    empty_weight: NonNegative = 0.5
    """For yolo: what a box without an object weighs against one with an object (Redmon et al. 2015:
    0.5).
    """
    l1: NonNegative = 0.0
    """l1 × the sum of the absolute values of all kernels is added; with l2 too this is the elastic
    net.
    """
    l2: NonNegative = 0.0
    """l2 × the sum of squares of all kernels is added; biases and norms are left alone."""

    @model_validator(mode="after")
    def _smoothing_fits(self) -> Loss:
        if self.label_smoothing and self.kind != "softmax":
            raise ValueError(
                f"label_smoothing belongs to kind: softmax, not to {self.kind}; leave it out"
            )
        return self
