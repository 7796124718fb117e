"""Generate the table of public data sets."""

from __future__ import annotations

from cvpipe.data.public_sets import PUBLIC_SETS
from lines import table

FORGE = "https://github.com/"


def data_sets() -> str:
    """Return a table of names, contents, licenses, origins and checksums."""
    return table(
        ("Name", "Content", "Size", "License", "From", "Checksum"),
        [
            (
                f"`{name}`",
                known.title,
                known.size,
                known.license,
                f"[{known.url.removeprefix(FORGE)}]({known.url}/tree/{known.commit})"
                f" at `{known.commit[:12]}`",
                f"`{known.digest}`",
            )
            for name, known in PUBLIC_SETS.items()
        ],
    )
