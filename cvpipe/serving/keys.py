"""API keys."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection

from cvpipe.serving.errors import RequestError


def check_key(keys: Collection[bytes], header: Callable[[str], str | None]) -> None:
    """Refuse a request without a valid API key.

    Args:
        keys: accepted keys; if empty, all requests are accepted.
        header: maps the name of a header in lower case to its value, decoded as Latin-1.

    Raises:
        RequestError: 401.
    """
    if not keys:
        return
    given = header("x-api-key") or ""
    scheme, _, token = (header("authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        given = token.strip(" \t")  # in Latin-1, other whitespace may be part of a UTF-8 letter
    # Compare with all keys, so that the duration reveals nothing about the keys.
    sent = given.encode("latin-1", "replace")
    matches = [hmac.compare_digest(sent, key) for key in keys]
    if not any(matches):
        raise RequestError(401, "send one of this server's API keys: Authorization: Bearer KEY")
