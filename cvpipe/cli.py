"""The `cvpipe` command: which commands there are, and which exit code and sentence say how one
went.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 75 interrupted and resumable.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import sys
from collections.abc import Sequence

from cvpipe import __version__
from cvpipe.errors import Interrupted, UserError

# Files of `commands`, in the order in which --help lists them.
COMMANDS = (
    "init",
    "train",
    "evaluate",
    "compare",
    "export",
    "verify",
    "predict",
    "serve",
    "data",
    "sweep",
    "mistakes",
    "baselines",
    "explain",
    "attack",
    "certify",
    "corrupt",
    "visualize",
    "style",
    "preflight",
    "models",
    "schema",
    "info",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    _write_any_text()
    # Answering an image shouldn't wait for the imports of all other commands.
    named = [name for name in COMMANDS if name == next(iter(words), None)]
    options = _parser(named or COMMANDS, words).parse_args(words)
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
        # The reader of the output closed it, such as `head`.
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


def _write_any_text() -> None:
    """Write as escapes what an output's encoding lacks, such as a class name in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser(names: Sequence[str], words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cvpipe", description="From labeled images to a served answer on one static graph."
    )
    parser.add_argument("--version", action="version", version=f"cvpipe {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="name"
    )
    for name in names:
        command = importlib.import_module(f"cvpipe.commands.{name}")
        command.add(commands)
        if hasattr(command, "add_settings"):
            # Options that depend on what the command is given.
            command.add_settings(commands.choices[name], words)
    return parser


if __name__ == "__main__":
    sys.exit(main())
