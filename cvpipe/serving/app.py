"""The addresses of the server, as an application of ASGI."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from cvpipe.serving import images, metrics, page, routes, v2_routes
from cvpipe.serving.exchange import Exchange, Json
from cvpipe.serving.gateway import Handler, endpoint
from cvpipe.serving.routes import check_method
from cvpipe.serving.service import Service


def make_app(service: Service) -> ASGIApp:
    """Return the application of a service; its models are loaded and dropped by its owner."""

    def route(path: str, handler: Handler, public: bool = False) -> Route:
        return Route(path, _Endpoint(endpoint(service, handler, public)))

    addresses = [
        route("/healthz", _alive, public=True),
        route("/readyz", _ready, public=True),
        route("/monitoring/prometheus/metrics", _metrics),
        route("/", page.root, public=True),
        route("/page.js", page.script, public=True),
        route("/page.css", page.style, public=True),
        route("/predict/{rest:path}", images.answer),
        route("/v2/health/live", v2_routes.live, public=True),
        route("/v2/health/ready", v2_routes.ready, public=True),
        route("/v2", v2_routes.answer),
        route("/v2/{rest:path}", v2_routes.answer),
    ]
    # What no other takes is TF Serving's, whose paths Starlette has no patterns for.
    rest = endpoint(service, routes.answer)
    router = Router(addresses, default=rest, redirect_slashes=False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await router(scope, receive, send)

    return app


class _Endpoint:
    """An application of ASGI as an endpoint of Starlette, which leaves all methods to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _alive(exchange: Exchange) -> Response:
    check_method(exchange.method, "GET")
    return Json({"status": "alive"})


async def _ready(exchange: Exchange) -> Response:
    check_method(exchange.method, "GET")
    ready = exchange.service.ready
    return Json({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


async def _metrics(exchange: Exchange) -> Response:
    check_method(exchange.method, "GET")
    return Response(exchange.service.metrics.text(), media_type=metrics.CONTENT_TYPE)
