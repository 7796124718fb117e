"""`cvpipe completion`, and the answers to a shell that completes a command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from cvpipe.commands.command import add_command, add_examples

SHELLS = ("bash", "zsh", "fish")
COMPLETING = "_ARGCOMPLETE"
"""Environment variable that is set while a shell asks for completions."""


def add(commands: Any) -> None:
    """Declare the command."""
    text = "print a script with which a shell completes commands, options and files"
    parser = add_command(commands, "completion", completion, text, as_json=False)
    add_examples(
        parser,
        'eval "$(cvpipe completion bash)"      # in ~/.bashrc',
        'eval "$(cvpipe completion zsh)"       # in ~/.zshrc, after compinit',
        "cvpipe completion fish | source       # in ~/.config/fish/config.fish",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def completion(options: argparse.Namespace) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["cvpipe"], shell=options.shell))
    return 0


def complete(make_parser: Callable[[Sequence[str]], argparse.ArgumentParser]) -> None:
    """Answer the shell that asks for completions of a line, and end the process.

    Args:
        make_parser: returns the parser, given the words before the one that is completed.
    """
    from argcomplete import autocomplete
    from argcomplete.lexers import split_line

    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    # COMP_POINT counts bytes, not characters.
    begun = line.encode()[:point].decode(errors="ignore")
    words: list[str] = split_line(begun)[3]
    autocomplete(make_parser(words[1:]))
