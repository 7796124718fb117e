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
    from pydantic import TypeAdapter

    from cvpipe.config import Pipeline

    print(json.dumps(TypeAdapter(Pipeline).json_schema(), indent=2))
    return 0
