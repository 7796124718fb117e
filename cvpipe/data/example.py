"""The types of examples, of batches, and of the functions that make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Example = dict[str, tf.Tensor]
"""Tensors of one example by name: its image, as "bytes" (scalar string, the encoded file) or
"image" (uint8 [H, W, C]), and its annotations, which `cvpipe.data.annotations` describes.
"""
Reader = Callable[[tf.Tensor], Example]
"""A function from a record number (int64 scalar) to the tensors that the record holds. Graph code.
"""
Encode = Callable[[Example], dict[str, tf.Tensor]]
"""A function from an example to the targets that a task learns from. Graph code."""
Batch = dict[str, Any]
"""Tensors of a batch, or of one example on its way into a batch, by name. `cvpipe.data.stream`
describes them.
"""
