"""`cvpipe schema`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cvpipe.commands.command import add_command, add_examples


def add(commands: Any) -> None:
    """Declare the command."""
    command = add_command(
        commands,
        "schema",
        schema,
        "print the JSON schema of pipeline files, for editors",
        as_json=False,
    )
    add_examples(command, "cvpipe schema > schema.json")
    command.add_argument(
        "--markdown", action="store_true", help="print the configuration reference instead"
    )


def schema(options: argparse.Namespace) -> int:
    """Print the schema, or the reference made from it."""
    from pydantic import TypeAdapter

    from cvpipe.config import Pipeline
    from cvpipe.config_reference import reference

    found = TypeAdapter(Pipeline).json_schema()
    print(reference(found) if options.markdown else json.dumps(found, indent=2))
    return 0
