"""`cvpipe predict`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cvpipe.commands.command import add_command


def add(commands: Any) -> None:
    """Declares the command."""
    # It prints nothing but JSON anyway; all commands that print answers take the option.
    parser = add_command(
        commands, "predict", predict, "answer images with an artefact, one JSON line each"
    )
    parser.add_argument(
        "artefact", metavar="ARTEFACT", type=Path, help="such as saved_models/digits"
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files")
    parser.add_argument(
        "--draw",
        metavar="DIR",
        type=Path,
        help="also write a picture of each answer to DIR/<image>.prediction.png",
    )


def predict(options: argparse.Namespace) -> int:
    """Prints a line of JSON an image; 1 where one of them can't be answered."""
    from cvpipe.export.about import artefact_config, find_artefact
    from cvpipe.runtime import prepare_process

    folder = find_artefact(options.artefact)
    prepare_process(artefact_config(folder))
    from cvpipe.serving.predict import predict as predict_images

    failed = 0
    for answer in predict_images(folder, options.images, options.draw):
        failed += "error" in answer
        print(json.dumps(answer), flush=True)
    return 1 if failed else 0
