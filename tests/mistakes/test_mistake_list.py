"""Guards `evaluate --mistakes`: run and artifact give the same list, worst first."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

Cvpipe = Callable[..., tuple[int, str, str]]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "mistakes.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_run_and_artifact_list_the_same_mistakes(
    run_copy: Path, artifact: Path, tmp_path: Path, cvpipe: Cvpipe
) -> None:
    lists = {}
    for path in (run_copy, artifact):
        folder = tmp_path / f"of-{path.name}"
        code, out, err = cvpipe("evaluate", path, "--mistakes", folder, "--drawn", 3, "--json")
        assert code == 0, err
        result, rows = json.loads(out), rows_of(folder)
        wrong = [row for row in rows if row["mistakes"] != "0"]
        assert len(rows) == result["images"] == result["listed"]["images"]
        assert len(wrong) == result["listed"]["wrong"] > 3
        assert (len(rows) - len(wrong)) / len(rows) == result["accuracy"]
        costs = [float(row["cost"]) for row in rows]
        assert costs == sorted(costs[: len(wrong)])[::-1] + sorted(costs[len(wrong) :])[::-1]
        assert all((row["label"] != row["answer"]) == (row["mistakes"] == "1") for row in rows)
        page = (folder / "mistakes.html").read_text(encoding="utf-8")
        shown = re.findall(r"<figcaption>\d+\. (.*)", page)
        assert shown == [row["image"] for row in rows[:3]]
        assert page.count("data:image/jpeg;base64,") == 3
        lists[path] = [(row["image"], row["answer"]) for row in rows]
    assert sorted(lists[run_copy]) == sorted(lists[artifact])


def test_a_folder_of_something_else_is_left_alone(
    run_copy: Path, tmp_path: Path, cvpipe: Cvpipe
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    code, _, err = cvpipe("evaluate", run_copy, "--mistakes", tmp_path / "photos")
    assert code == 2 and "not empty" in err
    code, _, err = cvpipe("evaluate", run_copy, run_copy, "--mistakes", tmp_path / "new")
    assert code == 2 and "give one run" in err
