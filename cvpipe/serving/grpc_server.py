"""The gRPC server: port, services, health checks."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from cvpipe.errors import UserError
from cvpipe.grpc_messages import health
from cvpipe.serving import grpc_tf_serving, grpc_v2
from cvpipe.serving.errors import RequestError
from cvpipe.serving.grpc_calls import Call, method
from cvpipe.serving.service import Service

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
MOST_BYTES = 2**31 - 1
"""Largest limit on the size of messages that gRPC can express."""
CALLS_PER_WATCH = 4
"""Ratio of the limits on concurrent calls and on concurrent watches."""
WATCH_SECONDS = 0.2
"""Interval at which a watch compares the health with its last report."""
_SERVICES = ("", grpc_tf_serving.PREDICTION, grpc_tf_serving.MODEL, grpc_v2.NAME)


async def start_grpc(service: Service, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Start the gRPC server in the running loop. Return the server and its port.

    Raises:
        UserError: the address or the certificate can't be used.
    """
    settings = service.settings
    watches = max(1, settings.max_queue // CALLS_PER_WATCH)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", min(settings.max_body_bytes, MOST_BYTES)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", settings.max_connections),
        ],
        # Watches need no key and last long. They must not take the room of calls.
        maximum_concurrent_rpcs=settings.max_queue + watches,
    )
    server.add_generic_rpc_handlers(
        (*grpc_tf_serving.handlers(service), *grpc_v2.handlers(service), _health(service, watches))
    )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if settings.tls_cert and settings.tls_key:
            pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
            chosen = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            chosen = server.add_insecure_port(address)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"can't listen on {host}, port {port}, for gRPC: {error}; choose others with --host and"
            " --grpc-port"
        ) from None
    await server.start()
    return server, chosen


def _health(service: Service, watches: int) -> grpc.GenericRpcHandler[Any, Any]:
    """Return the handler of gRPC's health service. It allows `watches` watches at a time."""
    own, room = health(), asyncio.Semaphore(watches)

    def status(name: str) -> int:
        if name not in _SERVICES:
            return SERVICE_UNKNOWN
        return SERVING if service.ready else NOT_SERVING

    async def check(call: Call, request: Any) -> Any:
        found = status(request.service)
        if found == SERVICE_UNKNOWN:
            raise RequestError(404, f"no service {request.service}")
        return own.HealthCheckResponse(status=found)

    async def report(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        reported = None
        while not context.cancelled():
            draining = service.draining
            if (now := status(request.service)) != reported:
                reported = now
                await context.write(own.HealthCheckResponse(status=now))
            elif draining:
                # End one turn after the last report. Clients start an ended watch anew, and without
                # a pause they would do so all the time.
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def watch(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if room.locked():
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the server has {watches} watches of its health, and no more are allowed; call"
                " Check instead, or raise --max-queue",
            )
        async with room:
            await report(request, context)

    methods = {
        "Check": method(
            service, check, own.HealthCheckRequest, own.HealthCheckResponse, public=True
        ),
        "Watch": grpc.unary_stream_rpc_method_handler(
            watch,
            request_deserializer=own.HealthCheckRequest.FromString,
            response_serializer=own.HealthCheckResponse.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)
