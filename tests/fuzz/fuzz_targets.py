"""Everything that reads bytes of strangers, as functions that take any bytes.

A check raises a `Fault`, or whatever the code under test lets through, if the bytes show a fault:
anything but the project's own errors, an answer of status 500, a limit that doesn't hold, or more
than a second of CPU time. `tests/fuzz/fuzz.py` looks for such bytes; `found/` keeps those that it
found.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import re
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import record_writers
from conftest import ROOT
from cvpipe import config_file
from cvpipe.config.coco import Coco, CocoMasks, CocoSplit
from cvpipe.config.keypoint_sources import CocoKeypoints, KeypointCsv
from cvpipe.config.label_sources import ClassNames, Csv, Folder, Idx
from cvpipe.config.mask_sources import Masks
from cvpipe.config.record_files import TfRecordBoxes, WebDatasetBoxes
from cvpipe.config.voc import Voc
from cvpipe.config.yolo import Yolo
from cvpipe.data.decode import decode_image, upright_extent
from cvpipe.data.sources import Source
from cvpipe.data.sources.coco import coco
from cvpipe.data.sources.csv import csv
from cvpipe.data.sources.folder import folder
from cvpipe.data.sources.idx import idx
from cvpipe.data.sources.keypoint_csv import keypoint_csv
from cvpipe.data.sources.masks import masks
from cvpipe.data.sources.tfrecord import tfrecord
from cvpipe.data.sources.voc import voc
from cvpipe.data.sources.webdataset import webdataset
from cvpipe.data.sources.yolo import yolo
from cvpipe.errors import UserError
from cvpipe.serving import rest, v2
from cvpipe.serving.app import make_app
from cvpipe.serving.bodies import JsonGuard, Unpacker
from cvpipe.serving.errors import RequestError
from cvpipe.serving.image_header import image_size
from cvpipe.serving.multipart import files_of
from cvpipe.serving.service import Service
from cvpipe.serving.settings import Settings
from image_files import BAD, encode, noise, smooth
from toy_served import b64, save_toy

MAX_CPU_SECONDS = 1.0
FOUND = Path(__file__).parent / "found"
PNG_START = b"\x89PNG\r\n\x1a\n"


class Fault(Exception):
    """Bytes that show a fault."""


class Target(NamedTuple):
    """One kind of bytes."""

    seeds: Callable[[], list[bytes]]
    """Bytes that are as they should be, or nearly; the first of some choose what reads the rest."""
    check: Callable[[bytes], None]


def check(name: str, content: bytes) -> None:
    """Raise what is wrong with a target's treatment of some bytes."""
    began = time.thread_time()
    TARGETS[name].check(content)
    took = time.thread_time() - began
    if took > MAX_CPU_SECONDS:
        raise Fault(f"{took:.1f} s of CPU time")


def found(name: str) -> list[Path]:
    """Return the files of bytes that once showed a fault of a target."""
    return sorted((FOUND / name).glob("*"))


@functools.cache
def workplace() -> Path:
    """Return a folder in memory, which is removed at the end of the process."""
    memory = Path("/dev/shm")
    own = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
    workplace.held = own  # type: ignore[attr-defined]
    return Path(own.name)


# Images


def check_image(content: bytes) -> None:
    """Decode, and compare sizes by three readers of headers."""
    _check_image(content)
    # Behind a wrong checksum libpng reads nothing, and mutations leave few of them right.
    if content.startswith(PNG_START) and (mended := _with_checksums(content)) != content:
        _check_image(mended)


def _check_image(content: bytes) -> None:
    size = image_size(content)
    try:
        pixels = _decoded(tf.constant(content))
    except tf.errors.InvalidArgumentError:
        return
    height, width = pixels.shape[:2]
    if size is None or size[0] * size[1] < height * width:
        raise Fault(f"the header says {size}, but {width} x {height} pixels come out")
    if upright_extent(tf.constant(content)).numpy().tolist() != [height, width]:
        raise Fault(f"the extent isn't that of the pixels, {width} x {height}")


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _decoded(encoded: tf.Tensor) -> tf.Tensor:
    return decode_image(encoded, 3)


