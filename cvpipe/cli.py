"""The `cvpipe` command: which commands there are, and which exit code and sentence say how one
went.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 75 interrupted and resumable.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from cvpipe import __version__
from cvpipe.commands import (
    baselines,
    data,
    evaluate,
    export,
    models,
    predict,
    schema,
    serve,
    sweep,
    train,
)
from cvpipe.errors import Interrupted, UserError

# In the order in which --help lists them.
COMMANDS = (train, evaluate, export, predict, serve, data, sweep, baselines, models, schema)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        return options.command(options)
    except UserError as error:
        if options.debug:
            raise
        print(f"cvpipe {options.name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if options.name in ("train", "sweep"):
            print(
                f"\ncvpipe {options.name}: stopped at once; the same command goes on from the last"
                " checkpoint",
                file=sys.stderr,
            )
            return Interrupted.exit_code
        print(f"\ncvpipe {options.name}: stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has enough.
        sys.stderr.close()
        return 0
    except OSError as error:
        if options.debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"cvpipe {options.name}: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:
        if options.debug:
            raise
        print(
            f"cvpipe {options.name}: {type(error).__name__}: {str(error)[:2000]}\n"
            "This is no mistake we foresaw; run it again with --debug to see where it comes from",
            file=sys.stderr,
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cvpipe", description="From labelled images to a served answer on one static graph."
    )
    parser.add_argument("--version", action="version", version=f"cvpipe {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="name"
    )
    for command in COMMANDS:
        command.add(commands)
    return parser
