"""Guards public data sets: they are fetched from one commit of a repository, completely or not at
all.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, FindData
from cvpipe import config_file
from cvpipe.data import fetch as fetching
from cvpipe.data.fetch import digest, fetch
from cvpipe.data.public_sets import GROCERY_IMAGES, PUBLIC_SETS, Installed, PublicSet
from cvpipe.data.sources.files import open_files
from cvpipe.errors import ConfigError, DataError

PIPELINES = sorted((ROOT / "pipelines").rglob("*.yaml"))
SETS = sorted(PUBLIC_SETS)


def git(folder: Path, *words: str) -> str:
    known = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "core.compression=0"]
    command = ["git", "-C", str(folder), *known, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def committed(folder: Path) -> str:
    """Turn a folder into a repository of two commits, the second of which changes each file; return
    the first.
    """
    git(folder, "init", "--quiet")
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")
    commit = git(folder, "rev-parse", "HEAD")
    for path in [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]:
        path.write_bytes(b"changed later")
    git(folder, "commit", "--quiet", "--all", "--message=second")
    return commit


def upstream(known: PublicSet, folder: Path) -> str:
    """Make a repository with files at the paths of a data set; return its first commit."""
    for path in [*known.paths, "elsewhere/unused.bin"]:
        file = folder / path
        file = file if file.suffix or file.name == "LICENSE" else file / "images/1.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"{path}\r\n".encode())
    if known.choose:
        # 17 classes with unordered training images; the last class has the fewest.
        for split, most in GROCERY_IMAGES.items():
            names = [
                f"{split}/{label:02}/{n:03}.jpg, {label}, 0"
                for label in range(17)
                for n in range(most + 2 - label // 16, 0, -1)
            ]
            (folder / f"dataset/{split}.txt").write_text("\n".join(names))
            for line in names:
                file = folder / "dataset" / line.split(",")[0]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(line.encode())
    return committed(folder)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the data folder."""
    monkeypatch.setenv("CVPIPE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PublicSet]:
    """Return a function that changes the facts of a public data set."""

    def change(name: str, **facts: object) -> PublicSet:
        known = PUBLIC_SETS[name]._replace(**{"installed": None, **facts})  # type: ignore[arg-type]
        monkeypatch.setitem(PUBLIC_SETS, name, known)
        return known

    return change


def expected_files(known: PublicSet, folder: Path) -> dict[str, bytes]:
    """Return the files of a data set in the first commit of its repository."""
    names = git(folder, "ls-tree", "-r", "--name-only", "HEAD~").splitlines()
    wanted = [
        name
        for name in (name.strip('"') for name in names)
        if any(f"{name}/".startswith(f"{path}/") for path in known.paths)
    ]
    return {
        name.removeprefix(f"{known.folder}/"): git(folder, "show", f"HEAD~:{name}").encode()
        for name in wanted
    }


@pytest.mark.parametrize("name", SETS)
def test_a_data_set_consists_of_the_files_of_one_commit(
    name: str, place: Path, tmp_path: Path, listed: Callable[..., PublicSet]
) -> None:
    commit = upstream(PUBLIC_SETS[name], tmp_path / "upstream")
    known = listed(name, url=f"file://{tmp_path / 'upstream'}", commit=commit)
    found = fetched_digest(name)
    assert not any(place.iterdir())
    listed(name, **known._asdict() | {"digest": found})
    folder = fetch(name)
    assert folder == place / name and list(place.iterdir()) == [folder]
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    for inside, content in expected_files(known, tmp_path / "upstream").items():
        # The output of `git show` has lost its trailing newline.
        assert files.pop(inside).strip() == content.strip(), inside
    assert not files or known.choose
    if known.choose:
        chosen = {path for path in files if path.endswith(".jpg")}
        assert len(chosen) == 16 * sum(GROCERY_IMAGES.values())
        assert "dataset/train/15/001.jpg" in chosen and "dataset/train/15/041.jpg" not in chosen
        assert not any("/16/" in path for path in chosen)
        assert len(files) == len(chosen) + len(GROCERY_IMAGES)
    # The folder exists, so nothing is fetched again.
    shutil.rmtree(tmp_path / "upstream")
    assert fetch(name) == folder


@pytest.mark.soak
@pytest.mark.parametrize("name", SETS)
def test_the_files_that_scores_were_measured_on_have_the_checksum(
    name: str,
    tmp_path: Path,
    public_data: FindData,
    listed: Callable[..., PublicSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, folder = PUBLIC_SETS[name], tmp_path / "upstream"
    files = open_files(str(public_data(name)))
    if "LICENSE" in known.paths and not files.find("LICENSE"):
        pytest.skip("the copy of an installed package")
    for inside in files.names():
        # These files aren't in the public repository.
        if inside == "SOURCE.txt" or inside.endswith("_subset.txt"):
            continue
        file = folder / ("" if inside in known.paths else known.folder) / inside
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(files.read(inside))
    monkeypatch.setenv("CVPIPE_DATA", str(tmp_path / "data"))
    listed(name, url=f"file://{folder}", commit=committed(folder))
    assert digest(fetch(name)) == known.digest


@pytest.fixture
def bccd(tmp_path: Path, listed: Callable[..., PublicSet], place: Path) -> PublicSet:
    """Return a data set whose expected checksum is that of its files."""
    commit = upstream(PUBLIC_SETS["bccd"], tmp_path / "upstream")
    known = listed("bccd", url=f"file://{tmp_path / 'upstream'}", commit=commit)
    return listed("bccd", **known._asdict() | {"digest": fetched_digest("bccd")})


def fetched_digest(name: str) -> str:
    with pytest.raises(DataError, match="nothing was kept") as refused:
        fetch(name)
    [found] = re.findall("have the checksum ([0-9a-f]{64}),", str(refused.value))
    return str(found)


@pytest.mark.parametrize("step", ["_check_out", "digest", "copy"])
def test_an_interrupted_copy_is_repeated(
    step: str, bccd: PublicSet, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []

    def killed(*arguments: object) -> None:
        [partial] = place.glob(".bccd-partial-*")
        names.append(partial.name)
        shutil.copytree(partial, place.parent / "left", dirs_exist_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "copy":
            patch.setattr(fetching.os, "sync", killed)
        else:
            patch.setattr(fetching, step, killed)
        with pytest.raises(KeyboardInterrupt):
            fetch("bccd")
    assert not any(place.iterdir())
    # A killed process leaves its unfinished files.
    left = (place.parent / "left").rename(place / names[-1])
    (left / "repository/shallow.lock").touch()
    assert digest(fetch("bccd")) == bccd.digest
    assert [path.name for path in place.iterdir()] == ["bccd"]


def test_a_changed_copy_is_refused_and_not_modified(bccd: PublicSet, place: Path) -> None:
    (fetch("bccd") / "LICENSE").write_text("changed")
    with pytest.raises(DataError, match="move the folder away and fetch the data set again"):
        fetch("bccd")
    assert (place / "bccd/LICENSE").read_text() == "changed"


def test_an_archive_in_the_data_folder_is_used_instead(bccd: PublicSet, place: Path) -> None:
    place.mkdir(exist_ok=True)
    (place / "bccd.zip").write_bytes(b"")
    assert fetch("bccd") == place / "bccd.zip"


def test_an_installed_package_of_the_system_is_copied(
    place: Path, tmp_path: Path, listed: Callable[..., PublicSet]
) -> None:
    package = tmp_path / "installed"
    package.mkdir()
    (package / "train-images-idx3-ubyte.gz").write_bytes(b"images")
    installed = Installed("dataset-fashion-mnist", str(package), digest(package))
    listed("fashion-mnist", installed=installed, url="file:///nowhere")
    assert (fetch("fashion-mnist") / "train-images-idx3-ubyte.gz").read_bytes() == b"images"


def test_a_repository_that_git_cannot_reach_is_an_error(
    place: Path, listed: Callable[..., PublicSet], capfd: pytest.CaptureFixture[str]
) -> None:
    listed("bccd", url="file:///nowhere/at/all")
    with pytest.raises(DataError, match="git could not fetch commit d272fb14cdff; git's error is"):
        fetch("bccd")
    assert "/nowhere/at/all" in capfd.readouterr().err and not any(place.iterdir())


def test_a_checksum_is_the_output_of_the_documented_shell_commands(tmp_path: Path) -> None:
    for name in ("b", "a/x y", "a.txt", "é"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    command = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    assert digest.__doc__ and command in digest.__doc__
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == digest(tmp_path)


def test_the_error_of_an_unknown_name_suggests_a_similar_name() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'bccd'\? known: fashion-mnist, "):
        fetch("bcd")


def test_the_command_lists_data_sets_and_prints_the_path_of_a_fetched_one(
    bccd: PublicSet, place: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, _ = cvpipe("data", "fetch")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(PUBLIC_SETS)
    code, out, _ = cvpipe("data", "fetch", "bccd", "--json")
    assert code == 0 and json.loads(out) == {"name": "bccd", "path": str(place / "bccd")}


@pytest.mark.parametrize("path", ["data/bccd", "data/bccd.zip", "data\\bccd", "data/bccd/BCCD"])
def test_the_error_about_an_absent_data_set_says_how_to_fetch_it(
    path: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match="such folder or zip archive; fetch it by 'make data NAME=b"
    ):
        open_files(path)


def test_paths_below_data_are_searched_in_the_folder_of_the_environment_variable(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CVPIPE_DATA", "moved")
    for folder in ("data/photos", "data/cells", "moved/photos", "elsewhere/photos"):
        Path(folder).mkdir(parents=True)
    with zipfile.ZipFile("moved/bccd.zip", "w") as archive:
        archive.writestr("bccd/BCCD/a.txt", "text")
    assert open_files("data/photos").path == Path("moved/photos")
    assert open_files("data/cells").path == Path("data/cells")
    assert open_files("elsewhere/photos").path == Path("elsewhere/photos")
    assert open_files("data/bccd").path == Path("moved/bccd.zip")
    assert open_files("data/bccd").read("BCCD/a.txt") == b"text"


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_shipped_pipeline_names_data_that_anyone_can_get(path: Path) -> None:
    source = config_file.load(path).data.source
    named = getattr(source, "path", None)
    if named is None:
        assert source.kind in ("digits", "digit_scenes", "scratched_digits", "stick_figures")
    else:
        name = named.removeprefix("data/")
        assert name in PUBLIC_SETS
        # A pipeline that starts from another pipeline's run names the other's command instead.
        head = path.read_text(encoding="utf-8")
        assert f"make data NAME={name}\n" in head or head.count("cvpipe train") == 2
