"""Answers a second, and their latencies, of `cvpipe serve` under 1, 8 and 32 clients that ask for
one image at a time, against the bare calls of the same artefact in one process.

    python benchmarks/serving.py [ARTEFACT] [IMAGE]

ARTEFACT is saved_models/digits, which `make train` leaves, unless another is given; IMAGE is a
digit. The limit is the artefact's own signature for image files, called with batches of 32 from
two threads. The clients run in a process of their own, on the same machine.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from record import record, row

SECONDS, WARM_SECONDS = 5.0, 1.0
CLIENTS = (1, 8, 32)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Client(asyncio.Protocol):
    """Asks the same on one connection again and again, as fast as it is answered."""

    def __init__(self, request: bytes, seconds: list[float], refused: list[bytes]) -> None:
        self.request, self.seconds, self.refused = request, seconds, refused
        self.reply, self.missing, self.began = b"", 0, 0.0
        self.going = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.reply, self.began = b"", time.perf_counter()
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.reply += data
        head, separator, body = self.reply.partition(b"\r\n\r\n")
        if not separator or len(body) < int(LENGTH.search(head)[1]):  # type: ignore[index]
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.refused.append(self.reply)
        self.seconds.append(time.perf_counter() - self.began)
        if self.going:
            self.send()


async def load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """Return the latencies of all answers within the time."""
    taken: list[float] = []
    refused: list[bytes] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Client(request, taken, refused), "127.0.0.1", port)
        for _ in range(clients)
    ]
    await asyncio.sleep(seconds)
    for transport, own in made:
        own.going = False
        transport.close()
    assert not refused, refused[0]
    return taken


def requests(name: str, image: bytes) -> dict[str, bytes]:
    """Return the same question as an image file, and in TF Serving's JSON."""
    body = json.dumps({"instances": [{"b64": base64.b64encode(image).decode()}]}).encode()
    asked = {"file": (f"/predict/{name}", image), "JSON": (f"/v1/models/{name}:predict", body)}
    return {
        kind: f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
        for kind, (path, content) in asked.items()
    }


def bare(artefact: Path, image: bytes, batch: int, threads: int) -> float:
    """Return images a second of the bare signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(artefact))
    signature = loaded.signatures["serving_default"]
    given = {"image_bytes": tf.constant([image] * batch)}
    from cvpipe.export.replay import default_inputs

    given = {**default_inputs(str(artefact))["serving_default"], **given}
    end = 0.0

    def work() -> int:
        count = 0
        while time.perf_counter() < end:
            signature(**given)
            count += batch
        return count

    for seconds in (WARM_SECONDS, SECONDS):
        end = time.perf_counter() + seconds
        with ThreadPoolExecutor(threads) as pool:
            done = sum(pool.map(lambda _: work(), range(threads)))
    return done / SECONDS


def in_own_process(*words: str) -> str:
    """Return what this script prints for other arguments."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *words],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stdout.splitlines()[-1]


def main() -> None:
    """Measure the bare calls, then the server."""
    from cvpipe.export.about import find_artefact

    artefact = find_artefact(Path(sys.argv[1] if len(sys.argv) > 1 else "saved_models/digits"))
    file = sys.argv[2] if len(sys.argv) > 2 else "pipelines/classification/example.png"
    rows, rates = [], {}
    for batch, threads in ((1, 1), (8, 1), (32, 1), (32, 2)):
        rate = float(in_own_process("--bare", str(artefact), file, str(batch), str(threads)))
        name = f"bare, batches of {batch}, {threads} thread{'s' * (threads > 1)}"
        rows.append(row(name, rate, "images/s", False))
        rates[batch] = max(rate, rates.get(batch, 0))
    limit = max(rates.values())
    command = [sys.executable, "-m", "cvpipe", "serve", str(artefact.parent), "--port", "0"]
    best = 0.0
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        line = next(line for line in server.stderr if " at http://" in line)
        port = re.search(r":(\d+) \(", line)[1]  # type: ignore[index]
        try:
            for kind in ("file", "JSON"):
                for clients in CLIENTS:
                    told = json.loads(
                        in_own_process(
                            "--load", port, kind, artefact.parent.name, file, str(clients)
                        )
                    )
                    name = f"cvpipe serve, {clients} clients, {kind}"
                    rows.append(row(name, told["rate"], "images/s", True))
                    rows.append(row(f"{name}: p50", 1000 * told["p50"], "ms", True))
                    rows.append(row(f"{name}: p99", 1000 * told["p99"], "ms", True))
                    best = max(best, told["rate"])
        finally:
            server.terminate()
    record("serving", rows, to_limit=best / limit)


def measure_load(port: int, kind: str, name: str, file: str, clients: int) -> None:
    """Print rate and latencies as JSON."""
    request = requests(name, Path(file).read_bytes())[kind]
    asyncio.run(load(port, request, clients, WARM_SECONDS))
    taken = asyncio.run(load(port, request, clients, SECONDS))
    cuts = statistics.quantiles(taken, n=100)
    print(json.dumps({"rate": len(taken) / SECONDS, "p50": cuts[49], "p99": cuts[98]}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        folder, path, size, count = sys.argv[2:]
        print(bare(Path(folder), Path(path).read_bytes(), int(size), int(count)))
    elif sys.argv[1:2] == ["--load"]:
        port_, kind_, name_, file_, clients_ = sys.argv[2:]
        measure_load(int(port_), kind_, name_, file_, int(clients_))
    else:
        main()
