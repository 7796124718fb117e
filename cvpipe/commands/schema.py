"""`cvpipe schema`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cvpipe.commands.command import add_command


def add(commands: Any) -> None:
    """Declares the command."""
    add_command(
        commands,
        "schema",
        schema,
        "print the JSON schema of pipeline files, for editors",
        as_json=False,
    )


def schema(options: argparse.Namespace) -> int:
    """Prints the schema."""
    from cvpipe.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False))
    return 0
