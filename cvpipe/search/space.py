"""Search space of a sweep: ranges of numbers and lists of choices, each for one pipeline key."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from cvpipe.config import Config
from cvpipe.config.cells import Cells
from cvpipe.errors import ConfigError

# The value of a key in a trial: a number of a range, or the text of a choice.
Value = int | float | str
# Maps overrides, `key=value` each, to the configuration; raises ConfigError.
Load = Callable[[Sequence[str]], Config]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})(?::(log|linear))?")
DIGITS = 4
# A value is at an end of its range if its distance is at most this fraction of the range.
EDGE = 0.05


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both inclusive, uniform or log-uniform."""

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    """True for integers only."""

    def plain(self, drawn: float) -> Value:
        """Round a drawn number to four digits and clip it to the range."""
        return (
            int(drawn)
            if self.whole
            else min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)
        )

    def narrowed(self, best: Sequence[float], trials: int) -> Range:
        """Return the range from the smallest to the largest of the best values, plus a margin on
        both sides: the mean distance between `trials` draws.
        """
        low, high = self._scaled(self.low), self._scaled(self.high)
        margin = (high - low) / trials
        begin, end = (
            max(low, self._scaled(min(best)) - margin),
            min(high, self._scaled(max(best)) + margin),
        )
        ends = (math.exp(begin), math.exp(end)) if self.log else (begin, end)
        if self.whole:
            ends = (math.floor(ends[0] + 1e-9), math.ceil(ends[1] - 1e-9))
        return dataclasses.replace(self, low=max(ends[0], self.low), high=min(ends[1], self.high))

    def edge(self, value: float) -> str | None:
        """Return "lower" or "upper" if the value is at this end of the range, else None."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        position = (self._scaled(value) - low) / (high - low)
        return "lower" if position < EDGE else "upper" if position > 1 - EDGE else None

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


@dataclasses.dataclass(frozen=True)
class Choices:
    """A list of choices, each as YAML text."""

    key: str
    texts: tuple[str, ...]


Dimension = Range | Choices


def parse(text: str) -> Dimension:
    """Parse `key=low:high`, `key=low:high:log`, `key=low:high:linear`, or a list of choices in YAML
    such as `key=a,b,c`.

    Raises:
        ConfigError: the text has another form, or fewer than two different values.
    """
    key, _, given = text.partition("=")
    found = RANGE.fullmatch(given)
    choices = tuple(dict.fromkeys(_choices(given)))
    if not key or not (found or len(choices) > 1):
        raise ConfigError(
            f"--search {text}: write it as key=low:high, key=low:high:log or key=a,b,c, "
            "such as --search optimizer.learning_rate=1e-3:1:log"
        )
    if not found:
        return Choices(key, choices)
    low, high, log = float(found[1]), float(found[2]), found[3] == "log"
    if not -math.inf < low < high < math.inf:
        raise ConfigError(f"--search {text}: the first number must be below the second")
    if log and low <= 0:
        raise ConfigError(f"--search {text}: a logarithmic range must begin above 0")
    return Range(key, low, high, log)


def check(texts: Sequence[str], load: Load) -> tuple[Dimension, ...]:
    """Parse the search dimensions and validate every choice and both ends of every range.

    Ranges of integer keys become integer ranges. `model.cells`, without values, stands for all
    inputs and operations of the cells' blocks.

    Raises:
        ConfigError: a dimension is invalid, or the pipeline refuses a value.
    """
    space: list[Dimension] = []
    written = [(text, own) for text in texts for own in _of_cells(text, load) or [parse(text)]]
    for text, dimension in written:
        if dimension.key in [other.key for other in space]:
            raise ConfigError(f"--search {text}: {dimension.key} is searched twice; keep one")
        try:
            ends = [load([f"{dimension.key}={value}"]) for value in _ends(dimension)]
        except ConfigError as error:
            raise ConfigError(f"--search {text}: {error}") from None
        if isinstance(dimension, Range) and isinstance(_at(ends[0].to_json(), dimension.key), int):
            dimension = dataclasses.replace(dimension, whole=True)
        space.append(dimension)
    return tuple(space)


def _of_cells(key: str, load: Load) -> list[Dimension]:
    """Return the choices of the cells at a key of the pipeline; none if the key has no cells."""
    section: Any = load([])
    for part in key.split("."):
        section = getattr(section, part, None)
    if not isinstance(section, Cells):
        return []
    if not {"normal", "reduction"} <= section.model_fields_set:
        raise ConfigError(
            f"--search {key}: the pipeline's cells have no blocks to replace; add normal and"
            " reduction, each with the number of blocks to search"
        )
    return [Choices(f"{key}.{own}", texts) for own, texts in section.choices().items()]


def _choices(text: str) -> list[str]:
    """Split the items of a YAML list without brackets, as they are written. Return an empty list if
    the text isn't YAML.
    """
    try:
        listed = yaml.compose(f"[{text}]", yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    if not isinstance(listed, yaml.SequenceNode):
        return []
    return [
        f"[{text}]"[item.start_mark.index : item.end_mark.index].strip() for item in listed.value
    ]


def _ends(dimension: Dimension) -> tuple[Value, ...]:
    if isinstance(dimension, Choices):
        return dimension.texts
    ends = (dimension.low, dimension.high)
    return tuple(int(end) if end.is_integer() else end for end in ends)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values
