"""Guards `POST /predict/MODEL`, the page, limits on images, API keys, and metrics."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.serving import images
from cvpipe.serving.errors import RequestError
from cvpipe.serving.image_header import image_size
from cvpipe.serving.metrics import BatchMetrics, Metrics
from cvpipe.serving.models import Servable
from cvpipe.serving.multipart import MAX_FIELDS, files_of
from cvpipe.serving.policy import ALL, Policy
from cvpipe.serving.runner import FEW_IMAGES, Pool, ServableRunner
from cvpipe.serving.settings import Settings, read_api_keys
from toy_served import BAD, POISON, ask, b64, in_event_loop, png, save_toys, served

PREDICT = "/v1/models/toy:predict"
FIELD = b'--mark\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toys(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    settings = Settings(
        policy=Policy(ALL, labels={"toy": {"stable": 1}}), max_pixels=1000, max_instances=20
    )
    with served(folder, settings) as server:
        yield server.server_port


def form(*files: tuple[str, bytes], boundary: str = "mark") -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    field = FIELD.replace(b"mark", boundary.encode())
    body = b"".join([field, *parts, f"--{boundary}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def by_rest(port: int, *images: bytes) -> list[dict[str, Any]]:
    body = {"instances": [b64(image) for image in images]}
    status, content, _ = ask(port, "POST", PREDICT, body)
    assert status == 200
    return content["predictions"]


def test_one_image_is_answered_as_the_command_prints_it(port: int) -> None:
    status, answer, _ = ask(port, "POST", "/predict/toy", b"an image")
    (row,) = by_rest(port, b"an image")
    assert status == 200
    assert answer["class_id"] == row["top_class_ids"][0] and len(answer["top"]) == 1
    assert answer["class_name"] == str(answer["class_id"])


def test_files_of_a_form_are_answered_by_name_and_each_fails_alone(port: int) -> None:
    body, headers = form(("a.png", b"one"), ("b.png", BAD), ("c.png", b"three"), ("d", POISON))
    status, content, _ = ask(port, "POST", "/predict/toy", body, headers)
    assert status == 200
    a, b, c, d = content["answers"]
    assert [one["image"] for one in (a, b, c, d)] == ["a.png", "b.png", "c.png", "d"]
    assert a["class_id"] == by_rest(port, b"one")[0]["top_class_ids"][0]
    assert c["class_id"] == by_rest(port, b"three")[0]["top_class_ids"][0]
    assert set(b) == set(d) == {"image", "error"}
    assert "not a JPEG" in b["error"] and "poison" in d["error"]


def test_versions_labels_and_settings_are_chosen(port: int) -> None:
    for path, version in (("/versions/1", 1), ("/labels/stable", 1), ("", 2)):
        status, _, _ = ask(port, "POST", f"/predict/toy{path}", b"an image")
        assert status == 200
        asked, body = f"/v1/models/toy{path}:predict", {"instances": ["a"]}
        assert ask(port, "POST", asked, body)[1]["predictions"][0]["version"] == version
    high = ask(port, "POST", "/predict/toy?threshold=1", b"an image")[1]
    assert high["probability"] == 0
    assert (
        ask(port, "GET", "/v1/models/toy/labels/stable")[1]["model_version_status"][0]["version"]
        == "1"
    )


@pytest.mark.parametrize(
    "method, path, body, status, sentence",
    [
        ("POST", "/predict/toy", BAD, 400, "not a JPEG"),
        ("POST", "/predict/toy", POISON, 400, "poison"),
        ("POST", "/predict/toy", b"", 400, "empty"),
        ("POST", "/predict/none", b"x", 404, 'no model "none"'),
        ("POST", "/predict/toy/versions/9", b"x", 404, "no version 9"),
        ("POST", "/predict/toy/labels/old", b"x", 404, "its labels: stable"),
        ("POST", "/predict/toy?size=3", b"x", 400, 'no option "size"'),
        ("POST", "/predict/toy?threshold=high", b"x", 400, "takes a number"),
        ("POST", "/predict/toy?threshold=nan", b"x", 400, "takes a number"),
        ("POST", "/predict/toy?threshold=-2", b"x", 400, "takes a number from 0 to 1, not -2"),
        (
            "POST",
            "/v1/models/toy:predict",
            {"inputs": {"image_bytes": ["a"], "threshold": -2.0}},
            400,
            'the option "threshold" takes a number from 0 to 1, not -2',
        ),
        ("POST", "/predict/toy?threshold=inf", b"x", 400, "takes a number"),
        ("POST", "/predict/toy?threshold=1e39", b"x", 400, "takes a number"),
        ("GET", "/predict/toy", None, 405, "allows POST"),
        ("POST", "/predict/a/b", b"x", 404, "no address"),
    ],
)
def test_wrong_requests_get_clear_errors(
    port: int, method: str, path: str, body: bytes | None, status: int, sentence: str
) -> None:
    answered, content, _ = ask(port, method, path, body)
    assert (answered, list(content)) == (status, ["error"]) and sentence in content["error"]


@pytest.mark.parametrize(
    "body, content_type, status",
    [
        (b"--m\r\n\r\nx\r\n--m--\r\n", "multipart/form-data", 400),
        (b"--m\r\nno headers\r\n--m--\r\n", "multipart/form-data; boundary=m", 400),
        (form(("a", b"x"))[0][:-4], "multipart/form-data; boundary=mark", 400),
        (form()[0], "multipart/form-data; boundary=mark", 400),
        (form(*[("a", b"x")] * 21)[0], "multipart/form-data; boundary=mark", 413),
        (FIELD * MAX_FIELDS + form(("a", b"x"))[0], "multipart/form-data; boundary=mark", 413),
    ],
)
def test_malformed_forms_are_refused(
    port: int, body: bytes, content_type: str, status: int
) -> None:
    answered, content, _ = ask(port, "POST", "/predict/toy", body, {"Content-Type": content_type})
    assert (answered, list(content)) == (status, ["error"])


def test_a_form_may_have_a_few_fields_other_than_files() -> None:
    body, headers = form(("a", b"x"))
    body = FIELD * (MAX_FIELDS - 1) + body
    assert files_of(body, headers["Content-Type"], 1) == [("a", b"x")]


def test_content_of_a_file_may_look_like_a_boundary() -> None:
    value = b"\r\n-mark\r\n--other\r\n\r\n"
    body, headers = form(("a", value))
    assert files_of(body, headers["Content-Type"], 9) == [("a", value)]


def test_an_image_of_too_many_pixels_is_refused_by_its_header_and_harms_no_other(port: int) -> None:
    bomb = png(8000, 8000)
    assert len(bomb) < 9000
    rows = by_rest(port, b"one", bomb, b"three")
    assert rows[0]["valid"] and rows[2]["valid"]
    assert set(rows[1]) == {"valid", "error"} and "8000 x 8000 pixels" in rows[1]["error"]
    status, content, _ = ask(port, "POST", "/predict/toy", bomb)
    assert status == 400 and "at most 1,000" in content["error"]


def test_limits_on_images_apply_to_every_signature_that_takes_images(port: int) -> None:
    given = {"signature_name": "explain", "instances": [b64(png(8000, 8000)), b64(b"one")]}
    status, content, _ = ask(port, "POST", PREDICT, given)
    refused, answered = content["predictions"]
    assert status == 200 and answered["valid"]
    assert set(refused) == {"valid", "error"} and "8000 x 8000 pixels" in refused["error"]
    many = {"signature_name": "explain", "inputs": {"image_bytes": ["a"] * 21}}
    status, content, _ = ask(port, "POST", PREDICT, many)
    assert status == 413 and "has 21 images" in content["error"]


class Letters(tf.Module):
    """A model that fails for several images at once, and whose outputs are as long as the images.

    One of its signatures doesn't report unreadable images.
    """

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.Assert(tf.size(image_bytes) == 1, [""])]):
            letters = tf.strings.bytes_split(image_bytes).to_tensor()
        return {"letters": letters, "valid": image_bytes != b""}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def lengths(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.strings.length(image_bytes)}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServableRunner]:
    folder, own = str(tmp_path_factory.mktemp("letters")), Letters()
    signatures = {"serving_default": own.serving_default, "lengths": own.lengths}
    tf.saved_model.save(own, folder, signatures)
    loaded = tf.saved_model.load(folder)
    pool = Pool(1, 9)
    made = ServableRunner(
        Servable(loaded.signatures, {}, {}, "valid", loaded), Settings(max_pixels=1000), pool
    )
    yield made
    made.close()
    pool.close()


def run(runner: ServableRunner, signature_name: str, *encoded: bytes) -> Any:
    given = {"image_bytes": np.array(encoded, dtype=object)}
    return asyncio.run(runner.predict(signature_name, given, time.monotonic() + 20))


def test_an_image_of_too_many_pixels_fails_a_request_whose_answer_cannot_say_so(
    runner: ServableRunner,
) -> None:
    assert run(runner, "lengths", b"abc").outputs["length"].tolist() == [3]
    with pytest.raises(RequestError, match="8000 x 8000 pixels") as error:
        run(runner, "lengths", b"abc", png(8000, 8000))
    assert error.value.status == 413


def test_answers_whose_shapes_differ_are_a_clear_error(runner: ServableRunner) -> None:
    letters = run(runner, "serving_default", b"abc", b"xyz").outputs["letters"]
    assert letters.tolist() == [[b"a", b"b", b"c"], [b"x", b"y", b"z"]]
    with pytest.raises(RequestError, match='shapes of "letters" differ') as error:
        run(runner, "serving_default", b"abc", b"a")
    assert error.value.status == 503


def test_headers_of_many_images_are_read_outside_of_the_event_loop(runner: ServableRunner) -> None:
    places = list[bool]()

    class Recorded(bytes):
        def startswith(self, *arguments: Any) -> bool:
            places.append(in_event_loop())
            return super().startswith(*arguments)

    run(runner, "lengths", *[Recorded(b"abc")] * (FEW_IMAGES + 1))
    assert places and not any(places)


def test_forms_are_parsed_outside_of_the_event_loop(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = list[bool]()

    def recorded(*arguments: Any) -> Any:
        places.append(in_event_loop())
        return files_of(*arguments)

    monkeypatch.setattr(images, "files_of", recorded)
    assert ask(port, "POST", "/predict/toy", *form(("a", b"x")))[0] == 200
    assert places == [False]


def test_waiting_pictures_delay_no_other_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(images, "_draw", lambda *_: b"drawn" if gate.wait(60) else b"")
    # asyncio's own pool, in which large bodies are parsed, has at most 32 threads.
    with served(folder) as server, ThreadPoolExecutor(40) as clients:
        picture = (server.server_port, "POST", "/predict/toy", b"x", {"Accept": "image/png"})
        asked = [clients.submit(ask, *picture) for _ in range(40)]
        end = time.monotonic() + 20
        while server.service.in_flight < len(asked) and time.monotonic() < end:
            time.sleep(0.001)
        try:
            by_rest(server.server_port, b"computed after the images of the pictures")
            large = json.dumps({"instances": ["a"]}) + " " * 2**19
            assert ask(server.server_port, "POST", PREDICT, large)[0] == 200
        finally:
            gate.set()
        assert [each.result()[:2] for each in asked] == [(200, b"drawn")] * len(asked)


def test_a_picture_is_refused_after_the_deadline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(images, "_draw", lambda *_: b"drawn" if gate.wait(10) else b"")
    with served(folder, Settings(timeout=0.5)) as server:
        answered = ask(server.server_port, "POST", "/predict/toy", b"x", {"Accept": "image/png"})
        gate.set()
    assert answered[0] == 504


@pytest.mark.parametrize(
    "body, status, sentence",
    [
        ({"instances": ["a"] * 21}, 413, "20"),
        ({"inputs": ["a"] * 21}, 413, "20"),
        ('{"instances": [' + ",".join(["1"] * 1_000_000) + "]}", 413, "20 instances"),
        ('{"instances": ' + "[" * 10_000, 400, "64 levels"),
        ('{"a": ' * 5_000, 400, "64 levels"),
        ("[" * 100, 400, "JSON"),
    ],
)
def test_json_that_costs_memory_is_refused_before_it_is_parsed(
    port: int, body: Any, status: int, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    answered, content, _ = ask(port, "POST", PREDICT, body)
    assert answered == status and sentence in content["error"]
    assert not caplog.records, "the server logged an error of the client"


def test_brackets_and_commas_in_strings_count_for_nothing(port: int) -> None:
    text = '[{,"\\' * 3000
    body = json.dumps({"instances": [text, "a"]})
    status, content, _ = ask(port, "POST", PREDICT, body)
    assert status == 200 and len(content["predictions"]) == 2


def test_the_page_needs_no_inline_code(port: int) -> None:
    status, page, headers = ask(port, "GET", "/", headers={"Accept": "text/html"})
    assert status == 200 and "unsafe" not in headers["Content-Security-Policy"]
    text = page.decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=|style=", text)
    for source in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert ask(port, "GET", source)[0] == 200
    assert ask(port, "GET", "/")[1] == {"models": [{"name": "toy", "versions": ["1", "2"]}]}


def test_a_request_id_is_returned_or_generated(port: int) -> None:
    assert ask(port, "GET", "/healthz", headers={"X-Request-Id": "a-1"})[2]["X-Request-Id"] == "a-1"
    assert len(ask(port, "GET", "/healthz")[2]["X-Request-Id"]) == 32


def test_unloaded_versions_leave_no_metrics() -> None:
    known = Metrics()

    def use(version: int) -> None:
        batches = BatchMetrics(known, "toy", version)
        batches.batch(3, 4, [0.1] * 3, 0.1)
        batches.failed(ValueError())
        known.waiting.labels("toy", str(version)).set_function(lambda: 0.0)
        known.loads.labels("toy", str(version), "loaded").inc()
        known.count("http", "toy", str(version), "200")
        known.note_stages("toy", str(version), {"read": 0.1, "write": 0.1})

    known.count("http", "", "", "404")
    before = known.text().count(b"\n")
    use(12)
    lines = known.text().count(b"\n")
    for version in (1, 2):
        use(version)
        known.forget("toy", version)
        known.count("http", "toy", str(version), "200")  # a request that ends after the unloading
        known.note_stages("toy", str(version), {"write": 0.1})
    text = known.text()
    assert text.count(b"\n") == lines > before and b'version="12"' in text
    use(1)
    assert b'cvpipe_requests_total{code="200",model="toy",protocol="http",version="1"} 1.0' in (
        known.text()
    )


def test_health_and_metrics(port: int) -> None:
    assert ask(port, "GET", "/healthz")[0] == ask(port, "GET", "/readyz")[0] == 200
    by_rest(port, b"counted")
    ask(port, "POST", "/predict/none", b"x")
    text = ask(port, "GET", "/monitoring/prometheus/metrics")[1].decode()
    assert re.search(
        r'cvpipe_requests_total\{code="200",model="toy",protocol="http",version="2"\} [1-9]', text
    )
    assert 'code="404",model="",protocol="http"' in text
    for name in ("queue_seconds", "call_seconds", "batch_images", "stage_seconds"):
        assert re.search(rf"cvpipe_{name}_count\{{[^}}]*version=\"2\"[^}}]*\}} [1-9]", text), name
    assert "cvpipe_ready 1.0" in text
    assert 'code="404"' in ask(port, "GET", "/metrics")[1].decode()


def test_only_requests_with_a_key_are_answered(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\n\nfirst\nsecond key \nvoilà\n", "utf-8")
    keys = read_api_keys(tmp_path / "keys")
    assert keys == {b"first", b"second key", "voilà".encode()}
    with served(folder, Settings(api_keys=keys)) as server:
        port = server.server_port
        for headers in ({}, {"X-API-Key": "fir"}, {"Authorization": "Basic first"}):
            status, content, answered = ask(port, "POST", "/predict/toy", b"x" * 10**6, headers)
            assert (status, list(content)) == (401, ["error"])
            assert answered["WWW-Authenticate"] == "Bearer"
        # Letters beyond ASCII are sent in UTF-8. The last byte of this one is a space in Latin-1.
        for headers in (
            {"X-API-Key": "first"},
            {"Authorization": "Bearer second key"},
            {"X-API-Key": "voilà".encode()},
            {"Authorization": "Bearer voilà".encode()},
        ):
            assert ask(port, "POST", "/predict/toy", b"x", headers)[0] == 200
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/v2/health/live", 200)):
            assert ask(port, "GET", path)[0] == status
        for path in ("/", "/v1/models", "/v2", "/monitoring/prometheus/metrics", "/metrics"):
            assert ask(port, "GET", path)[0] == 401


def test_sizes_are_read_from_headers_of_every_format() -> None:
    pixels = tf.zeros([30, 50, 3], tf.uint8)
    assert image_size(png(50, 30)) == (50, 30)
    assert image_size(tf.io.encode_png(pixels).numpy()) == (50, 30)
    jpeg = tf.io.encode_jpeg(pixels).numpy()
    assert image_size(jpeg) == (50, 30)
    # libjpeg skips bytes between segments, fill bytes, and markers without a segment.
    segment, rest = b"\xff\xe1\0\6abcd", jpeg[2:]
    assert image_size(b"\xff\xd8" + b"\xff\xe2\0\2" * 900 + rest) == (50, 30)
    for between in (b"any \xff\0 bytes", b"\xff" * 99, b"\xff\1\xff\xd0"):
        passed = b"\xff\xd8" + segment + between + rest
        assert image_size(passed) == (50, 30) and tf.io.decode_jpeg(passed).shape[1] == 50
    for between in (b"\xff\xe1\0\2" * 1_000, b"\xff" * 100_000, bytes(100_000)):
        refused = (65_535, 65_535)
        assert image_size(b"\xff\xd8" + segment + between + rest) == refused
    from io import BytesIO

    from PIL import Image

    for kind, more in (("BMP", {}), ("WEBP", {}), ("WEBP", {"lossless": True})):
        file = BytesIO()
        Image.new("RGB", (50, 30)).save(file, kind, **more)
        assert image_size(file.getvalue()) == (50, 30), kind
    for content in (
        b"",
        b"GIF89a",
        jpeg[:3],
        png(9, 9)[:20],
        b"BM",
        b"RIFF....WEBP",
        jpeg[:2] * 99,
    ):
        assert image_size(content) is None
