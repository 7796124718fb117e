"""Pairs of keypoints that a mirror image swaps, found by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

Pairs = tuple[tuple[int, int], ...]

# Between words: separators, changes of case as in leftEye and LEye, and between letters and digits.
_BETWEEN_WORDS = re.compile(
    r"[\W_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\D)(?=\d)|(?<=\d)(?=\D)"
)
_LETTERS = {"l": "left", "r": "right"}
_SIDE = re.compile("left|right")


def flip_pairs_of(names: Sequence[str]) -> Pairs:
    """Return the index pairs of names that differ only in left and right, left first.

    Case and separators are ignored, and the words l and r mean left and right: left_eye and
    right_eye, LeftEye and RightEye, eye_l and eye_r are pairs.
    """
    words = [" ".join(_words(name)) for name in names]
    pairs = []
    for first, name in enumerate(words):
        side, other = _SIDE.search(name), _SIDE.sub(_other_side, name)
        # Of three names that mean the same two points, none is certain to be the partner.
        if side and side[0] == "left" and words.count(name) == words.count(other) == 1:
            pairs.append((first, words.index(other)))
    return tuple(pairs)


def unpaired_sides(names: Sequence[str], pairs: Pairs) -> tuple[str, ...]:
    """Return the names that have a word for left or right, and are in none of the pairs."""
    paired = {position for pair in pairs for position in pair}
    return tuple(
        name
        for position, name in enumerate(names)
        if position not in paired
        and any(word.startswith(("left", "right")) for word in _words(name))
    )


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case, with left and right for l and r."""
    words = [word.lower() for word in _BETWEEN_WORDS.split(name) if word]
    return [_LETTERS.get(word, word) for word in words]


def _other_side(found: re.Match[str]) -> str:
    return "right" if found[0] == "left" else "left"
