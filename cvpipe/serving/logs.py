"""Server logs: one JSON object per line, on stderr."""

from __future__ import annotations

import json
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

from cvpipe.console import print_message

_LOCK = threading.Lock()


def log(event: str, **facts: Any) -> None:
    """Log an event with its fields."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": time, "event": event, **facts}, default=str)
    with _LOCK:
        print_message(line)


def log_error(error: BaseException, **facts: Any) -> None:
    """Log an internal error with its traceback."""
    log("error", **facts, traceback="".join(traceback.format_exception(error)))
