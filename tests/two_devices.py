"""Runs scripts in a new process in which TensorFlow sees two CPU devices."""

from __future__ import annotations

import os
import subprocess
import sys

from conftest import ROOT

# Logical devices have to be made before TensorFlow starts.
DEVICES = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


def run_on_two_devices(script: str, *arguments: str, **environment: str) -> None:
    """Run a script, in which TensorFlow is imported as `tf`; fail with its stderr if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", DEVICES + script, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
