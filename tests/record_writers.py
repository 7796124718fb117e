"""Writes TFRecord files and tar archives for tests, with TensorFlow and Python's tarfile."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf


def example(features: Mapping[str, Any]) -> bytes:
    """Return a tf.train.Example of values, or lists of values, of type int, float, str or bytes."""
    found = {}
    for name, value in features.items():
        values = list(value) if isinstance(value, list | tuple) else [value]
        values = [each.encode() if isinstance(each, str) else each for each in values]
        if values and isinstance(values[0], bytes):
            found[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif any(isinstance(each, float) for each in values):
            found[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            found[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=found)).SerializeToString()


def tfrecord(examples: Iterable[Mapping[str, Any] | bytes]) -> bytes:
    """Return a TFRecord file; each record is given as features, or as bytes that are kept."""
    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            for each in examples:
                writer.write(each if isinstance(each, bytes) else example(each))
        return Path(file.name).read_bytes()


def tar(members: Iterable[tuple[str, bytes]], **options: Any) -> bytes:
    """Return a tar archive of files, in order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def write_tfrecord(file: Path, examples: Iterable[Mapping[str, Any] | bytes]) -> Path:
    """Write a TFRecord file; return its path."""
    return _written(file, tfrecord(examples))


def write_tar(file: Path, members: Iterable[tuple[str, bytes]], **options: Any) -> Path:
    """Write a tar archive; return its path."""
    return _written(file, tar(members, **options))


def _written(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file
