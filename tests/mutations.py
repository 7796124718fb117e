"""Guards the test suite: mutations of the package, each of which a named test must catch.

Usage: `python tests/mutations.py [NAME…] [--list]`. Exit code 0 if all are caught, 1 if one
survives, 2 if one no longer applies or its test doesn't run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Mutation(NamedTuple):
    """A mistake in one file of the package, and the test that catches it."""

    edit: tuple[str, str, str]  # File below cvpipe/, text that occurs in it once, replacement.
    test: str  # Node id below tests/.


class MutationError(Exception):
    """A mutation that proves nothing: it doesn't apply, or its test doesn't run."""


MUTATIONS = {
    "iou-sign": Mutation(
        ("geometry/boxes.py", "_area(a) + _area(b) - shared)", "_area(a) + _area(b) + shared)"),
        "geometry/test_box_overlaps.py::test_pairwise_iou_equals_its_definition_for_every_pair",
    ),
    "order-seed-dropped": Mutation(
        ("data/order.py", "tf.constant(seed, tf.int64), first", "tf.constant(0, tf.int64), first"),
        "data/test_order.py::test_seeds_differ",
    ),
    "flip-seed-dropped": Mutation(
        ("data/augment/geometry.py", "uniform([], seed)", "uniform([], [0, 0])"),
        "data/augment/test_geometry.py::test_a_flip_is_as_frequent_as_its_probability",
    ),
    "biases-decayed": Mutation(
        ("training/optimizers.py", "if not is_kernel(v)", "if False"),
        "training/test_optimizers.py::test_weight_decay_spares_biases",
    ),
    "last-batch-dropped": Mutation(
        ("data/batching.py", "-(-examples // batch_size)", "(examples // batch_size)"),
        "data/test_stream.py::test_evaluation_covers_every_example_once_and_pads_with_weight_0",
    ),
    "filling-counted": Mutation(
        ("data/batching.py", "index < examples", "index <= examples"),
        "data/test_stream.py::test_evaluation_covers_every_example_once_and_pads_with_weight_0",
    ),
    "last-step-dropped": Mutation(
        ("training/schedules.py", "-int(-epoch * examples //", "int(epoch * examples //"),
        "training/test_loop.py::test_an_epoch_ends_with_the_step_that_shows_its_last_example",
    ),
    "exif-ignored": Mutation(
        ("data/decode.py", "upright(image, exif_orientation(encoded))", "image"),
        "data/test_orientation.py::test_every_orientation_is_rotated_as_by_pillow[6-False]",
    ),
    "gate-passes-all": Mutation(
        ("export/compare.py", "_RULES[field.compare](expected, actual, field, tolerance)", "0.0"),
        "export/test_compare.py::test_exact_answers_must_be_the_same_for_every_image",
    ),
    "gate-passes-nan": Mutation(
        ("export/compare.py", "if not amount <= allowed", "if amount > allowed"),
        "export/test_compare.py::test_close_answers_may_differ_only_in_the_last_digits",
    ),
    "checkpoint-not-atomic": Mutation(
        (
            "atomic_write.py",
            'temporary_path(file.parent, f".{file.stem}-partial-", file.suffix) as',
            "contextlib.nullcontext(file) as",
        ),
        "training/test_resume.py::test_a_stopped_run_goes_on_to_the_same_bits",
    ),
    "name-not-synced": Mutation(
        ("atomic_write.py", "_flush(file.parent)", "pass"),
        "test_atomic_write.py::test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after",
    ),
    "padding-is-zero": Mutation(
        ("fields.py", "constant_values=field.padding", "constant_values=0"),
        "test_fields.py::test_smaller_arrays_are_padded_at_the_end",
    ),
    "dropout-forgotten": Mutation(
        (
            "training/state.py",
            "return named",
            "return {k: named[k] for k in named if 'seed' not in k}",
        ),
        "training/test_state.py::"
        "test_a_state_holds_moving_statistics_momentum_averages_and_the_state_of_dropout",
    ),
    "resize-aliased": Mutation(
        ("data/prepare.py", "image, config.size, antialias=True", "image, config.size"),
        "data/test_prepare.py::test_resized_pixels_are_weighted_means_of_source_pixels",
    ),
    "task-class-order": Mutation(
        (
            "tasks/classification.py",
            "constant(class_names), ids",
            "constant(class_names[::-1]), ids",
        ),
        "tasks/test_classification.py::"
        "test_the_answer_is_the_first_of_the_top_and_the_top_is_sorted",
    ),
    "artifact-class-order": Mutation(
        (
            "training/trained.py",
            "load_task(config, facts)",
            "load_task(config, facts._replace(class_names=facts.class_names[::-1]))",
        ),
        "export/test_export.py::test_an_artifact_names_classes_in_the_order_of_its_run",
    ),
    "quarantine-unwritten": Mutation(
        ("data/quarantine.py", "if line not in text.splitlines()", "if not text"),
        "data/test_quarantine.py::test_a_record_is_counted_and_written_once",
    ),
    "quarantine-uncounted": Mutation(
        ("data/batching.py", "quarantine.note(index)", "pass"),
        "data/test_stream.py::test_a_bad_last_record_is_counted_once_even_if_repeated_as_padding",
    ),
    "smoothing-ignored": Mutation(
        ("losses/classification.py", "logits, labels, loss.label_smoothing", "logits, labels"),
        "losses/test_classification_losses.py::"
        "test_a_loss_equals_its_definition_and_so_does_its_gradient",
    ),
    "mirrored-boxes-stay": Mutation(
        (
            "data/annotations/boxes.py",
            "sides[axis], sides[axis + 2] = 1 - sides[axis + 2], 1 - sides[axis]",
            "pass",
        ),
        "data/augment/test_boxes.py::"
        "test_a_box_is_where_its_rectangle_is_within_a_pixel[flip-(20, 25, 44, 58)]",
    ),
}


def mutated(mutation: Mutation) -> str:
    """Return the mutated content of the mutation's file; MutationError if it no longer applies."""
    file, old, new = mutation.edit
    text = (ROOT / "cvpipe" / file).read_text(encoding="utf-8")
    if (count := text.count(old)) != 1:
        raise MutationError(f"a mutation no longer applies; cvpipe/{file} has {count} times: {old}")
    return text.replace(old, new)


