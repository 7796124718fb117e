"""Settings of a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cvpipe.errors import ConfigError, DataError
from cvpipe.serving.versions import Policy


@dataclass(frozen=True)
class Settings:
    """The limits and choices of a server; times are in seconds, sizes in bytes."""

    policy: Policy = field(default_factory=Policy)
    poll_seconds: float = 1.0
    max_body_bytes: int = 64 * 2**20
    """Most bytes of a body, both as it is sent and unpacked."""
    max_held_bytes: int = 512 * 2**20
    """Most bytes of all bodies together that are in memory."""
    max_pixels: int = 50_000_000
    max_instances: int = 1024
    max_connections: int = 512
    max_queue: int = 1024
    """Most images that wait for one version, and most other requests that do."""
    max_batch: int = 32
    wait_micros: int = 0
    """Microseconds that a batch that isn't full waits for more images."""
    buckets: tuple[int, ...] = ()
    """Sizes that batches are padded to; empty for any size."""
    batch_threads: int = 2
    threads: int = 4
    """Of requests that aren't batched."""
    timeout: float = 60.0
    drain: float = 30.0
    header_seconds: float = 10.0
    stalled_seconds: float = 30.0
    """A connection that neither sends nor takes anything for so long is closed."""
    keep_alive_seconds: float = 75.0
    api_keys: frozenset[bytes] = frozenset()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    grpc_port: int | None = None
    """None listens for no gRPC, 0 takes a free port."""
    allow_reload: bool = False
    """Clients of gRPC may choose the versions that are served."""
    access_log: bool = False

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_queue", "max_instances", "batch_threads", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')}: must be at least 1")
        if any(size < 1 for size in self.buckets):
            raise ConfigError("--buckets: sizes of batches must be at least 1, such as 1,8,32")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("--tls-cert and --tls-key belong together; give both or none")


def read_api_keys(file: Path) -> frozenset[bytes]:
    """Return the keys in a file, one a line; empty lines and lines that begin with # are none.

    Raises:
        DataError: it can't be read, or holds no key.
    """
    try:
        lines = [line.strip() for line in file.read_bytes().splitlines()]
    except OSError as error:
        raise DataError(
            f"{file}: the API keys can't be read ({error.strerror}); give a file with one a line"
        ) from None
    keys = frozenset(line for line in lines if line and not line.startswith(b"#"))
    if not keys:
        raise DataError(f"{file}: no API key in it; write one a line")
    return keys
