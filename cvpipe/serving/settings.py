"""Server settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cvpipe.errors import ConfigError, DataError
from cvpipe.serving.policy import Policy


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
    """Batch sizes to pad to; empty for no padding."""
    batch_threads: int = 2
    threads: int = 4
    """Threads for requests that aren't batched."""
    timeout: float = 60.0
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
        for name in ("max_batch", "max_queue", "max_instances", "batch_threads", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least 1")
        if any(size < 1 for size in self.buckets):
            raise ConfigError("--buckets: batch sizes must be at least 1, such as 1,8,32")
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
