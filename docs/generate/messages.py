"""Generate the tables of error messages from the code that raises them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from lines import shown, table

PACKAGE = Path(__file__).parents[2] / "cvpipe"
# Folders and files of the package, grouped by the area in which users meet their errors.
AREAS = {
    "Commands": ("commands/", "cli", "runtime", "baselines", "search/"),
    "Pipeline files": ("config", "models/", "losses/", "tasks/", "geometry/"),
    "Data": ("data/", "text_files", "yaml_files"),
    "Training and evaluation": ("training/", "evaluation"),
    "Export": ("export/",),
}
ERRORS = {"ConfigError", "DataError", "UserError", "Interrupted", "ValueError", "misfit"}
# In this folder, configuration sections raise ValueError with messages for users.
CHECKED = "config/"
ADVICE = "(?:set|choose|give|ask|take|find)"


def messages() -> str:
    """Return a table of messages and advice for each area, with … in place of names and numbers."""
    found = sorted(set(_messages()))
    parts = []
    for area, places in AREAS.items():
        rows = [
            _split(text)
            for place, text in found
            if any(place.startswith(prefix) for prefix in places)
        ]
        # A message without fixed words is composed elsewhere.
        rows = [row for row in rows if all(re.search(r"\w", cell) for cell in row)]
        parts.append(f"### {area}\n\n{table(('Message', 'What to do'), sorted(set(rows)))}")
    return "\n".join(parts)


def _messages() -> Iterator[tuple[str, str]]:
    """Yield the file and the text of each message that includes advice."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            name = getattr(node.exc.func, "id", "")
            if name not in ERRORS or (name == "ValueError" and not place.startswith(CHECKED)):
                continue
            text = _text(node.exc.args[-1]) if node.exc.args else ""
            if re.search(r"; \w|\. [A-Z]", text) or re.search(rf": {ADVICE} ", text):
                yield place, text


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


def _split(text: str) -> tuple[str, str]:
    """Split a message and return the problem and the advice."""
    plain = re.sub(r"…(?:[^\w\s]?…)+", "…", " ".join(text.split())).replace("`", "'")
    wrong, mark, advice = plain.rpartition("; ")
    # A semicolon in parentheses doesn't separate problem and advice.
    if not mark or advice.count(")") > advice.count("("):
        wrong, mark, advice = plain.partition(". ")
    if not mark:
        wrong, mark, advice = plain.rpartition(": ")
    advice = advice.removeprefix("…. ").strip(" :")
    if not advice.startswith("cvpipe"):
        advice = advice[:1].upper() + advice[1:]
    end = "" if advice.endswith((".", "?")) else "."
    return f"`{wrong.removeprefix('…: ')}`", shown(f"{advice}{end}")
