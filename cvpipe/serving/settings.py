"""Server settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cvpipe.errors import ConfigError, DataError
from cvpipe.serving.policy import Policy


class _Range(NamedTuple):
    """The values that a setting may have, and its name in error messages."""

    option: str
    least: float = 1
    most: float = 2**31 - 1
    """The default is gRPC's largest number."""


_MOST_SECONDS = 10**9
"""Python and gRPC can't wait for much longer."""
_RANGES = {
    "poll_seconds": _Range("--poll", 0.001, _MOST_SECONDS),
    "max_body_bytes": _Range("--max-body", most=math.inf),
    "max_held_bytes": _Range("max_held_bytes", most=math.inf),
    "max_pixels": _Range("--max-pixels", most=math.inf),
    "max_instances": _Range("--max-instances"),
    "max_connections": _Range("--max-connections"),
    "max_queue": _Range("--max-queue"),
    "max_batch": _Range("--max-batch"),
    "wait_micros": _Range("--wait-micros", 0),
    "batch_threads": _Range("--batch-threads"),
    "threads": _Range("--threads"),
    "timeout": _Range("--timeout", 0.001, _MOST_SECONDS),
    "grace": _Range("--grace", 0, _MOST_SECONDS),
    "drain": _Range("--drain", 0, _MOST_SECONDS),
    "header_seconds": _Range("header_seconds", 0.001, _MOST_SECONDS),
    "stalled_seconds": _Range("stalled_seconds", 0.001, _MOST_SECONDS),
    "keep_alive_seconds": _Range("keep_alive_seconds", 0.001, _MOST_SECONDS),
    "grpc_port": _Range("--grpc-port", 0, 65535),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a server. Times are in seconds, sizes in bytes."""

    policy: Policy = field(default_factory=Policy)
    poll_seconds: float = 1.0
    max_body_bytes: int = 64 * 2**20
    """Maximum size of a body, both compressed and decompressed."""
    max_held_bytes: int = 512 * 2**20
    """Maximum total size of the bodies in memory."""
    max_pixels: int = 50_000_000
    max_instances: int = 1024
    max_connections: int = 512
    max_queue: int = 1024
    """Maximum number of queued images per version, and of queued requests that aren't batched."""
    max_batch: int = 32
    wait_micros: int = 0
    """Microseconds to wait for more images if a batch isn't full."""
    buckets: tuple[int, ...] = ()
    """Batch sizes to pad to, the largest at least `max_batch`; empty for no padding."""
    batch_threads: int = 2
    threads: int = 4
    """Threads for requests that aren't batched."""
    timeout: float = 60.0
    grace: float = 3.0
    """Time after SIGTERM in which requests are still accepted."""
    drain: float = 30.0
    header_seconds: float = 10.0
    stalled_seconds: float = 30.0
    """A connection in the middle of a request or response is closed after this time without
    traffic.
    """
    keep_alive_seconds: float = 75.0
    api_keys: frozenset[bytes] = frozenset()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    grpc_port: int | None = None
    """None for no gRPC, 0 for a free port."""
    allow_reload: bool = False
    """True to let gRPC clients choose the served versions."""
    access_log: bool = False
    dedicated: bool = False
    """True if the process only serves, so that settings of Python may be changed for that."""

    def __post_init__(self) -> None:
        for name, (option, least, most) in _RANGES.items():
            value = getattr(self, name)
            # Written so that a value that is not a number is refused, too.
            if value is not None and not value >= least:
                raise ConfigError(f"{option}: must be at least {least}")
            if value is not None and value > most:
                raise ConfigError(f"{option}: must be at most {most}")
        if any(size < 1 for size in self.buckets):
            raise ConfigError("--buckets: batch sizes must be at least 1, such as 1,8,32")
        if self.buckets and (largest := max(self.buckets)) < self.max_batch:
            raise ConfigError(
                f"--buckets: batches of more than {largest} images would not be padded; add"
                f" {self.max_batch}, or pass --max-batch {largest}"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("--tls-cert and --tls-key belong together; give both or none")


def read_api_keys(file: Path) -> frozenset[bytes]:
    """Read API keys from a file, one per line. Empty lines and lines that begin with # are ignored.

    Raises:
        DataError: the file can't be read or contains no key.
    """
    try:
        lines = [line.strip() for line in file.read_bytes().splitlines()]
    except OSError as error:
        raise DataError(
            f"{file}: the API keys can't be read ({error.strerror}); give a file with one key per"
            " line"
        ) from None
    keys = frozenset(line for line in lines if line and not line.startswith(b"#"))
    if not keys:
        raise DataError(f"{file}: contains no API key; write one key per line")
    return keys
