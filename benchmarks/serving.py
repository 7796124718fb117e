"""Measure throughput and latency of `cvpipe serve` and of other servers with the same artifact,
compared with direct calls.

    python benchmarks/serving.py [ARTIFACT IMAGE]...

ARTIFACT is by default saved_models/digits, which `make train` writes, and IMAGE a digit. All
installed servers are measured: the extra [bench] installs Ray Serve and LitServe. BentoML needs
other versions of packages than cvpipe: install it with TensorFlow 2.20 in another environment, and
set BENTOML_PYTHON to that environment's Python.

The limit is the speed of decoding and the signature `tensor` in one graph, without checks of
images, without JSON and without HTTP. For many clients, the limit uses batches of 32 in two
threads; for one client, one call with the images of a request. Servers and limit are measured
alternately, so that other work on the machine affects all equally. A server runs only while it is
measured, because idle servers use the processor, too. The client shares the cores with the server:
"limit beside the client" is the limit without the client's share of the CPU time.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from record import record, row
from turns import Contestant, answer, free_port

HERE = Path(__file__).parent
ROUNDS, WARM_UP, SECONDS, CORES = 3, 3.0, 3.0, os.cpu_count() or 1
# Number of clients, and number of images in each request.
LEVELS = {
    "batch of 8, 1 client": (1, 8),
    "1 client": (1, 1),
    "8 clients": (8, 1),
    "32 clients": (32, 1),
}
OURS, LIMIT = "cvpipe serve", "limit"
ENVIRONMENT = {
    **os.environ,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_NUM_INTRAOP_THREADS": str(CORES),
    "TF_NUM_INTEROP_THREADS": str(CORES),
}


def limit(artifact: str, file: str, batch: int, threads: int) -> None:
    """Measure the seconds per image of decoding and `tensor`, once for each line on stdin."""
    import tensorflow as tf

    from cvpipe.data.decode import decode_image
    from cvpipe.data.prepare import input_spec, prepare
    from cvpipe.export.about import artifact_config

    config = artifact_config(Path(artifact))
    spec = tf.TensorSpec(input_spec(config).shape[1:])
    signature = (loaded := tf.saved_model.load(artifact)).signatures["tensor"]
    images = tf.constant([Path(file).read_bytes()] * batch)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def call(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        decoded = tf.map_fn(
            lambda content: prepare(decode_image(content, config.prepare.channels), config.prepare),
            encoded,
            fn_output_signature=spec,
            parallel_iterations=16,
        )
        return signature(decoded)

    def measure() -> float:
        end = time.perf_counter() + SECONDS

        def work(_: int) -> int:
            count = 0
            while time.perf_counter() < end:
                call(images)
                count += batch
            return count

        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            done = sum(pool.map(work, range(threads)))
        return (time.perf_counter() - began) / done

    call(images)
    assert loaded
    answer(measure)


def commands(artifact: Path) -> dict[str, list[str]]:
    """Return the command line of each installed server."""
    peers = str(HERE / "serving_peers.py")
    known = {
        "Ray Serve": (sys.executable, "ray"),
        "LitServe": (sys.executable, "litserve"),
        "BentoML": (os.environ.get("BENTOML_PYTHON", sys.executable), "bentoml"),
    }
    found = {OURS: [sys.executable, "-m", "cvpipe", "serve", str(artifact.parent), "--port"]}
    for name, (python, module) in known.items():
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
            print(f"{name} is not installed and not measured")
        else:
            found[name] = [python, peers, module, str(artifact)]
    return found


def body_of(server: str, image: bytes, count: int) -> tuple[str, bytes]:
    """Return the path and body of a request with `count` images."""
    coded = [base64.b64encode(image).decode()] * count
    if server != OURS:
        return ("/" if server == "Ray Serve" else "/predict"), json.dumps(
            {"images": coded}
        ).encode()
    instances = [{"b64": text} for text in coded]
    return "/v1/models/served:predict", json.dumps({"instances": instances}).encode()


def answers(port: int, path: str, body: bytes) -> bool:
    """Return True if a server answers a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def running(server: str, command: list[str], image: bytes) -> Iterator[int]:
    """Start a server, wait for its first answer, yield its port, and stop the server."""
    port = free_port()
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [*command, str(port)], env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        for _ in range(360):
            if process.poll() is not None or answers(port, *body_of(server, image, 1)):
                break
            time.sleep(0.5)
        if process.poll() is not None:
            log.seek(0)
            raise RuntimeError(f"{server} ended: {log.read()[-2000:]!r}")
        try:
            yield port
        finally:
            os.killpg(process.pid, 15)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)


