"""Fonts of pictures, and the warning of letters that they lack."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterator

from matplotlib import font_manager, rcParams

log = logging.getLogger(__name__)

# Fonts with Chinese, Japanese or Korean characters, which matplotlib's default font lacks.
EAST_ASIAN = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Source Han Sans",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "IPAexGothic",
    "TakaoGothic",
    "NanumGothic",
    "Droid Sans Fallback",
    "Unifont",
)


def use_more_fonts() -> None:
    """Let matplotlib use other fonts of this machine for characters that its default font lacks."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    more = [name for name in EAST_ASIAN if name in installed]
    # A font chosen in a matplotlibrc file is kept.
    if rcParams["font.family"] == ["sans-serif"]:
        rcParams["font.family"] = ["sans-serif", *more]


@contextlib.contextmanager
def one_warning_of_fonts() -> Iterator[None]:
    """Context that warns only once of missing characters. matplotlib would warn of every character
    each time.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if "missing from font" in str(warning.message):
            _warn_of_fonts()
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


@functools.cache
def _warn_of_fonts() -> None:
    log.warning(
        "some letters in pictures are drawn as boxes, since matplotlib's font lacks them; set"
        " font.family in a matplotlibrc file to a font that has them"
    )
