"""Guards docs/detection.md: servers take its requests."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import tensorflow as tf

from conftest import ROOT
from cvpipe import config_file
from cvpipe.serving.rest import parse_request, to_arrays
from cvpipe.tasks.detection import options_of

PAGE = (ROOT / "docs/detection.md").read_text(encoding="utf-8")
REQUESTS = [
    parse_request(text.replace("…", "AAAA").encode())
    for text in re.findall(r"```json\n(.*?)```", PAGE, re.S)
]


def specs() -> dict[str, tf.TensorSpec]:
    """Return the inputs of a detector's signature."""
    config: Any = config_file.load(ROOT / "pipelines/detection/digit_scenes_ssd.yaml")
    options = {
        name: tf.TensorSpec([], tf.constant(option.default).dtype)
        for name, option in options_of(config).items()
    }
    return {"image_bytes": tf.TensorSpec([None], tf.string), **options}


def test_the_request_in_the_row_format_sets_an_option() -> None:
    (request,) = (each for each in REQUESTS if each.row_form)
    arrays = to_arrays(request, specs(), optional=specs().keys() - {"image_bytes"})
    np.testing.assert_allclose(arrays["score_threshold"], 0.3)
    assert arrays["image_bytes"].shape == (1,)


def test_the_request_in_the_column_format_needs_no_defaults() -> None:
    # TensorFlow Serving's REST API refuses a request without all inputs of the signature, and makes
    # scalars in instances a tensor [B].
    (request,) = (each for each in REQUESTS if not each.row_form)
    assert to_arrays(request, specs(), optional=()).keys() == specs().keys()
