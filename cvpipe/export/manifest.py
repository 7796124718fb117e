"""Manifest of an artifact: the SHA-256 of every file, in the format of sha256sum.

Check it without cvpipe: `cd ARTIFACT && sha256sum --check assets.extra/SHA256SUMS`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cvpipe.atomic_write import atomic_write
from cvpipe.errors import DataError

MANIFEST = Path("assets.extra") / "SHA256SUMS"


def write_manifest(folder: Path) -> None:
    """Write the digests of all files of a complete artifact."""
    text = _to_text(_digests(folder))
    with atomic_write(folder / MANIFEST) as stream:
        stream.write(text.encode())


def check_manifest(folder: Path) -> int:
    """Compare every file of an artifact with its digest.

    Returns:
        The number of files.

    Raises:
        DataError: a file was changed, removed or added, or there is no manifest.
    """
    try:
        written = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{folder}: {MANIFEST} is missing, so the files can't be verified; export the run again"
        ) from None
    digests = _digests(folder)
    # Comparing the whole text also detects a damaged manifest.
    if written == _to_text(digests).encode():
        return len(digests)
    raise DataError(f"{folder}: {_difference(written, digests)}; export or copy it again")


def _digests(folder: Path) -> dict[str, str]:
    """Return the digests of all files except the manifest, by their path in the folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    names = {file.relative_to(folder).as_posix(): file for file in files}
    names.pop(MANIFEST.as_posix(), None)
    return {name: _sha256(file) for name, file in sorted(names.items())}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_text(digests: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def _difference(written: bytes, digests: dict[str, str]) -> str:
    """Describe the first difference between the files and the manifest."""
    lines = [line.split("  ", 1) for line in written.decode(errors="replace").splitlines()]
    if any(len(line) != 2 for line in lines):
        return f"{MANIFEST} is damaged"
    expected = {name: digest for digest, name in lines}
    if missing := expected.keys() - digests.keys():
        return f"{min(missing)} is missing"
    if added := digests.keys() - expected.keys():
        return f"{min(added)} is not in {MANIFEST}; remove the file"
    changed = [name for name, digest in digests.items() if expected[name] != digest]
    return f"{changed[0]} differs from the exported file" if changed else f"{MANIFEST} is damaged"
