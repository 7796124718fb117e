"""Guards the server under load, against bad clients, and when it is told to stop.

`make soak` runs the long forms of these tests.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import soaked
from cvpipe.serving.settings import Settings
from toy_served import BAD, POISON, ask, b64, png, save_toy, served
from toy_three import save_three

PREDICT = "/v1/models/toy:predict"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "toy"
    save_toy(folder, 1)
    return folder


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose call takes long, for any batch."""
    folder = tmp_path_factory.mktemp("slow") / "toy"
    save_toy(folder, 1, slow=30)
    return folder


@pytest.fixture(scope="module")
def slower_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model so slow that a few clients send many times as many requests as it can answer."""
    folder = tmp_path_factory.mktemp("slower") / "toy"
    save_toy(folder, 1, slow=300)
    return folder


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run `cvpipe serve` in a separate process; yield the process and its port."""
    command = [sys.executable, "-m", "cvpipe", "serve", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as own:
        assert own.stderr
        line = next(line for line in own.stderr if " at http://" in line)
        # A thread reads the rest of stderr: a full pipe would block the server.
        threading.Thread(target=own.stderr.read, daemon=True).start()
        try:
            yield own, int(line.split(" (")[0].rpartition(":")[2])
        finally:
            own.kill()


@pytest.fixture(scope="module")
def alone(folder: Path) -> Iterator[tuple[int, int]]:
    """The process id and the port of a server."""
    # Beside the toy, a model that decodes images.
    save_three(folder.parent, ["detection"])
    with process(folder.parent) as (own, port):
        for _ in range(3):
            answer_alone(port, [b"image"])
        yield own.pid, port


def answer_alone(port: int, images: list[bytes]) -> dict[bytes, Any]:
    """Return the answer to each image, requested alone."""
    return {
        image: ask(port, "POST", PREDICT, {"instances": [b64(image)]})[1]["predictions"][0]
        for image in images
    }


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return a process's CPU time, which other processes on the machine don't lengthen."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("times", [10, *soaked(312)])
def test_32_clients_get_their_own_answers(folder: Path, times: int) -> None:
    images = [b"image %d" % n for n in range(64)]
    with served(folder) as server:
        port = server.server_port
        expected = answer_alone(port, images)

        def client(number: int) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            wrong = 0
            for turn in range(times):
                some = [images[(number * 7 + turn * k) % 64] for k in range(1, 2 + turn % 3)]
                body = {"instances": [b64(image) for image in some]}
                status, content, _ = ask(port, "POST", PREDICT, body, connection=connection)
                right = [expected[image] for image in some]
                wrong += status != 200 or content["predictions"] != right
            connection.close()
            return wrong

        with ThreadPoolExecutor(32) as pool:
            assert sum(pool.map(client, range(32))) == 0


@pytest.mark.parametrize("bad, status", [(BAD, 200), (POISON, 400)])
def test_one_bad_image_among_32_concurrent_ones_is_one_error(
    slow_folder: Path, bad: bytes, status: int
) -> None:
    images = [b"image %d" % n for n in range(31)]
    with served(slow_folder) as server:
        port = server.server_port
        expected = answer_alone(port, images)

        def client(image: bytes) -> tuple[int, Any]:
            answered, content, _ = ask(port, "POST", PREDICT, {"instances": [b64(image)]})
            return answered, content

        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(client, [*images[:15], bad, *images[15:]]))
    answered, content = answers.pop(15)
    assert answered == status
    assert "error" in (content["predictions"][0] if status == 200 else content)
    assert answers == [(200, {"predictions": [expected[image]]}) for image in images]