def _with_checksums(png: bytes) -> bytes:
    at, parts = len(PNG_START), [PNG_START]
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        parts += [png[at:end], struct.pack(">I", zlib.crc32(png[at + 4 : end]))]
        at = end + 4
    return b"".join([*parts, png[at:]])


def image_seeds() -> list[bytes]:
    rgb, wide = noise(7, 5), smooth(24, 34)
    return [
        encode(rgb, "PNG"),
        encode(rgb, "PNG", "P"),
        encode(rgb, "PNG", "LA"),
        encode(rgb, "BMP"),
        encode(rgb, "BMP", "P"),
        encode(noise(7, 5, 4), "BMP"),
        encode(rgb, "WEBP", lossless=True),
        encode(wide, "WEBP"),
        encode(noise(7, 5, 4), "WEBP"),
        encode(wide, "JPEG"),
        encode(wide, "JPEG", "CMYK"),
        encode(wide, "JPEG", progressive=True),
        encode(wide, "JPEG", exif=_turned()),
        encode(rgb, "PNG", exif=_turned()),
        encode(wide, "WEBP", exif=_turned()),
        *(bad for bad in BAD.values() if len(bad) < 2000),
    ]


def _turned() -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


# Requests

ROUTES: list[tuple[str, dict[str, str]]] = [
    ("/v1/models/toy:predict", {}),
    ("/v2/models/toy/infer", {}),
    ("/v2/models/toy/infer", {"inference-header-content-length": "148"}),
    ("/predict/toy", {}),
    ("/predict/toy", {"content-type": "multipart/form-data; boundary=x"}),
    ("/v1/models/toy:predict", {"content-encoding": "gzip"}),
    ("/v1/models/toy/versions/1:predict", {}),
]
"""Paths and headers of POST, by the first byte of a request; one byte more means that the path and
the query come from the request's first line.
"""


