"""Running of slow functions in threads, so that they don't block other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

SMALL_BYTES = 2**18
"""Below this size, starting the function in a thread takes longer than the function itself."""


async def offload(size: int, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function, in a thread if its input or output is large.

    Args:
        size: size of the input or output in bytes.
        function: a thread-safe function.
        arguments: arguments of the function.
    """
    if size < SMALL_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
