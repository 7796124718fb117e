"""Client for cvpipe's server and TF Serving, which needs only the standard library."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from cvpipe.errors import UserError


def predict(url: str, images: Sequence[bytes], timeout: float = 60.0) -> list[dict[str, Any]]:
    """Return the answer for each encoded image, in order.

    For an image that can't be decoded, cvpipe's server returns {"valid": False, "error": message};
    TensorFlow Serving returns "valid": False and meaningless other values, and refuses the requests
    if the model has options, as a detector has, because it fills in no defaults over REST.

    Args:
        url: URL of the model, such as http://127.0.0.1:8501/v1/models/digits; append /versions/N
            for a version other than the latest.
        images: the bytes of image files.
        timeout: seconds to wait for data from the server.

    Raises:
        UserError: the server can't be reached or refused the request.
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