class _Server:
    """A server without sockets."""

    def __init__(self) -> None:
        models = workplace() / "models"
        save_toy(models / "toy", 1)
        settings = Settings(max_instances=64, batch_threads=1, threads=1, poll_seconds=3600)
        self._service = Service(models, settings)
        self._service.shelf.start()
        self._app = make_app(self._service)
        self._loop = asyncio.new_event_loop()

    def ask(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        return self._loop.run_until_complete(self._ask(path, headers, body))

    async def _ask(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        raw, _, query = path.partition("?")
        fields = {"content-length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "method": "POST",
            "path": raw,
            "raw_path": raw.encode("latin-1", "replace"),
            "query_string": query.encode("latin-1", "replace"),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }
        # In two parts, as a body may come.
        half = len(body) // 2
        parts = [(body[:half], True), (body[half:], False)]
        status, content = 0, b""

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            part, more = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": more}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, content
            status = message.get("status", status)
            content += message.get("body", b"")

        await self._app(scope, receive, send)  # type: ignore[arg-type]
        return status, content


@functools.cache
def _server() -> _Server:
    return _Server()


def check_request(content: bytes) -> None:
    """Send a request to a server."""
    route, body = content[0] % (len(ROUTES) + 1) if content else 0, content[1:]
    if route == len(ROUTES):
        line, _, body = body.partition(b"\n")
        path, headers = f"/{line.decode('latin-1')}", {}
    else:
        path, headers = ROUTES[route]
    status, answer = _server().ask(path, headers, body)
    if status not in (200, 400, 404, 405, 413, 415, 429):
        raise Fault(f"status {status}: {answer[:200]!r}")
    if status == 200:
        return
    said = json.loads(answer)
    if list(said) != ["error"] or not said["error"] or "Traceback" in said["error"]:
        raise Fault(f"no sentence: {answer[:200]!r}")


def request_seeds() -> list[bytes]:
    image, rows = encode(noise(3, 3), "PNG"), [[1.0, 2.0], [3, -4e3]]
    bodies: list[tuple[int, Any]] = [
        (0, {"instances": [b64(image), b64(b"x")]}),
        (0, {"instances": [{"image_bytes": "text", "threshold": 0.5}]}),
        (0, {"inputs": {"image_bytes": ["a", "b"], "threshold": 0.25}}),
        (6, {"signature_name": "tensor", "instances": rows}),
        (6, {"signature_name": "tensor", "inputs": {"image": rows}}),
        (0, {"signature_name": "serving_default", "inputs": ["a"]}),
    ]
    images = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["aGk="]}
    numbers = {"name": "image", "shape": [2, 2], "datatype": "FP32", "data": rows}
    bodies += [
        (1, {"id": "7", "inputs": [images], "outputs": [{"name": "version"}]}),
        (1, {"inputs": [numbers], "parameters": {"signature_name": "tensor"}}),
        (1, {"inputs": [images], "parameters": {"binary_data_output": True}}),
    ]
    binary = {**images, "parameters": {"binary_data_size": 7}, "data": None}
    head = json.dumps({"inputs": [binary]}).ljust(148).encode()
    form = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nz\r\n--x--\r\n'
    return [
        *(bytes([route]) + json.dumps(body).encode() for route, body in bodies),
        b"\2" + head + b"\3\0\0\0abc",
        b"\3" + image,
        b"\4" + form,
        b"\5" + gzip.compress(json.dumps(bodies[1][1]).encode(), mtime=0),
        b"\7predict/toy?threshold=0.5\nimage",
        b"\7v1/models/toy/versions/1:predict\n" + json.dumps(bodies[1][1]).encode(),
        b"\7v1/models/toy/labels/x:predict\n{}",
        b"\7v2/models/toy/versions/1/infer\n" + json.dumps(bodies[-1][1]).encode(),
    ]


# Bodies

_SPECS = {
    "image_bytes": tf.TensorSpec([None], tf.string),
    "threshold": tf.TensorSpec([], tf.float32),
    "pair": tf.TensorSpec([None, 2], tf.float32),
    "count": tf.TensorSpec([None], tf.int32),
    "flags": tf.TensorSpec(None, tf.bool),
}


class _Signature:
    """Inputs of all kinds."""

    images_input = "image_bytes"

    def input_specs(self, name: str) -> dict[str, tf.TensorSpec]:
        return _SPECS

    def defaults(self, name: str) -> dict[str, Any]:
        return dict.fromkeys([*_SPECS][1:])


def check_body(content: bytes) -> None:
    """Read a body in each way that the server has, as far as the tensors for the model."""
    for read in (_read_rest, _read_v2, _read_form, image_size):
        with suppress(RequestError):
            read(content)


def _read_rest(content: bytes) -> None:
    guard = JsonGuard(64)
    unpacker = Unpacker("gzip" if content[:1] == b"\x1f" else "identity", 2**20)
    body = b"".join(unpacker.feed(content))
    unpacker.end()
    for at in range(0, len(body), 100):
        guard.feed(body[at : at + 100])
    rest.to_arrays(rest.parse_request(body), _SPECS, [*_SPECS][1:])


def _read_v2(content: bytes) -> None:
    end = content.find(b"\0")
    request = v2.parse_request(content, None if end < 0 else end)
    v2.to_arrays(request, _Signature(), request.signature_name or "serving_default")  # type: ignore[arg-type]
    v2.wanted_outputs(request, {"scores": np.zeros(1)})


def _read_form(content: bytes) -> None:
    files_of(content, "multipart/form-data; boundary=x", 16)


def body_seeds() -> list[bytes]:
    more = {"pair": [[1, 2.5], [3, -4]], "count": [1, 2], "flags": [[True], [False]]}
    given = {"image_bytes": [b64(b"x"), "y"], "threshold": 0.5, **more}
    inputs = [
        {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["aGk="]},
        {"name": "pair", "shape": [1, 2], "datatype": "FP32", "data": [1, 2e3]},
        {"name": "flags", "shape": [2, 1], "datatype": "BOOL", "data": [[True], [False]]},
    ]
    binary = {"name": "count", "shape": [1], "datatype": "INT32"}
    binary["parameters"] = {"binary_data_size": 4}
    strings = {"name": "image_bytes", "shape": [1], "datatype": "BYTES"}
    strings["parameters"] = {"binary_data_size": 5}
    return [
        *(seed[1:] for seed in request_seeds()),
        json.dumps({"inputs": given}).encode(),
        json.dumps(
            {"instances": [{"image_bytes": b64(b"x"), "count": 1, "threshold": 1}]}
        ).encode(),
        json.dumps({"inputs": inputs, "outputs": [{"name": "scores"}]}).encode(),
        json.dumps({"inputs": [strings, binary]}).encode() + b"\0" * 9,
        *image_seeds(),
    ]


# Annotations


class _Format(NamedTuple):
    """A format: the file that is filled with any bytes, those around it, and what opens them."""

    file: str
    around: dict[str, bytes]
    open: Callable[[Path], dict[str, Source]]
    seeds: list[bytes]
    reads: bool = False
    """Reading an example reads the bytes, too."""


@functools.cache
def _formats() -> list[_Format]:
    picture = encode(noise(20, 40), "PNG")
    photos = {f"photos/{name}.png": picture for name in "abc"}
    voc_around = {"JPEGImages/a.jpg": picture, "JPEGImages/b.jpg": picture}
    xml = _voc_xml()
    boxes = {"images/a.jpg": picture, "images/b.jpg": picture, "labels/b.txt": b"0 .5 .5 1 1\n"}
    data_yaml = b"train: images\nnames: [cat, dog]\n"
    table = b"file,kind\nphotos/a.png,cat\nphotos/b.png,dog\n"
    points = b"file,nose_x,nose_y,eye_x,eye_y,eye_v\na.png,10,5,20,10,1\nb.png,,,4,8,2\n"
    split = CocoSplit(annotations="train.json", images="photos")

    def at(kind: Any, function: Any, **more: Any) -> Callable[[Path], dict[str, Source]]:
        name = "coco" if "coco" in kind.__name__.lower() else function.__name__
        return lambda path: function(kind.model_validate({"kind": name, "path": str(path), **more}))

    class_names = ClassNames(file="names.csv", label="label", name="name")
    masked = {
        "train": [{"images": "photos", "masks": "masks"}],
        "classes": [{"name": "sky"}, {"name": "sea"}],
    }
    return [
        _Format("Annotations/a.xml", voc_around, at(Voc, voc), [xml, xml.replace(b"40", b"1e9")]),
        _Format(
            "ImageSets/Main/train.txt",
            {**voc_around, "Annotations/a.xml": xml, "Annotations/b.xml": xml},
            at(Voc, voc),
            [b"a\nb\n", b"JPEGImages/a.jpg 1\r\nb -1\r\n"],
        ),
        _Format("train.json", photos, at(Coco, coco, train=split), [_coco_json()]),
        _Format("train.json", photos, at(CocoMasks, coco, train=split), [_coco_json()], True),
        _Format("train.json", photos, at(CocoKeypoints, coco, train=split), [_coco_json()]),
        _Format(
            "labels/a.txt",
            {**boxes, "data.yaml": data_yaml},
            at(Yolo, yolo),
            [b"1 0.5 0.25 0.2 0.1\n\n0 .5 .5 1 1 0.9\n", b"0 0 0 1 0 1 1 0 1\n1.0 .1 .1 .1 .1\n"],
        ),
        _Format(
            "data.yaml",
            {**boxes, "labels/a.txt": b"1 0.5 0.5 0.2 0.1\n"},
            at(Yolo, yolo),
            [data_yaml, b"path: .\ntrain: [images]\nval: images\nnames:\n  0: no\n  1: 010\n"],
        ),
        _Format("train.csv", photos, at(Csv, csv, train="train.csv"), [table]),
        _Format(
            "names.csv",
            {**photos, "train.csv": table},
            at(Csv, csv, train="train.csv", names=class_names.model_dump()),
            [b"label,name\ncat,Felis\ndog,Canis\n"],
        ),
        _Format(
            "train.csv",
            photos,
            at(KeypointCsv, keypoint_csv, train="train.csv", images="photos"),
            [points],
        ),
        _Format(
            "train-labels-idx1-ubyte",
            {"train-images-idx3-ubyte": struct.pack(">iiii", 2051, 3, 2, 2) + bytes(12)},
            at(Idx, idx),
            [struct.pack(">ii", 2049, 3) + b"\0\1\2", gzip.compress(b"\0\0\x08\1", mtime=0)],
        ),
        _Format(
            "masks/a.png",
            {**photos, "masks/b.png": encode(noise(20, 40, 1) % 2, "PNG")},
            at(Masks, masks, **masked),
            [
                encode(noise(20, 40, 1) % 2, "PNG"),
                encode(noise(20, 40) % 2, "PNG", "P"),
                encode(noise(20, 40) % 2, "BMP"),
                encode(noise(20, 40) % 2, "PNG", "LA"),
            ],
            True,
        ),
        _Format("data.zip", {}, lambda path: folder(_zip_section(path)), [_folder_zip()], True),
        _Format(
            "train.tfrecord",
            {},
            at(TfRecordBoxes, tfrecord),
            [record_writers.tfrecord([_boxes_example(picture)] * 2)],
            True,
        ),
        _Format(
            "map.pbtxt",
            {"train.tfrecord": record_writers.tfrecord([_boxes_example(picture)])},
            at(TfRecordBoxes, tfrecord, names="map.pbtxt"),
            [b"item { id: 1 name: 'dog' display_name: \"Dog\" }\nitem {\n  id: 2 name: 'cat' }\n"],
        ),
        _Format(
            "train.tar",
            {},
            at(WebDatasetBoxes, webdataset),
            [
                record_writers.tar(
                    [
                        ("a/1.png", picture),
                        ("a/1.json", b'{"objects": [{"bbox": [1, 2, 8, 7], "category": 1}]}'),
                        ("a/2.json", b'{"objects": {"bbox": [[1, 2, 8, 7]], "category": ["x"]}}'),
                        ("a/2.png", picture),
                    ]
                )
            ],
            True,
        ),
    ]


def _boxes_example(picture: bytes) -> dict[str, Any]:
    sides = {"ymin": 0.1, "xmin": 0.2, "ymax": 0.5, "xmax": 0.9}
    return {
        "image/encoded": picture,
        "image/object/class/label": [1],
        "image/object/class/text": "dog",
        "image/object/is_crowd": [0],
        **{f"image/object/bbox/{side}": value for side, value in sides.items()},
    }


def _zip_section(path: Path) -> Folder:
    return Folder(kind="folder", path=str(path / "data.zip"))


def _voc_xml() -> bytes:
    corners = "<xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax>"
    return (
        '<?xml version="1.0"?><annotation><filename>a.jpg</filename><size><width>40</width>'
        "<height>20</height><depth>3</depth></size><object><name>dog</name>"
        f"<difficult>0</difficult><bndbox>{corners}</bndbox><part><name>head</name>"
        f"<bndbox>{corners}</bndbox></part></object></annotation>"
    ).encode()


def _coco_json() -> bytes:
    image = {"id": 7, "file_name": "b.png", "height": 20, "width": 40}
    own = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 8, 7], "area": 30.5}
    outline = {"iscrowd": 0, "segmentation": [[2, 1, 8, 1, 8, 7, 2, 7]]}
    runs = {"size": [20, 40], "counts": [5, 10, 785]}
    people = {"keypoints": [2, 3, 2, 4, 5, 1], "num_keypoints": 2}
    return json.dumps(
        {
            "images": [image, {**image, "id": "x", "file_name": "a.png"}],
            "annotations": [
                {**own, **outline, **people},
                {**own, "id": 2, "iscrowd": 1, "segmentation": runs, "keypoints": [0] * 6},
                {**own, "id": 3, "segmentation": {"size": [20, 40], "counts": "5:0c00"}},
            ],
            "categories": [
                {"id": 1, "name": "person", "keypoints": ["nose", "eye"], "skeleton": [[1, 2]]}
            ],
        }
    ).encode()


