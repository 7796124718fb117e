"""Download of public data sets by git: pinned commit, needed files only, checksum."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from cvpipe.atomic_write import temporary_path
from cvpipe.data.public_sets import PUBLIC_SETS, PublicSet
from cvpipe.errors import ConfigError, DataError, suggest
from cvpipe.user_paths import data_folder

STDERR = 2


def fetch(name: str) -> Path:
    """Download a public data set unless it exists; return its folder or zip archive.

    The files are in a temporary folder until their checksum has been verified.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: git fails, or the files have another checksum.
    """
    if name not in PUBLIC_SETS:
        raise ConfigError(f"no public data set is named '{name}'; {suggest(name, PUBLIC_SETS)}")
    known, folder = PUBLIC_SETS[name], data_folder() / name
    archive = folder.with_name(f"{name}.zip")
    if archive.is_file():
        return archive
    copies = [known.digest, *([known.installed.digest] if known.installed else [])]
    if folder.exists():
        if digest(folder) not in copies:
            raise DataError(
                f"{folder}: the files are not those of {known.url}, commit {known.commit[:12]};"
                " move the folder away and fetch the data set again"
            )
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_path(folder.parent, f".{name}-partial-") as partial:
        files = partial / "files"
        origin = _copy_installed(known, files) or _clone(known, partial / "repository", files)
        found = digest(files)
        if found not in copies:
            raise DataError(
                f"{origin}: the files have the checksum {found}, not {known.digest}; nothing was"
                " kept. Fetch the data set again; if the error persists, the files have changed"
                " since cvpipe listed them"
            )
        # Flush the contents before renaming.
        os.sync()
        # Another process may have fetched the same files meanwhile.
        if not folder.exists():
            files.rename(folder)
    return folder


def digest(folder: Path) -> str:
    """Return the SHA-256 of what `sha256sum` prints for all files of a folder, by sorted path.

    The same as `find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`.
    """
    names = sorted(
        os.fsencode(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )
    lines = hashlib.sha256()
    for name in names:
        content = (folder / os.fsdecode(name)).read_bytes()
        lines.update(b"%s  ./%s\n" % (hashlib.sha256(content).hexdigest().encode(), name))
    return lines.hexdigest()


def _copy_installed(known: PublicSet, files: Path) -> str | None:
    """Copy the files of an installed package; return their folder, or None if not installed."""
    if not known.installed or not Path(known.installed.folder).is_dir():
        return None
    shutil.copytree(known.installed.folder, files)
    return known.installed.folder


def _clone(known: PublicSet, repository: Path, files: Path) -> str:
    """Fetch one commit and put its files into a folder; return URL and commit for messages."""
    tree = repository / "tree"
    tree.mkdir(parents=True)
    _git(known, repository, "init", "--quiet", "--bare")
    _git(known, repository, "remote", "add", "origin", known.url)
    # Servers with filters send only the contents of the files that are checked out.
    _git(known, repository, "fetch", "--depth=1", "--filter=blob:none", "origin", known.commit)
    _check_out(known, repository, tree, known.paths)
    if known.choose:
        _check_out(known, repository, tree, [*known.paths, *known.choose(tree)])
    for file in [path for path in tree.rglob("*") if path.is_file()]:
        place = file.relative_to(tree)
        inside = place.relative_to(known.folder) if place.is_relative_to(known.folder) else place
        (files / inside).parent.mkdir(parents=True, exist_ok=True)
        file.rename(files / inside)
    return f"{known.url}, commit {known.commit[:12]}"


def _check_out(known: PublicSet, repository: Path, tree: Path, paths: Iterable[str]) -> None:
    """Write files and folders of the commit; their contents are fetched together."""
    escaped = (re.sub(r"([*?[\\])", r"\\\1", path) for path in paths)
    patterns = "".join(f"/{path}\n" for path in escaped)
    (repository / "info/sparse-checkout").write_text(patterns, encoding="utf-8")
    _git(
        known,
        repository,
        "-c",
        "core.bare=false",
        "-c",
        "core.sparseCheckout=true",
        f"--work-tree={tree}",
        "read-tree",
        "-m",
        "-u",
        known.commit,
    )


def _git(known: PublicSet, repository: Path, *words: str) -> None:
    """Run git in a repository, with its progress on stderr."""
    # No line-ending conversion: files are checked out with the committed bytes.
    command = ["git", "-c", "core.autocrlf=false", f"--git-dir={repository}", *words]
    try:
        done = subprocess.run(
            command,
            stdout=STDERR,
            check=False,
            # For a missing repository, GitHub would ask for a user name and a password.
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except FileNotFoundError:
        raise DataError(
            "data sets are fetched by git, which is not installed; install git"
        ) from None
    if done.returncode:
        raise DataError(
            f"{known.url}: git could not fetch commit {known.commit[:12]}; git's error is printed"
            " above. Fix its cause and run the same command again"
        )
