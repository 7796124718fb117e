"""Records that can't be read: named, counted, written down, and never more than the pipeline allows."""

from __future__ import annotations

import json
import logging
import re
import threading
from pathlib import Path
from typing import Union

import tensorflow as tf

from cvpipe.data.decode import decode_image
from cvpipe.data.sources import Source
from cvpipe.errors import DataError

log = logging.getLogger(__name__)


class Quarantine:
    """The bad records of one split, gathered while it is read; every record is counted once.

    Streams call `note` from their own threads. Nothing is raised there: whoever reads the stream calls `check`.
    """

    def __init__(self, source: Source, split: str, max_share: float, file: Union[Path, None] = None):
        """`file` (JSON lines) is appended to, and what it already holds for this split counts; None keeps nothing."""
        self.names: dict[str, str] = {}
        self._source, self._split, self._max_share, self._file = source, split, max_share, file
        self._lock = threading.Lock()
        if file and file.exists():
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            self.names = {row["record"]: row["reason"] for row in rows if row["split"] == split}

    def __len__(self) -> int:
        return len(self.names)

    def note(self, index: int) -> None:
        """Writes down that the example at `index` can't be read, and why."""
        name = self._source.name(index)
        with self._lock:
            if name in self.names:
                return
            self.names[name] = reason = _reason(self._source, index)
            log.warning("left out (%s split): %s: %s", self._split, name, reason)
            if self._file:
                with self._file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"split": self._split, "record": name, "reason": reason}) + "\n")

    def check(self) -> None:
        """Raises DataError when more records are bad than the pipeline allows."""
        bad, examples = len(self), len(self._source)
        if bad > self._max_share * examples:
            name, reason = next(iter(self.names.items()))
            where = f"; all are listed in {self._file}" if self._file else ""
            raise DataError(
                f"{bad} of the {self._split} split's {examples} records can't be read ({bad / examples:.1%}; data.max_bad_share allows "
                f"{self._max_share:.1%}), such as {name}: {reason}{where}. Mend or remove them, or raise data.max_bad_share"
            )


def _reason(source: Source, index: int) -> str:
    try:
        example = source.read(tf.constant(index, tf.int64))
        decode_image(example["bytes"], 3)
    except tf.errors.OpError as error:
        # TensorFlow puts the node's name before the message and the operands' values after it.
        text = re.sub(r"\{\{.*?\}\}", "", error.message).strip()
        text = re.sub(r"^assertion failed: \[(.*?)\].*", r"\1", text, flags=re.S)
        return " ".join(text.replace("] [", " ").split("\n")[0].split())[:200]
    return "it could be read a moment later"
