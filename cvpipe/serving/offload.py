"""Work of handlers that would hold up other requests, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

SMALL_BYTES = 2**18
"""Reading or writing fewer bytes takes less time than to change threads is worth."""


async def offload(size: int, function: Callable[..., Result], *arguments: Any) -> Result:
    """Return the result of a function, called in a thread where its input or output is large.

    Args:
        size: of its input or output, bytes.
        function: safe in any thread.
        arguments: of the function.
    """
    if size < SMALL_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
