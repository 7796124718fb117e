"""Common handling of gRPC calls: API keys, deadlines, errors as statuses, metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from cvpipe.serving.errors import RequestError, to_request_error
from cvpipe.serving.keys import check_key
from cvpipe.serving.logs import log_error
from cvpipe.serving.service import Service
from cvpipe.serving.versions import Version

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class Call:
    """A gRPC call in progress: model, deadline, API key."""

    def __init__(self, service: Service, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Wrap a gRPC context."""
        self.service, self._context = service, context
        self.model = self.version = ""

    def of(self, version: Version) -> None:
        """Set the version for the metrics."""
        self.model, self.version = version.model, str(version.number)

    def deadline(self) -> float:
        """Return the earlier of the client's and the server's deadline."""
        own, left = self.service.deadline(), self._context.time_remaining()
        return own if left is None else min(own, time.monotonic() + left)

    def check_key(self) -> None:
        """Refuse a call without a valid API key, if the server has keys."""
        metadata = {str(key): value for key, value in self._context.invocation_metadata() or ()}

        def header(name: str) -> str | None:
            value = metadata.get(name)
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

        check_key(self.service.settings.api_keys, header)


Handler = Callable[[Call, Any], Awaitable[Any]]


def method(
    service: Service, handler: Handler, request: Any, response: Any, public: bool = False
) -> grpc.RpcMethodHandler[Any, Any]:
    """Wrap a handler as a gRPC method.

    Args:
        service: the service.
        handler: maps a call and its request to the response.
        request: class of the requests.
        response: class of the responses.
        public: True to require no API key.
    """

    async def run(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        call = Call(service, context)
        code, text, held = grpc.StatusCode.OK, "", 0
        try:
            if not public:
                call.check_key()
            held = message.ByteSize()
            service.hold(held)
            return await handler(call, message)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # an error must not affect other calls
            refusal = to_request_error(error)
            if refusal.status == 500:
                log_error(error, protocol="grpc")
            code, text = status_of(refusal), str(refusal)
        finally:
            service.hold(-held)
            service.metrics.count("grpc", call.model, call.version, code.name)
        return await context.abort(code, text)

    return grpc.unary_unary_rpc_method_handler(
        run, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )


def status_of(error: RequestError) -> grpc.StatusCode:
    """Return the gRPC status of an error. TensorFlow's error codes equal gRPC's."""
    if error.code is not None:
        return _BY_NUMBER.get(error.code, grpc.StatusCode.UNKNOWN)
    return _CODES.get(error.status, grpc.StatusCode.INTERNAL)