def _folder_zip() -> bytes:
    file = workplace() / "seed.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("cat/1.png", "dog/2.png"):
            archive.writestr(zipfile.ZipInfo(name), encode(noise(2, 2), "PNG"))
    return file.read_bytes()


@functools.cache
def _laid_out(number: int) -> Path:
    place = workplace() / str(number)
    chosen = _formats()[number]
    for name, content in {**chosen.around, chosen.file: b""}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def check_annotations(content: bytes) -> None:
    """Open a data set, and read its first examples."""
    number, rest = content[0] % len(_formats()) if content else 0, content[1:]
    place, chosen = _laid_out(number), _formats()[number]
    (place / chosen.file).write_bytes(rest)
    try:
        splits = chosen.open(place)
    except UserError as error:
        _check_sentence(str(error))
        return
    for source in splits.values():
        source.digest()
        source.counts()
        if chosen.reads and len(source):
            _read(source, 0)


def _read(source: Source, index: int) -> None:
    try:
        source.read(tf.constant(index, tf.int64))
        source.describe(index)
    except UserError as error:
        _check_sentence(str(error))
    except tf.errors.UnknownError as error:
        # Errors of Python come so from a graph; DataErrors are meant.
        if "DataError" not in str(error.message).split(":")[0]:
            raise
    except tf.errors.OpError:
        pass  # a bad record


