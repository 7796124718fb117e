"""Guards the server's page in a real browser: dropped files, the camera, and what is drawn.

Runs where there is a Chromium: on the PATH, or the one that CVPIPE_BROWSER names. Screenshots go to
the folder that CVPIPE_SCREENSHOTS names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, find_browser
from image_files import encode, smooth
from toy_served import ask, served
from toy_three import TASKS, save_three

FOUND = find_browser()
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        FOUND is None, reason="no Chromium on the PATH, and none that CVPIPE_BROWSER names"
    ),
]
ANSWERED = "document.getElementById('canvas').dataset.answered"
ROWS = """
[...document.querySelectorAll("#list li")].map((item) =>
  [item.querySelector("span").textContent, item.querySelector("output").textContent])
"""
# The share of colored pixels in the picture; the photo itself is gray.
COLORED = """
(() => {
  const canvas = document.getElementById("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
    count += Math.max(r, g, b) - Math.min(r, g, b) > 24;
  }
  return count / (data.length / 4);
})()
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(save_three(tmp_path_factory.mktemp("models"))) as server:
        yield server.server_port


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    assert FOUND
    with Browser(FOUND, tmp_path / "profile") as browser:
        yield browser


def gray_photo(file: Path) -> bytes:
    content = encode(smooth(240, 320)[..., :1], "JPEG")
    file.write_bytes(content)
    return content


def picture(browser: Browser, name: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("CVPIPE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    browser.picture(folder / f"{name}.png")


def choose(
    browser: Browser, port: int, model: str, scheme: str = "light", width: int = 900
) -> None:
    browser.show(f"http://127.0.0.1:{port}/", scheme, width)
    browser.wait_for("document.querySelectorAll('#model option').length === 3")
    browser.evaluate(f"document.getElementById('model').value = '{model}'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("task", TASKS)
def test_a_dropped_image_is_answered_and_drawn(
    browser: Browser, port: int, tmp_path: Path, task: str, scheme: str
) -> None:
    content = gray_photo(tmp_path / "photo.jpg")
    choose(browser, port, task, scheme)
    picture(browser, f"{scheme}-before", tmp_path)
    browser.drop("#drop", tmp_path / "photo.jpg")
    browser.wait_for(ANSWERED)
    picture(browser, f"{scheme}-{task}", tmp_path)
    status, answer, _ = ask(port, "POST", f"/predict/{task}", content)
    assert status == 200
    shares = {
        "classification": lambda: [
            (one["class_name"], one["probability"]) for one in answer["top"]
        ],
        "detection": lambda: [(one["class_name"], one["score"]) for one in answer["objects"]],
        "segmentation": lambda: [*answer["shares"].items()],
    }[task]()
    assert browser.evaluate(ROWS) == [[name, f"{100 * share:.1f} %"] for name, share in shares]
    colored = browser.evaluate(COLORED)
    assert colored == 0 if task == "classification" else colored > 0.005
    assert not [fault for fault in browser.faults if "favicon" not in fault]


def test_the_camera_takes_a_picture_that_is_answered(
    browser: Browser, port: int, tmp_path: Path
) -> None:
    choose(browser, port, "detection", width=400)
    browser.click("#camera")
    browser.wait_for("document.getElementById('video').videoWidth && !video.hidden")
    picture(browser, "camera-before", tmp_path)
    browser.click("#shoot")
    browser.wait_for(ANSWERED)
    picture(browser, "camera", tmp_path)
    assert len(browser.evaluate(ROWS)) == 3
    assert browser.evaluate("document.getElementById('video').srcObject === null")


def test_a_file_that_is_no_image_is_an_error_on_the_page(
    browser: Browser, port: int, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("I am no image.")
    choose(browser, port, "segmentation", "dark")
    browser.drop("#drop", tmp_path / "notes.txt")
    browser.wait_for("document.getElementById('message').className === 'error'")
    picture(browser, "dark-error", tmp_path)
    assert "an't be decoded" in browser.evaluate("document.getElementById('message').textContent")
    assert browser.evaluate("document.getElementById('canvas').hidden")


def test_another_model_answers_the_same_image(browser: Browser, port: int, tmp_path: Path) -> None:
    gray_photo(tmp_path / "photo.jpg")
    choose(browser, port, "classification")
    browser.drop("#drop", tmp_path / "photo.jpg")
    browser.wait_for(ANSWERED)
    browser.evaluate(
        "(model.value = 'segmentation', model.dispatchEvent(new Event('change')), true)"
    )
    browser.wait_for(f"{ANSWERED} && document.querySelector('#list svg circle[fill^=hsl]')")
    assert {name for name, _ in browser.evaluate(ROWS)} <= {"dark", "gray", "bright"}
