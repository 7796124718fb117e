"""Reads byte ranges of objects in Cloud Storage, with one request for each range.

Other clients transfer more: TensorFlow's file system reads many megabytes for a small range, and
ArrayRecord's client requests the rest of the file for each record.
"""

from __future__ import annotations

import functools
import os
import random
import threading
import time
import urllib.parse
from typing import Any

from cvpipe.errors import DataError

EMULATOR = "CLOUD_STORAGE_EMULATOR_ENDPOINT"
"""Environment variable with the address of an emulator of Cloud Storage."""
# Largest number of simultaneous connections.
CONNECTIONS = 64
# Seconds to wait for a connection and for each read.
TIMEOUTS = (10, 60)
TRIES = 5
_TEMPORARY = (408, 429, 500, 502, 503, 504)
_lock = threading.Lock()


def read_object(file: str, begin: int, end: int) -> bytes:
    """Return the bytes begin … end − 1 of an object; fewer if the object ends earlier. Thread-safe.

    Temporary failures are retried after increasing delays.

    Raises:
        DataError: the object is missing, access is denied, or the server can't be reached.
    """
    import requests

    scheme, _, path = file.partition("://")
    if scheme != "gs":
        raise DataError(f"{file}: only gs:// addresses are read; copy the file there, or to a disk")
    # Connections can't be shared with the parent process after a fork.
    session, base = _session(os.getpid())
    address = f"{base}/{urllib.parse.quote(path)}"
    headers = {"Range": f"bytes={begin}-{end - 1}"}
    reason = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)
        try:
            answer = session.get(address, headers=headers, timeout=TIMEOUTS)
        except requests.RequestException as error:
            reason = type(error).__name__
            continue
        if answer.status_code in (200, 206):
            content: bytes = answer.content
            return content if answer.status_code == 206 else content[begin:end]
        reason = f"HTTP {answer.status_code} {answer.reason}"
        if answer.status_code not in _TEMPORARY:
            break
    raise DataError(f"{file}: can't be read ({reason})")


def _session(process: int) -> tuple[Any, str]:
    with _lock:
        return _made(process)


@functools.lru_cache(maxsize=1)
def _made(process: int) -> tuple[Any, str]:
    """Return an authorized session and the server's address."""
    import requests

    emulator = os.environ.get(EMULATOR)
    session = requests.Session() if emulator else _authorized()
    adapter = requests.adapters.HTTPAdapter(CONNECTIONS, CONNECTIONS)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session, emulator.rstrip("/") if emulator else "https://storage.googleapis.com"


def _authorized() -> Any:
    import google.auth
    import google.auth.exceptions
    from google.auth.transport.requests import AuthorizedSession

    try:
        credentials, _ = google.auth.default(
            ["https://www.googleapis.com/auth/devstorage.read_only"]
        )
    except google.auth.exceptions.DefaultCredentialsError:
        raise DataError(
            "gs://: no credentials for Cloud Storage; run: gcloud auth application-default login"
        ) from None
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
