"""Generate the command reference from the parsers that print `--help`."""

from __future__ import annotations

import argparse
import importlib
import textwrap
from collections.abc import Iterator

from cvpipe.cli import COMMANDS
from lines import shown, table

# Options of every command, which the page describes only once.
COMMON = {"help", "debug", "json"}


def commands() -> str:
    """Return a section for each command."""
    parser = argparse.ArgumentParser(prog="cvpipe")
    children = parser.add_subparsers()
    for name in COMMANDS:
        importlib.import_module(f"cvpipe.commands.{name}").add(children)
    return "\n".join(_section(child) for child in _leaves(parser))


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of commands without subcommands."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for child in action.choices.values():
            yield from _leaves(child)


def _section(parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if action.dest not in COMMON]
    words = [_usage(action) for action in actions if not action.option_strings]
    options = " [options]" if any(action.option_strings for action in actions) else ""
    usage = " ".join([parser.prog, *words]) + options
    about = _wrapped(str(parser.description))
    text = f"## {parser.prog}\n\n{about}\n\n```text\n{usage}\n```\n"
    rows = [(f"`{_name(action)}`", _help(action)) for action in actions]
    arguments = "\n" + table(("Argument", "Meaning"), rows) if rows else ""
    more = f"\n{_wrapped(parser.epilog)}\n" if parser.epilog else ""
    return f"{text}{arguments}{more}"


def _wrapped(text: str) -> str:
    lines = (textwrap.fill(line, 100) for line in text.strip().splitlines())
    return "\n".join(lines)


def _usage(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    several = {"+": f"{name} [{name} …]", "*": f"[{name} …]", "?": f"[{name}]"}
    return several.get(str(action.nargs), name)


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar or action.dest).replace("|", " or ")
    flag = next((flag for flag in action.option_strings if flag.startswith("--")), "")
    flag = flag or action.option_strings[0]
    if action.nargs == 0:
        return flag
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    return f"{flag} {action.metavar or choices or action.dest.upper()}"


def _help(action: argparse.Action) -> str:
    text = str(action.help or "") % {"default": action.default}
    return shown(text[:1].upper() + text[1:] + ".")
