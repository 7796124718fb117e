"""Routes of the server, as an ASGI application."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cvpipe.serving import images, metrics, page, routes, v2_routes
from cvpipe.serving.exchange import Exchange, Json
from cvpipe.serving.gateway import Handler, endpoint
from cvpipe.serving.routes import check_method
from cvpipe.serving.service import Service


def make_app(service: Service) -> ASGIApp:
    """Return the ASGI application of a service. The caller starts and closes the service."""

    def to(handler: Handler, public: bool = False) -> ASGIApp:
        return endpoint(service, handler, public)

    exact = {
        "/healthz": to(_alive, public=True),
        "/readyz": to(_ready, public=True),
        "/metrics": to(_metrics),
        "/monitoring/prometheus/metrics": to(_metrics),
        "/": to(page.root, public=True),
        "/page.js": to(page.script, public=True),
        "/page.css": to(page.style, public=True),
        "/v2/health/live": to(v2_routes.live, public=True),
        "/v2/health/ready": to(v2_routes.ready, public=True),
    }
    # Handlers by the first part of the path. All other paths belong to TF Serving's API.
    first = {"v2": to(v2_routes.answer), "predict": to(images.answer)}
    rest = to(routes.answer)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        chosen = exact.get(path) or first.get(path[1:].partition("/")[0], rest)
        await chosen(scope, receive, send)

    return app


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