@pytest.mark.parametrize("swaps", [3, *soaked(100)])
def test_swaps_under_load_lose_nothing_and_a_damaged_version_replaces_none(
    folder: Path, tmp_path: Path, swaps: int
) -> None:
    own = tmp_path / "toy"
    shutil.copytree(folder / "1", own / "1")
    done = threading.Event()
    with served(own, Settings(poll_seconds=0.05)) as server:
        port = server.server_port

        def client(number: int) -> Counter[Any]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            seen: Counter[Any] = Counter()
            while not done.is_set():
                body = {"instances": [b64(b"image %d" % number)]}
                status, _, _ = ask(port, "POST", PREDICT, body, connection=connection)
                seen[status] += 1
            connection.close()
            return seen

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client, number) for number in range(4)]
            try:
                for version in range(2, 2 + swaps):
                    shutil.copytree(folder / "1", own / f"{version}.partial")
                    if version % 3 == 0:
                        graph = own / f"{version}.partial" / "saved_model.pb"
                        graph.write_bytes(graph.read_bytes()[: -100 * version])
                    (own / f"{version}.partial").rename(own / str(version))
                    _wait(lambda v=version: _state(port, v) in ("AVAILABLE", "END"))
                    assert _state(port, version) == ("END" if version % 3 == 0 else "AVAILABLE")
                    numbers = server.service.shelf.numbers("toy")
                    assert numbers[-1] == (version - 1 if version % 3 == 0 else version)
                    if version > 4:
                        shutil.rmtree(own / str(version - 3))
            finally:
                done.set()
        assert set(sum((one.result() for one in clients), Counter())) == {200}


def _state(port: int, version: int) -> str:
    status, content, _ = ask(port, "GET", f"/v1/models/toy/versions/{version}")
    return content["model_version_status"][0]["state"] if status == 200 else ""