def _check_sentence(text: str) -> None:
    if len(text) < 15 or "Traceback" in text:
        raise Fault(f"no sentence: {text!r}")


def annotation_seeds() -> list[bytes]:
    return [bytes([number]) + seed for number, one in enumerate(_formats()) for seed in one.seeds]


# Pipelines


def check_pipeline(content: bytes) -> None:
    """Read a pipeline file, and overrides that follow it after zeros."""
    text, *overrides = content.split(b"\0")
    file = workplace() / "pipeline.yaml"
    file.write_bytes(text)
    try:
        config = config_file.load(file, [one.decode("utf-8", "replace") for one in overrides])
    except UserError as error:
        _check_sentence(str(error))
        return
    again = config_file.parse(json.dumps(config.to_json()), "saved")
    if again != config:
        raise Fault("the saved pipeline isn't the pipeline")


def pipeline_seeds() -> list[bytes]:
    files = sorted((ROOT / "pipelines").rglob("*.yaml"))
    texts = [re.sub(rb"(?m)^\s*#.*\n|\s+#.*$", b"", file.read_bytes()) for file in files]
    # Sections one by one, too: long files take long.
    sections = {part for text in texts for part in re.split(rb"\n(?=\w)", text)}
    return [
        min(texts, key=len),
        *sorted(b"task: detection\n" + part for part in sections if len(part) < 500),
        texts[0] + b"\0train.epochs=3\0prepare.size=[16, 16]",
        b"task: classification\n<<: &a {data: {source: {kind: digits}}}\nb: *a\n",
        b"task: pose\nname: x\0data.source={kind: stick_figures}\0loss.0=1e-3",
    ]


TARGETS = {
    "image": Target(image_seeds, check_image),
    "body": Target(body_seeds, check_body),
    "request": Target(request_seeds, check_request),
    "annotations": Target(annotation_seeds, check_annotations),
    "pipeline": Target(pipeline_seeds, check_pipeline),
}
