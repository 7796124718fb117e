"""The types of one example and of the functions that read it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Example = dict[str, tf.Tensor]
"""Tensors of one example by name: its image, as "bytes" (scalar string, the encoded file) or
"image" (uint8 [H, W, C]), and its annotations, which `cvpipe.data.annotations` describes.
"""
Reader = Callable[[tf.Tensor], Example]
"""A function from a record number (int64 scalar) to the tensors that the record holds. Graph code.
"""
