"""Guards documents: names given by users break neither Markdown tables nor HTML."""

from __future__ import annotations

from html.parser import HTMLParser

from cvpipe.documents import Code, Heading, Picture, Table, Text, pictures_of, to_html, to_markdown

NAME = 'a|b <script>alert("x")</script> & two\nlines'
BLOCKS = [
    Heading(1, NAME),
    Text(NAME),
    Table(["class", "f1"], [[NAME, "–"]]),
    Picture(NAME, "pictures/one.png", b"\x89PNG"),
    Code("json", '{"<": "&"}'),
]


class Reader(HTMLParser):
    """A parser that collects tags and text."""

    def __init__(self) -> None:
        """Start without tags and text."""
        super().__init__()
        self.tags, self.text = list[str](), ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect a tag."""
        self.tags.append(tag)
        self.text += dict(attrs).get("alt") or ""

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def test_a_document_is_markdown_with_its_pictures_beside_it() -> None:
    assert to_markdown([Heading(2, "One"), *BLOCKS[2:]]) == (
        "## One\n\nclass | f1\n--- | ---\n"
        'a\\|b <script>alert("x")</script> & two lines | –\n\n'
        f"![{NAME}](pictures/one.png)\n\n"
        '```json\n{"<": "&"}\n```\n'
    )
    assert pictures_of(BLOCKS) == {"pictures/one.png": b"\x89PNG"}


def test_html_shows_names_unchanged() -> None:
    reader = Reader()
    reader.feed(to_html("title", BLOCKS))
    assert "script" not in reader.tags
    assert reader.text.count(NAME) == 4
    assert '{"<": "&"}' in reader.text
    assert {"h1", "p", "table", "th", "td", "img", "pre"} <= set(reader.tags)
