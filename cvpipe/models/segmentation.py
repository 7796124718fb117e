"""Construction of segmentation networks from a configuration."""

from __future__ import annotations

import keras

from cvpipe.config import Segmentation
from cvpipe.config.segmentation_heads import DeconvNet, Fcn, SegNet, Unet
from cvpipe.models import segmenters
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone


def segmentation_network(config: Segmentation, classes: int, style: Style) -> keras.Model:
    """Build the segmenter with initial weights: float32 [B, H, W, C] to "logits", float32
    [B, ceil(H / s), ceil(W / s), classes].

    s is the head's `output_stride`.

    Raises:
        ConfigError: the backbone lacks a map that the head needs, or the image is too small.
    """
    model, head = config.model, config.model.head
    shape = (*config.prepare.size, config.prepare.channels)
    normalize = None if config.prepare.normalize == "given" else config.prepare
    match head:
        case Fcn():
            return segmenters.fcn(
                backbone(model.backbone, model.cells),
                shape,
                classes,
                stride=head.stride,
                learned=head.upsampling == "learned",
                output_stride=head.output_stride,
                dropout=model.dropout,
                width=model.width,
                style=style,
                normalize=normalize,
            )
        case Unet():
            return segmenters.unet(
                backbone(model.backbone, model.cells),
                shape,
                classes,
                output_stride=head.output_stride,
                dropout=model.dropout,
                width=model.width,
                style=style,
                normalize=normalize,
            )
        case SegNet() | DeconvNet():
            network = segmenters.segnet if isinstance(head, SegNet) else segmenters.deconvnet
            return network(
                shape,
                classes,
                unpooling=head.unpooling,
                output_stride=head.output_stride,
                dropout=model.dropout,
                width=model.width,
                style=style,
                normalize=normalize,
            )