def _wait(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("graces", [[1.0], *soaked([0.0] * 3 + [3.0])])
def test_sigterm_under_load_loses_no_request(slow_folder: Path, graces: list[float]) -> None:
    for grace in graces:
        _end_under_load(slow_folder, grace)


def _end_under_load(folder: Path, grace: float) -> None:
    """Send SIGTERM while clients send a new request after each answer."""
    outcomes: list[tuple[float, int, str]] = []
    lost: list[str] = []
    with process(folder, "--grace", str(grace)) as (own, port):

        def client(number: int) -> None:
            body = json.dumps({"instances": [b64(b"image %d" % number)]})
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return  # the server no longer listens: no request was sent
                except OSError as error:
                    lost.append(f"while connecting: {error!r}")
                    return
                try:
                    connection.request("POST", PREDICT, body)
                    response = connection.getresponse()
                    response.read()
                    said = response.headers.get("Connection", "")
                    outcomes.append((time.monotonic(), response.status, said))
                except (OSError, http.client.HTTPException) as error:
                    lost.append(f"{error!r}")
                    return
                finally:
                    connection.close()

        threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        _wait(lambda: len(outcomes) > 50)
        own.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _wait(lambda: ask_or_none(port, "/readyz") in (503, None))
        for thread in threads:
            thread.join(60)
        assert own.wait(30) == 0
    assert not lost
    assert {status for _, status, _ in outcomes} == {200}
    # Requests that ran when the signal came have a second.
    late = [said for at, _, said in outcomes if at > began + 1]
    assert set(late) <= {"close"}
    print(f"{len(outcomes)} answers, {len(late)} of them later than a second after SIGTERM")


def ask_or_none(port: int, path: str) -> int | None:
    try:
        return ask(port, "GET", path)[0]
    except (OSError, http.client.HTTPException):
        return None


@pytest.mark.parametrize("seconds", [3, *soaked(60)])
def test_requests_beyond_the_capacity_are_refused_until_the_load_falls(
    slower_folder: Path, seconds: float
) -> None:
    with process(slower_folder, "--max-queue", "16") as (own, port):
        answer_alone(port, [b"image"])
        usual = max(_seconds_alone(port) for _ in range(5))
        outcomes: Counter[int] = Counter()
        unsaid: list[int] = []
        end = time.monotonic() + seconds

        def client(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            body = {"instances": [b64(b"image %d" % number)] * 4}
            while time.monotonic() < end:
                status, _, headers = ask(port, "POST", PREDICT, body, connection=connection)
                outcomes[status] += 1
                if status != 200 and "Retry-After" not in headers:
                    unsaid.append(status)
            connection.close()

        threads = [threading.Thread(target=client, args=(n,)) for n in range(48)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 3)
        before = memory(own.pid)
        for thread in threads:
            thread.join()
        grown = memory(own.pid) / before - 1
        assert not unsaid and set(outcomes) == {200, 429}
        assert outcomes.total() >= 10 * outcomes[200]
        assert grown <= 0.10
        _wait(lambda: _seconds_alone(port) <= 2 * usual, 5)
        print(f"{dict(outcomes)}, memory {100 * grown:+.1f} %")


def _seconds_alone(port: int) -> float:
    """Return the time that an answer takes."""
    began = time.monotonic()
    assert ask(port, "POST", PREDICT, {"instances": ["a"]})[0] == 200
    return time.monotonic() - began


def test_slow_clients_are_disconnected_and_delay_no_others(folder: Path) -> None:
    settings = Settings(header_seconds=0.5, stalled_seconds=0.5, max_connections=300)
    with served(folder, settings) as server:
        port = server.server_port
        heads = [b"", b"POST /v1", b"POST %s HTTP/1.1\r\nHost: x\r\n" % PREDICT.encode()]
        whole = b"POST %s HTTP/1.1\r\nContent-Length: 100\r\n\r\n{" % PREDICT.encode()
        chunk = b"POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{" % PREDICT.encode()
        slow = []
        for n in range(200):
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            connection.sendall([*heads, whole, chunk][n % 5])
            slow.append(connection)
        began = time.monotonic()
        assert ask(port, "POST", PREDICT, {"instances": ["a"]})[0] == 200
        assert time.monotonic() - began < 5
        statuses = Counter()
        for connection in slow:
            reply = b"".join(iter(lambda: connection.recv(2**16), b""))
            statuses[reply[9:12]] += 1
            connection.close()
        assert set(statuses) == {b"", b"408"}, statuses


def test_a_client_that_sends_byte_by_byte_is_disconnected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvpipe.serving.gateway.LINGER_SECONDS", 0.2)
    with (
        served(folder, Settings(header_seconds=0.5, stalled_seconds=0.5)) as server,
        socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as drip,
    ):
        drip.sendall(b"POST %s HTTP/1.1\r\nContent-Length: 9999\r\n\r\n" % PREDICT.encode())
        with pytest.raises(ConnectionError):
            _repeat(lambda: drip.sendall(b" "), 15, 0.1)


def test_a_client_that_doesnt_read_its_answer_is_disconnected(folder: Path) -> None:
    with served(folder, Settings(stalled_seconds=0.5)) as server:
        body = json.dumps({"inputs": {"image_bytes": ["x" * 1000] * 1000}}).encode()
        head = b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (PREDICT.encode(), len(body))
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            with pytest.raises(ConnectionError):
                _repeat(lambda: deaf.sendall(head + body), 30, 0)
        connections = server._uvicorn.server_state.connections
        _wait(lambda: not connections, 10)


def _repeat(act: Callable[[], Any], seconds: float, pause: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        act()
        time.sleep(pause)


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b" " * 2**20) for _ in range(2**10)) + packer.flush()


def gif_bomb(width: int, height: int) -> bytes:
    """Return a GIF of one color; each LZW code stands for a longer run than the one before."""
    bits, length, left = 0, 0, width * height
    while left > 0:
        # A code that empties the table, of 12 bits when it follows a full table.
        codes = [(256, 12 if bits else 9)]
        for n in range(3837):
            if left <= 0:
                break
            # The first code is a pixel; each later one is the entry that it adds to the table.
            codes.append((257 + n if n else 0, max(9, (257 + n).bit_length() if n else 9)))
            left -= n + 1
        for code, size in codes:
            bits, length = bits | code << length, length + size
    bits, length = bits | 257 << length, length + 12
    data = bits.to_bytes(length // 8 + 1, "little")
    blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    head = b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b"\x2c\0\0\0\0" + size + b"\0\x08"
    return head + b"".join(bytes([len(each)]) + each for each in blocks) + b"\0\x3b"


def v2_bomb(data: bytes) -> tuple[str, bytes, dict[str, str]]:
    """Return a request in JSON followed by a binary tensor; a header says the JSON's length."""
    return "/v2/models/toy/infer", data, {"Inference-Header-Content-Length": str(len(data))}


BOMBS: dict[str, Callable[[], tuple[str, bytes, dict[str, str]]]] = {
    "png": lambda: ("/predict/detection", png(8000, 8000), {}),
    "gif": lambda: ("/predict/detection", gif_bomb(8000, 8000), {}),
    "jpeg": lambda: ("/predict/detection", b"\xff\xd8" + b"\xff\xe1\0\2" * 2**16, {}),
    "v2 depth": lambda: v2_bomb(b'{"inputs":' + b"[" * 1_000_000),
    "v2 inputs": lambda: v2_bomb(b'{"inputs":[' + b"{}," * 999_999 + b"{}]}"),
    "gzip": lambda: (PREDICT, gzip_bomb(), {"Content-Encoding": "gzip"}),
    "depth": lambda: (PREDICT, b'{"instances":' + b"[" * 1_000_000, {}),
    "instances": lambda: (PREDICT, b'{"instances":[' + b"1," * 999_999 + b"1]}", {}),
    "rows": lambda: (PREDICT, b'{"instances":[' + b'{"b64":""},' * 999_999 + b"{}]}", {}),
    "columns": lambda: (PREDICT, b'{"inputs":{"image_bytes":[' + b'"",' * 999_999 + b'""]}}', {}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_fast_and_take_no_memory(alone: tuple[int, int], name: str) -> None:
    path, body, headers = BOMBS[name]()
    pid, port = alone
    ask(port, "POST", path, body, headers)
    before, began = memory(pid), cpu_seconds(pid)
    for _ in range(5):
        status, content, _ = ask(port, "POST", path, body, headers)
        assert status in (400, 413) and list(content) == ["error"]
    took = (cpu_seconds(pid) - began) / 5
    print(f"{name}: {1000 * took:.1f} ms, {(memory(pid) - before) / 2**20:.1f} MiB")
    assert took < 0.05
    assert memory(pid) - before < 20 * 2**20
    assert ask(port, "GET", "/healthz")[0] == 200


def test_a_body_of_two_gigabytes_is_refused_by_its_length(alone: tuple[int, int]) -> None:
    pid, port = alone
    before = memory(pid)
    head = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: {2**31}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")
    assert memory(pid) - before < 20 * 2**20


def test_chunks_of_two_gigabytes_are_refused_at_the_limit(alone: tuple[int, int]) -> None:
    pid, port = alone
    chunk, before, sent, most = b"100000\r\n" + b" " * 2**20 + b"\r\n", memory(pid), 0, 0
    head = f"POST {PREDICT} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
        with suppress(ConnectionError):
            while sent < 2**31 and not select.select([connection], [], [], 0)[0]:
                connection.sendall(chunk)
                sent += 2**20
                most = max(most, memory(pid) - before)
        answer = connection.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 413 ") and b"with its Content-Length" in answer
    print(f"refused after {sent / 2**20:.0f} MiB; {most / 2**20:.0f} MiB at most in between")
    # A body without a length may have 8 MiB; the sockets' buffers hold some more.
    assert sent <= 20 * 2**20 and most < 20 * 2**20


def test_an_empty_gzip_body_is_no_bomb(folder: Path) -> None:
    with served(folder) as server:
        packed = gzip.compress(json.dumps({"instances": ["a" * 10**6]}).encode())
        headers = {"Content-Encoding": "gzip"}
        assert ask(server.server_port, "POST", PREDICT, packed, headers)[0] == 200
