"""Documents of headings, texts, tables, pictures and code, as Markdown or as one HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cvpipe.markdown import table

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #8884; }
td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; background: white; border-radius: 4px; }
body > img { display: block; margin: 1rem 0; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; flex: 0 1 auto; max-width: 28rem; }
figcaption { font-size: .8rem; line-height: 1.3; overflow-wrap: anywhere; white-space: pre-line; }
pre { overflow: auto; padding: 1rem; background: #8882; border-radius: 4px; }
"""


class Heading(NamedTuple):
    """A heading. Level 1 is the title of the document."""

    level: int
    text: str


class Text(NamedTuple):
    """A paragraph of plain text."""

    text: str


class Table(NamedTuple):
    """Rows of cells below a row of column titles."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A PNG or JPEG file."""

    title: str
    name: str
    """Path relative to the document, ending in .png or .jpg."""
    content: bytes


class Gallery(NamedTuple):
    """Pictures side by side, each with its title below."""

    pictures: Sequence[Picture]


class Code(NamedTuple):
    """Preformatted text."""

    language: str
    text: str


Block = Heading | Text | Table | Picture | Gallery | Code


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return a document as Markdown that links to its pictures."""
    lines: list[str] = []
    for block in blocks:
        match block:
            case Heading(level, text):
                lines += [f"{'#' * level} {text}", ""]
            case Text(text):
                lines += [text, ""]
            case Table(head, rows):
                lines += [*table(head, rows), ""]
            case Picture(title, name, _):
                lines += [f"![{title}]({name})", ""]
            case Gallery(pictures):
                for title, name, _ in pictures:
                    lines += [f"![{title}]({name})", "", title, ""]
            case Code(language, text):
                lines += [f"```{language}", text, "```", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return a document as a single HTML file with embedded pictures."""
    body = "\n".join(map(_html, blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def pictures_of(blocks: Sequence[Block]) -> Mapping[str, bytes]:
    """Return the files of a document's pictures by path."""
    found: dict[str, bytes] = {}
    for block in blocks:
        match block:
            case Picture(_, name, content):
                found[name] = content
            case Gallery(pictures):
                found |= {picture.name: picture.content for picture in pictures}
    return found


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Table(head, rows):
            lines = [_row("th", head), *(_row("td", row) for row in rows)]
            return "<table>\n" + "\n".join(lines) + "\n</table>"
        case Picture():
            return _image(block)
        case Gallery(pictures):
            return '<div class="gallery">\n' + "\n".join(map(_figure, pictures)) + "\n</div>"
        case Code(_, text):
            return f"<pre>{html.escape(text)}</pre>"


def _image(picture: Picture) -> str:
    kind = "jpeg" if picture.name.endswith(".jpg") else "png"
    coded = base64.b64encode(picture.content).decode("ascii")
    return f'<img alt="{html.escape(picture.title)}" src="data:image/{kind};base64,{coded}">'


def _figure(picture: Picture) -> str:
    # <wbr> allows line breaks after slashes. Otherwise browsers break long paths within names.
    caption = html.escape(picture.title).replace("/", "/<wbr>")
    return f"<figure>{_image(picture)}<figcaption>{caption}</figcaption></figure>"


def _row(tag: str, cells: Sequence[str]) -> str:
    inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inner}</tr>"
