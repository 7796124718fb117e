"""Guards the settings of a process: determinism is on unless a pipeline turns it off."""

from __future__ import annotations

import subprocess
import sys

from conftest import DIGITS

ASK = """
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
        [sys.executable, "-c", ASK, str(DIGITS)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]
