"""Heads that predict the class of every pixel."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cvpipe.config.section import Section

OutputStride = Literal[1, 4]
UnpoolingKind = Literal["max", "bed_of_nails", "nearest"]


class Fcn(Section):
    """FCN: scores of the backbone's coarse maps, upsampled by transposed convolutions and added
    (Long et al. 2015). The paper's backbone is fcn_vgg16.
    """

    kind: Literal["fcn"]
    """Kind of head."""
    stride: Literal[32, 16, 8, 4] = 8
    """Stride of the finest map that is used: 32, 16 and 8 for FCN-32s, FCN-16s and FCN-8s, or 4,
    one step finer than the paper.
    """
    upsampling: Literal["learned", "fixed"] = "learned"
    """The transposed convolutions, initialized as bilinear interpolation. learned: they are
    trained. fixed: they are not.
    """
    output_stride: OutputStride = 1
    """Stride of the head's output in pixels of the image. 4 takes less time and memory than 1."""


class Unet(Section):
    """U-Net: upsampled maps are concatenated with the backbone's, from coarse to fine (Ronneberger
    et al. 2015). The paper's backbone is unet, without norm.
    """

    kind: Literal["unet"]
    """Kind of head."""
    output_stride: OutputStride = 1
    """Stride of the head's output in pixels of the image. 4 takes less time and memory than 1."""


class SegNet(Section):
    """SegNet: VGG16's convolutions and a mirrored decoder that unpools (Badrinarayanan et al.
    2015). Backbone: vgg16, here with norm.
    """

    kind: Literal["segnet"]
    """Kind of head."""
    unpooling: UnpoolingKind = "max"
    """Upsampling in the decoder. max: each value goes to the position of the encoder's maximum.
    bed_of_nails: each value goes to the upper left of four pixels. Both leave zeros elsewhere.
    nearest: each value goes to all four pixels.
    """
    output_stride: OutputStride = 1
    """Stride of the head's output in pixels of the image. 4 takes less time and memory than 1."""


class DeconvNet(Section):
    """DeconvNet: segnet with fc6 and fc7 between encoder and decoder (Noh et al. 2015).

    Backbone: vgg16, here with norm.
    """

    kind: Literal["deconvnet"]
    """Kind of head."""
    unpooling: UnpoolingKind = "max"
    """Upsampling in the decoder. max: each value goes to the position of the encoder's maximum.
    bed_of_nails: each value goes to the upper left of four pixels. Both leave zeros elsewhere.
    nearest: each value goes to all four pixels.
    """
    output_stride: OutputStride = 1
    """Stride of the head's output in pixels of the image. 4 takes less time and memory than 1."""


SegmentationHead = Annotated[Fcn | Unet | SegNet | DeconvNet, Field(discriminator="kind")]