def run_tests(folder: Path, tests: list[str], mutation: Mutation | None = None) -> list[str]:
    """Run tests in a new copy of the working tree; return the node ids of those that fail.

    Raises:
        MutationError: the mutation doesn't apply, or the tests don't run.
    """
    list_files = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True)
    # A deleted file stays listed until its removal is committed.
    for name in (name for name in listed.stdout.split("\0") if (ROOT / name).is_file()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    if mutation:
        (folder / "cvpipe" / mutation.edit[0]).write_text(mutated(mutation), encoding="utf-8")
    imported = Path(_python(folder, "-c", "import cvpipe; print(cvpipe.__file__)").stdout.strip())
    if not imported.resolve().is_relative_to(folder.resolve()):
        raise MutationError(f"{folder}: cvpipe is imported from {imported}")
    options = ["-p", "no:cacheprovider", "-rfE", f"--basetemp={folder.with_suffix('.tmp')}"]
    done = _python(folder, "-m", "pytest", *options, *(f"tests/{test}" for test in tests))
    failed = re.findall(r"^FAILED tests/(.+?)(?: - .*)?$", done.stdout, re.M)
    # Exit code 1 may also come from a failed fixture, which doesn't show that the test fails.
    if done.returncode != bool(failed) or re.search("^ERROR ", done.stdout, re.M):
        raise MutationError(f"the tests don't run (exit {done.returncode}):\n{done.stdout}")
    return failed


def check_baseline(mutations: list[Mutation], folder: Path) -> None:
    """Run the tests of these mutations on the unchanged package; MutationError if one fails."""
    if failed := run_tests(folder, sorted({mutation.test for mutation in mutations})):
        raise MutationError(f"fail without a mutation: {', '.join(failed)}")


def main() -> int:
    """Try the named mutations, or all, and print a table."""
    parser = argparse.ArgumentParser(description="Show that the suite catches mistakes.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations to try; default: all")
    parser.add_argument("--list", action="store_true", help="list all mutations and end")
    parsed = parser.parse_args()
    if unknown := set(parsed.names) - set(MUTATIONS):
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}; --list names them")
    if parsed.list:
        print(*MUTATIONS, sep="\n")
        return 0
    chosen, survived = {name: MUTATIONS[name] for name in parsed.names or MUTATIONS}, 0
    with tempfile.TemporaryDirectory() as scratch:
        try:
            check_baseline(list(chosen.values()), Path(scratch) / "baseline")
            print(f"{'mutation':22} {'result':8} {'seconds':>7}  by")
            for name, mutation in chosen.items():
                began = time.monotonic()
                failed = run_tests(Path(scratch) / name, [mutation.test], mutation)
                seconds, survived = time.monotonic() - began, survived + (not failed)
                result, by = ("caught", failed[0]) if failed else ("SURVIVED", mutation.test)
                print(f"{name:22} {result:8} {seconds:7.1f}  {by}", flush=True)
        except MutationError as error:
            print(error, file=sys.stderr)
            return 2
    return min(survived, 1)


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without pytest's variables, because a worker of xdist would share fixtures of other workers.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    words, env = [sys.executable, *arguments], {**env, "PYTHONPATH": str(folder)}
    try:
        return subprocess.run(
            words, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, timeout=600
        )
    except subprocess.TimeoutExpired as error:
        raise MutationError(f"{folder}: the tests did not end within {error.timeout} s") from error


if __name__ == "__main__":
    sys.exit(main())
