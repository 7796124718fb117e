"""Guards the direction of imports: they follow the order in CONTRIBUTING.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

# A module may import modules before it in this list or in its own entry.
ORDER = [
    {"errors"},
    {
        "atomic_write",
        "console",
        "grpc_messages",
        "json_files",
        "markdown",
        "yaml_files",
        "text_files",
        "user_paths",
        "interrupt",
        "ranges",
        "storage",
    },
    {"documents"},
    {"models.catalog"},
    {"config"},
    {"config_sections", "config_reference"},
    {"config_errors"},
    {"config_file"},
    {"runtime"},
    {"geometry"},
    {"fields", "pictures.drawing"},
    {"data"},
    {"answers"},
    {"pictures"},
    {"models"},
    {"init"},
    {"losses", "metrics"},
    {"tasks"},
    {"evaluation"},
    {"mistakes"},
    {"explain", "synthesis"},
    {"training"},
    {"search", "baselines"},
    {"export"},
    {"prediction"},
    {"benchmark"},
    {"preflight"},
    {"serving"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
MODULES = sorted(
    path
    for path in (ROOT / "cvpipe").rglob("*.py")
    if path.name != "__init__.py" or path.parent.name != "cvpipe"
)


def place(module: str) -> int:
    """Return the position of a module such as "data.stream" in ORDER, by its longest prefix."""
    found = [
        (len(name), position)
        for position, names in enumerate(ORDER)
        for name in names
        if f"{module}.".startswith(f"{name}.")
    ]
    assert found, f"{module} has no place in the order"
    return max(found)[1]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cvpipe"):
            if node.module == "cvpipe":
                # Names that aren't modules, such as the version, count as the package.
                yield from (alias.name for alias in node.names if not alias.name.startswith("_"))
            else:
                yield node.module.removeprefix("cvpipe.")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_import_only_earlier_modules_of_the_order(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT / "cvpipe").with_suffix("").parts).removesuffix(
        ".__init__"
    )
    for other in imported(path):
        assert place(other) <= place(module), f"{module} imports {other}"


def test_the_command_line_is_last_in_the_order() -> None:
    assert place("cli") > max(
        place(name) for name in ("data.stream", "training.train", "serving.server")
    )