def load(
    port: int, server: str, image: bytes, clients: int, count: int, seconds: float = SECONDS
) -> dict[str, Any]:
    """Run a client in its own process; return its measurements."""
    path, body = body_of(server, image, count)
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        words = [str(port), path, file.name, str(clients), str(seconds)]
        command = [sys.executable, str(HERE / "serving_load.py"), *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def limit_of(clients: int, count: int) -> tuple[int, int]:
    """Return the batch size and number of threads with which the limit of a level is measured."""
    return (32, 2) if clients > 1 else (count, 1)


def measure(artifact: Path, file: str) -> tuple[list[dict[str, Any]], float]:
    """Return the rows of an artifact, and cvpipe's speed with 32 clients divided by the limit."""
    image, name = Path(file).read_bytes(), artifact.parent.name
    measured: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    bare: dict[tuple[int, int], list[float]] = defaultdict(list)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as scratch:
        served = Path(scratch) / "served"
        served.mkdir()
        (served / "1").symlink_to(artifact.resolve())
        limits = {
            one: Contestant(
                [sys.executable, __file__, "--limit", str(artifact), file, *map(str, one)],
                ENVIRONMENT,
            )
            for one in {limit_of(*level) for level in LEVELS.values()}
        }
        for contestant in limits.values():
            stack.callback(contestant.end)
            contestant.seconds()
        servers = commands(served / "1")
        for server, command in list(servers.items()) * ROUNDS:
            for one, contestant in limits.items():
                bare[one].append(1 / contestant.seconds())
            with running(server, command, image) as port:
                for level, (clients, count) in LEVELS.items():
                    load(port, server, image, clients, count, WARM_UP)
                    measured[level, server].append(load(port, server, image, clients, count))
    return summary(name, measured, bare)


def summary(
    name: str,
    measured: dict[tuple[str, str], list[dict[str, Any]]],
    bare: dict[tuple[int, int], list[float]],
) -> tuple[list[dict[str, Any]], float]:
    """Return the rows of an artifact, and cvpipe's speed with 32 clients divided by the limit."""
    rows, share = [], 0.0
    for level, (clients, count) in LEVELS.items():
        most = statistics.median(bare[limit_of(clients, count)])
        rows.append(row(f"{name}, {level}: limit", most, "images/s", False))
        for server in [server for known, server in measured if known == level]:
            loads = measured[level, server]
            rate = statistics.median(count * load["answers"] / load["seconds"] for load in loads)
            latencies = [seconds for load in loads for seconds in load["latencies"]]
            if len(latencies) < 2:
                print(f"{name}, {level}: {server} has not answered in time and is left out")
                continue
            cuts = statistics.quantiles(latencies, n=100)
            client = sum(load["cpu"] for load in loads) / sum(
                count * load["answers"] for load in loads
            )
            # A single client is idle while the server works, so it takes no CPU time from the
            # server.
            beside = 1 / (1 / most + client / CORES) if clients > 1 else most
            ours, what = server == OURS, f"{name}, {level}: {server}"
            rows += [
                row(what, rate, "images/s", ours),
                row(f"{what}, p50", 1e3 * cuts[49], "ms", ours),
                row(f"{what}, p99", 1e3 * cuts[98], "ms", ours),
                row(f"{what} / limit", rate / most, "×", ours),
                row(f"{what} / limit beside the client", rate / beside, "×", ours),
            ]
            if ours and clients == 32:
                share = rate / most
    return rows, share


def main() -> None:
    """Measure every artifact, and write a results file for each."""
    from cvpipe.export.about import find_artifact

    words = sys.argv[1:] or ["saved_models/digits", "pipelines/classification/example.png"]
    for path, file in zip(words[::2], words[1::2], strict=True):
        artifact = find_artifact(Path(path))
        rows, share = measure(artifact, file)
        record(f"serving_{artifact.parent.name}", rows, to_limit=share)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--limit"]:
        folder, path, size, count_ = sys.argv[2:]
        limit(folder, path, int(size), int(count_))
    else:
        main()
