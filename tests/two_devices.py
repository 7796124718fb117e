"""Scripts that see this processor as two devices, in a new process."""

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
    """Run a script, which finds TensorFlow as `tf`; fail with its errors unless it ends well."""
    done = subprocess.run(
        [sys.executable, "-c", DEVICES + script, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
