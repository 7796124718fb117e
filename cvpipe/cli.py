"""The `cvpipe` command line: subcommands, error messages and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 75 interrupted and resumable.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import select
import sys
from collections.abc import Sequence
from typing import Any

from cvpipe import __version__
from cvpipe.commands.command import tidy_output_folders
from cvpipe.commands.completion import COMPLETING, complete
from cvpipe.console import discard, print_message
from cvpipe.errors import Interrupted, UserError, nearest

# Modules of `cvpipe.commands`, in the order of --help.
COMMANDS = (
    "init",
    "train",
    "evaluate",
    "compare",
    "export",
    "verify",
    "benchmark",
    "predict",
    "serve",
    "data",
    "sweep",
    "mistakes",
    "baselines",
    "explain",
    "inspect",
    "attack",
    "certify",
    "corrupt",
    "visualize",
    "style",
    "preflight",
    "models",
    "schema",
    "info",
    "completion",
)


class _Once(logging.Filter):
    """Drops warnings about data that the command has already logged: `init` reads the files to
    detect the format and again to measure them, and `train` once more.
    """

    def __init__(self) -> None:
        super().__init__("cvpipe.data")
        self._seen = set[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True for a record to log."""
        # A server logs other sentences without end, so they aren't collected.
        if not super().filter(record):
            return True
        text = record.getMessage()
        is_new = text not in self._seen
        self._seen.add(text)
        return is_new


class _Parser(argparse.ArgumentParser):
    """Parser whose error about an unknown option names the most similar option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse arguments; exit with code 2 if some are unknown."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = unknown[0].startswith("-") and nearest(
                unknown[0].partition("=")[0], self._option_string_actions
            )
            said = f"; did you mean {near}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{said}")
        return options, unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    _write_any_text()
    if COMPLETING in os.environ:
        complete(_parser_of)
    options = _parser_of(words).parse_args(words)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Once())
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[handler])
    try:
        code: int = options.command(options)
        print(end="", flush=True)
        return code
    except UserError as error:
        if options.debug:
            raise
        print_message(f"cvpipe {options.name}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        if options.name in ("train", "sweep"):
            print_message(
                f"\ncvpipe {options.name}: stopped at once; the same command resumes from the last"
                " checkpoint"
            )
            return Interrupted.exit_code
        if options.name == "data pack" or (options.name == "predict" and options.to):
            print_message(f"\ncvpipe {options.name}: stopped; the same command resumes")
            return Interrupted.exit_code
        print_message(f"\ncvpipe {options.name}: stopped")
        return 1
    except OSError as error:
        # A program that has read enough of the output, such as `head`, is no failure.
        if isinstance(error, BrokenPipeError) and _is_stdout_broken():
            discard(sys.stdout)
            return 0
        if options.debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print_message(f"cvpipe {options.name}: {where}{error.strerror or error}")
        return 1
    except Exception as error:
        if options.debug:
            raise
        print_message(
            f"cvpipe {options.name}: {type(error).__name__}: {str(error)[:2000]}\nThis error is"
            " unexpected; run the command again with --debug to see its origin"
        )
        return 1
    finally:
        tidy_output_folders()


def _is_stdout_broken() -> bool:
    """Return True if stdout is a pipe whose reader has ended."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except OSError:  # a stream without a descriptor
        return False
    return bool(poll.poll(0))


def _write_any_text() -> None:
    """Escape characters that the encoding of stdout or stderr can't represent."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser_of(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command that the first word names, or of all commands if it names
    none.
    """
    # Only the named command is imported, so that `predict` starts quickly.
    named = [name for name in COMMANDS if name == next(iter(words), None)]
    return _parser(named or COMMANDS, words)


def _parser(names: Sequence[str], words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="cvpipe", description="Train, evaluate, export and serve vision models.")
    parser.add_argument("--version", action="version", version=f"cvpipe {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, dest="name"
    )
    for name in names:
        command = importlib.import_module(f"cvpipe.commands.{name}")
        command.add(commands)
        if hasattr(command, "add_settings"):
            # These options depend on other arguments of the command.
            command.add_settings(commands.choices[name], words)
    return parser


if __name__ == "__main__":
    sys.exit(main())
