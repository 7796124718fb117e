"""Asks a server of exported models, ours or TF Serving, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from cvpipe.errors import UserError


def predict(url: str, images: Sequence[bytes], timeout: float = 60.0) -> list[dict[str, Any]]:
    """Returns one answer for each encoded image, in order.

    Of an image that can't be decoded cvpipe's server answers {"valid": False, "error": a sentence};
    TensorFlow Serving answers what means nothing, with a "valid" that is False.

    Args:
        url: of the model, such as http://127.0.0.1:8501/v1/models/digits, with /versions/N for one
            that isn't the latest.
        images: the bytes of image files.
        timeout: seconds without a byte from the server.

    Raises:
        UserError: there is no such server, or it refused; the message says why.
    """
    instances = [{"b64": base64.b64encode(image).decode("ascii")} for image in images]
    body = json.dumps({"instances": instances}).encode("ascii")
    try:
        with urlopen(
            Request(f"{url}:predict", body, {"Content-Type": "application/json"}), timeout=timeout
        ) as response:
            return json.load(response)["predictions"]
    except HTTPError as error:
        raise UserError(
            f"{url} refused the images: {error.read().decode('utf-8', 'replace')}"
        ) from error
    except OSError as error:
        raise UserError(
            f"no answer from {url}: {error}; start a server with: cvpipe serve DIR"
        ) from error
