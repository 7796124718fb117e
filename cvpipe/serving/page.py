"""The web page that takes an image from a file or the camera and shows the predictions."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.responses import Response

from cvpipe.serving import routes
from cvpipe.serving.exchange import Exchange
from cvpipe.serving.routes import check_method

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def wants_page(exchange: Exchange) -> bool:
    """Return True if the client is a browser."""
    return "text/html" in exchange.request.headers.get("accept", "")


async def root(exchange: Exchange) -> Response:
    """Return the page for browsers, or the list of models for other clients."""
    if exchange.method == "GET" and wants_page(exchange):
        return _static("page.html")
    exchange.check_key()
    return await routes.answer(exchange)


async def script(exchange: Exchange) -> Response:
    """Return the page's script."""
    check_method(exchange.method, "GET")
    return _static("page.js")


async def style(exchange: Exchange) -> Response:
    """Return the page's style sheet."""
    check_method(exchange.method, "GET")
    return _static("page.css")


def _static(name: str) -> Response:
    return Response(_content(name), headers=_HEADERS, media_type=_KINDS[name.rpartition(".")[2]])


@cache
def _content(name: str) -> bytes:
    return (files("cvpipe.serving") / "static" / name).read_bytes()
