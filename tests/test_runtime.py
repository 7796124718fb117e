"""Guards the settings of a process: determinism is on unless a pipeline turns it off, and
TensorFlow's warnings about retracing are silenced.
"""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import tensorflow as tf

from conftest import DIGITS

SCRIPT = """
import sys
from cvpipe import config_file
from cvpipe.runtime import prepare_process
for overrides in (["train.deterministic=false"], []):
    prepare_process(config_file.load(sys.argv[1], overrides))
    from tensorflow.python.framework.config import is_op_determinism_enabled
    print(is_op_determinism_enabled())
"""


def test_operations_are_deterministic_unless_the_pipeline_says_otherwise() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(DIGITS)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_warnings_about_retracing_are_silenced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trace() -> None:
        for _ in range(6):
            # Each is a new function of the same code, as when a stream is built again.
            tf.function(lambda number: number + 1)(tf.constant(1))

    def trace_others() -> None:
        # TensorFlow warns about the same code twice at most.
        for _ in range(6):
            tf.function(lambda number: number + 2)(tf.constant(1))

    logger = tf.get_logger()
    monkeypatch.setattr(logger, "propagate", True)
    trace()
    logger.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    with monkeypatch.context() as without:
        without.setattr(logger, "filters", [])
        trace_others()
    assert "retracing" in caplog.records[-1].getMessage()
    assert caplog.records[-1].levelno == logging.WARNING
