"""Request errors and their HTTP statuses, as in TF Serving."""

from __future__ import annotations

import tensorflow as tf

_HTTP_STATUS = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.UNAUTHENTICATED: 401,
    tf.errors.PERMISSION_DENIED: 403,
    tf.errors.NOT_FOUND: 404,
    tf.errors.ALREADY_EXISTS: 409,
    tf.errors.ABORTED: 409,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.CANCELLED: 499,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DEADLINE_EXCEEDED: 504,
}

_TRACE_LINES = (
    "Graph execution error",
    "Detected at node",
    "<stack traces unavailable>",
    "  File ",
    "\t [[",
)


class RequestError(Exception):
    """A failed request: an HTTP status and a sentence for the client.

    `allow` is the value of the header Allow for status 405, and `retry_after` that of Retry-After
    in seconds. `code` is the error code of TensorFlow and gRPC; None if unknown.
    """

    def __init__(
        self,
        status: int,
        message: str,
        allow: str = "",
        retry_after: int | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.allow = allow
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers of the response."""
        known = {"Allow": self.allow, "Retry-After": str(self.retry_after or "")}
        if self.status == 401:
            known["WWW-Authenticate"] = "Bearer"
        return {name: value for name, value in known.items() if value}


def to_request_error(error: Exception) -> RequestError:
    """Convert any error to a RequestError for the client. Internal errors get status 500 and no
    details, which are only logged.
    """
    if isinstance(error, RequestError):
        return error
    if isinstance(error, tf.errors.OpError) and error.error_code in _HTTP_STATUS:
        return RequestError(
            _HTTP_STATUS[error.error_code],
            f"the model refused the request: {_reason(error.message)}",
            code=error.error_code,
        )
    return RequestError(500, "internal error; the server's log has the details")


def _reason(message: str) -> str:
    """Remove the names of graph nodes and source files from TensorFlow's message."""
    lines = (line for line in message.splitlines() if not line.startswith(_TRACE_LINES))
    return " ".join(line.strip() for line in lines if line.strip())
