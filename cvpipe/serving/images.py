"""`POST /predict/MODEL`, which takes image files and returns the JSON of `cvpipe predict`, or a
picture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from starlette.responses import Response

from cvpipe.answers import UNREADABLE, to_answer
from cvpipe.export.about import artifact_config, artifact_facts
from cvpipe.serving.batching import Answer
from cvpipe.serving.errors import RequestError
from cvpipe.serving.exchange import Exchange, Json
from cvpipe.serving.models import BYTES_SIGNATURE, Servable
from cvpipe.serving.multipart import files_of, is_multipart
from cvpipe.serving.offload import SMALL_BYTES, offload
from cvpipe.serving.routes import check_method, target_of
from cvpipe.serving.runner import Pool
from cvpipe.serving.service import runner_of

_MODEL = re.compile(
    r"/predict/(?P<model>[^/]+)(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/]+))?"
)
MAX_PICTURES = 64
"""Maximum number of pictures that wait or are being drawn."""
# Matplotlib is not thread-safe, so one thread draws all pictures. Requests that wait for it must
# not occupy the threads in which other requests are parsed.
_DRAWING = Pool(1, MAX_PICTURES)


async def answer(exchange: Exchange) -> Response:
    """Handle a request whose body is an image file, or a form with files.

    Raises:
        RequestError: the request failed; 400 for a single image that can't be decoded.
    """
    match = _MODEL.fullmatch(exchange.raw_path)
    if match is None:
        raise RequestError(404, f"no address {exchange.raw_path}; GET /v1/models lists the models")
    check_method(exchange.method, "POST")
    target = target_of(match)
    service = exchange.service
    with service.admitted(), service.shelf.lease(*target) as version:
        exchange.of(version)
        runner = runner_of(version)
        servable = runner.servable
        options = _options(exchange, servable)
        body = await exchange.body()
        deadline = service.deadline()
        files, single = await _files(exchange, body)
        drawn = "image/png" in exchange.request.headers.get("accept", "")
        if drawn and not single and len(files) > 1:
            raise RequestError(400, "a picture can show only one image; send one at a time")
        exchange.mark("parse")
        answers, errors = await runner.answer_each([file for _, file in files], options, deadline)
        exchange.mark("answer")
        known = {name: value.item() for name, value in options.items()}
        if drawn:
            one = _answer_as_json(servable, answers[0], errors.get(0))
            if "error" in one:
                raise RequestError(int(one.pop("status", 400)), one["error"])
            picture = await _DRAWING.run(
                _draw, servable, files[0][1], one, known, deadline=deadline
            )
            return Response(picture, media_type="image/png")
        size = sum(_size(one) for one in answers)
        results = await offload(size, _answers_as_json, servable, answers, errors)
    if single:
        if "error" in results[0]:
            raise RequestError(int(results[0].get("status", 400)), results[0]["error"])
        return Json(results[0])
    for one in results:
        one.pop("status", None)
    named = [{"image": name, **one} for (name, _), one in zip(files, results, strict=True)]
    return Json({"answers": named})


async def _files(exchange: Exchange, body: bytearray) -> tuple[list[tuple[str, bytes]], bool]:
    """Return the names and contents of a body's images, and True if the body is a single image, not
    a form.
    """
    content_type = exchange.request.headers.get("content-type", "")
    if not is_multipart(content_type):
        if not body:
            raise RequestError(
                400, "the body is empty; send an image, such as by curl --data-binary"
            )
        return [("", bytes(body))], True
    # A small form can have many parts and headers, so forms of any size are parsed in a thread.
    most = exchange.service.settings.max_instances
    files = await offload(SMALL_BYTES, files_of, body, content_type, most)
    if not files:
        raise RequestError(400, "the form has no file; send one, such as by curl -F image=@FILE")
    return files, False


def _options(exchange: Exchange, servable: Servable) -> dict[str, np.ndarray]:
    """Parse the options in a query string, such as ?score_threshold=0.5."""
    if servable.images_input is None:
        raise RequestError(400, "this model doesn't accept encoded images; use :predict")
    defaults, options = servable.defaults(BYTES_SIGNATURE), {}
    for name, text in exchange.request.query_params.items():
        if name not in defaults:
            known = ", ".join(sorted(defaults)) or "none"
            raise RequestError(400, f'this model has no option "{name}"; its options: {known}')
        dtype = defaults[name].dtype
        try:
            value = float(text) if dtype.is_floating else int(text)
            # A number out of the range of the dtype becomes infinite.
            with np.errstate(over="ignore"):
                options[name] = np.array(value, dtype.as_numpy_dtype)
            if not np.isfinite(options[name]):
                raise ValueError
        except (ValueError, OverflowError):
            wanted = "a number" if dtype.is_floating else "a whole number"
            raise RequestError(400, f'the option "{name}" takes {wanted}, not "{text}"') from None
    servable.check_options(BYTES_SIGNATURE, options)
    return options


def _answers_as_json(
    servable: Servable, answers: Sequence[Answer | RequestError], errors: Mapping[int, str]
) -> list[dict[str, Any]]:
    return [_answer_as_json(servable, one, errors.get(n)) for n, one in enumerate(answers)]


def _answer_as_json(
    servable: Servable, one: Answer | RequestError, error: str | None
) -> dict[str, Any]:
    """Return an answer as in the JSON of `cvpipe predict`, or an error."""
    if isinstance(one, RequestError):
        return {"error": str(one), "status": one.status}
    assert servable.valid and servable.task
    if error or not one.outputs[servable.valid][one.row]:
        return {"error": error or UNREADABLE}
    return to_answer(servable.task, one.outputs, one.row)


def _size(one: Answer | RequestError) -> int:
    if isinstance(one, RequestError):
        return 0
    return sum(value.nbytes // len(value) for value in one.outputs.values())


def _draw(
    servable: Servable, image: bytes, one: Mapping[str, Any], settings: Mapping[str, Any]
) -> bytes:
    """Draw an answer and return it as PNG. Call it only in the thread of `_DRAWING`.

    Raises:
        RequestError: 501 if the task has no pictures.
    """
    from cvpipe.data.decode import decode_image
    from cvpipe.pictures import load_pictures
    from cvpipe.pictures.drawing.render import to_png

    pictures = load_pictures(artifact_config(servable.folder), artifact_facts(servable.folder))
    if pictures is None:
        raise RequestError(501, "answers of this task have no pictures; request application/json")
    pixels = decode_image(tf.constant(image), 3).numpy()
    figure = pictures.draw_answer(pixels, one, settings)
    return to_png(figure, figure.dpi)
