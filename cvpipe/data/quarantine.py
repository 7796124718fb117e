"""Unreadable records: logged, counted, written to a file, and limited in number."""

from __future__ import annotations

import json
import logging
import re
import threading
from pathlib import Path

import tensorflow as tf

from cvpipe.data.annotations import checked
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Example
from cvpipe.data.header import FORMATS
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

log = logging.getLogger(__name__)


class Quarantine:
    """The bad records of one split, collected while it is read; every record is counted once.

    Streams call `note` from their own threads; it doesn't raise. The consumer of the stream calls
    `check`, which raises DataError.
    """

    def __init__(self, source: Source, split: str, max_share: float, file: Path | None = None):
        """Collect bad records of `source`.

        A line for each record is added to `file` (JSON Lines) unless the file contains it; None
        writes nothing. Records in an existing file aren't counted, because they may have been
        repaired.
        """
        self.names: dict[str, str] = {}
        self._source, self._split, self._max_share, self._file = source, split, max_share, file
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.names)

    def note(self, index: int) -> None:
        """Record that the example at `index` can't be read, and why."""
        name = self._source.name(index)
        with self._lock:
            if name in self.names:
                return
            self.names[name] = reason = why_unreadable(self._source, index)
            log.warning("left out (%s split): %s: %s", self._split, name, reason)
            if self._file:
                _add_row(self._file, {"split": self._split, "record": name, "reason": reason})

    def check(self) -> None:
        """Raise DataError if more records are bad than the pipeline allows."""
        bad, examples = len(self), len(self._source)
        # Compare by division, because 29 / 100 == 0.29 but 0.29 * 100 < 29.
        if bad / examples > self._max_share:
            name, reason = next(iter(self.names.items()))
            where = f"; all are listed in {self._file}" if self._file else ""
            raise DataError(
                f"{bad} of the {self._split} split's {examples} records can't be read"
                f" ({bad / examples:.1%}; data.max_bad_share allows {self._max_share:.1%}), such as"
                f" {name}: {reason}{where}. Correct or remove them, or raise data.max_bad_share"
            )


@tf.function(reduce_retracing=True)
def _decode(example: Example) -> tf.Tensor:
    """Decode an example in a graph, so that the values in an assertion's message are on one
    line.
    """
    image = decode_image(example["bytes"], 3) if "bytes" in example else example["image"]
    return checked(example, image)


def _add_row(file: Path, row: dict[str, str]) -> None:
    """Append a row unless the file has it. If a crash truncated the last line, a line break is
    added first.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    line = json.dumps(row)
    if line not in text.splitlines():
        with file.open("a", encoding="utf-8") as lines:
            lines.write(("\n" if text and not text.endswith("\n") else "") + line + "\n")


def why_unreadable(source: Source, index: int) -> str:
    """Explain in one phrase why an example can't be read, without TensorFlow's error text."""
    try:
        example = source.read(tf.constant(index, tf.int64))
    except DataError as error:
        return str(error)
    except tf.errors.NotFoundError:
        return "the file is missing"
    except tf.errors.PermissionDeniedError:
        return "no permission to read the file"
    except tf.errors.OpError as error:
        return f"the file can't be read ({type(error).__name__})"
    try:
        _decode(example)
    except tf.errors.OpError as error:
        match = re.search(r"assertion failed: \[(.*)\]", error.message)
        if match:
            return match[1].replace("] [", " ")
        kind = next(
            name
            for name, beginning in FORMATS.items()
            if example["bytes"].numpy().startswith(beginning)
        )
        return f"the {kind} is damaged, cut off or of an unusual kind"
    return "the file could be read on a second try"
