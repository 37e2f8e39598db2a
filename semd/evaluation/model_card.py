"""Model card: the part of `models/README.md` that follows from the manifest."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semd.errors import ModelError
from semd.model_store import Manifest, ModelEntry, read_manifest
from semd.service.storage import storage_error, write_atomically

BEGIN = "<!-- Written by `semd model card`; edit the manifest, not these lines. -->"
END = "<!-- End of what `semd model card` writes. -->"
CARD = "README.md"
_SHORT_DIGEST = 12
_START = re.compile(r"--start WEIGHTS \(SHA-256 ([0-9a-f]{64})\)")


def update_card(directory: Path) -> Path:
    """Write the generated part of the model card in a models folder anew.

    Args:
        directory: models folder with the manifest and the card.

    Returns:
        The card's path.

    Raises:
        ModelError: the manifest cannot be read, or the card does not have the two marks.
        StorageError: the card cannot be read or written.
    """
    path = directory / CARD
    text = render_card(read_manifest(directory))
    try:
        before, begin, rest = path.read_text("utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ModelError(f"{path}: the lines {BEGIN!r} and {END!r} are not both there; put them back")
        write_atomically(path, f"{before}{BEGIN}\n\n{text}\n{END}{after}".encode())
    except OSError as error:
        raise storage_error(path, "write", error) from error
    return path


def render_card(manifest: Manifest) -> str:
    """Return the generated part as Markdown: files, measured figures and training of both models."""
    parts = ["### The files", _files(manifest)]
    if (scorer := manifest.models.get("scorer")) is not None:
        parts += ["### Scoring machine, as measured", _scores(scorer.figures)]
        parts += ["### Scoring machine, as trained", _scorer_training(scorer)]
    if (actor := manifest.models.get("actor")) is not None:
        parts += ["### Control machine, as measured", _control(actor.figures)]
        parts += ["### Control machine, as trained", _actor_training(actor)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _files(manifest: Manifest) -> str:
    rows = [
        (f"`{entry.file}`", role, entry.input, entry.output, f"`{entry.sha256}`")
        for role, entry in sorted(manifest.models.items())
    ]
    return _table(["file", "role", "input", "output", "SHA-256"], rows)


def _scores(figures: Mapping[str, Any]) -> str:
    splits = [
        ("by field", figures["split_by_field_papers_exposures"], figures["as_integer_marks"]["test"]),
        ("by image", figures["split_by_image_papers_exposures"], figures["as_integer_marks"]["image_test"]),
    ]
    magnifications = [float(key) for key in splits[0][1]["by_magnification"]]
    columns = [f"x{magnification:g}" for magnification in magnifications]
    rows = []
    for name, split, marks in splits:
        # The manifest's JSON spells a magnification with or without decimals.
        own, integer = (
            {float(key): value for key, value in each["by_magnification"].items()} for each in (split, marks)
        )
        for kind, values, overall in (
            ("the score", own, split["rmse"]),
            ("as integer mark", integer, marks["rmse"]),
        ):
            cells = [f"{values[magnification]:.3f}" for magnification in magnifications]
            rows.append((f"{name}, {kind}", split["frames"], f"{overall:.3f}", *cells))
    first = _table(["RMSE against integer labels", "frames", "all", *columns], rows)
    unrounded = _table(
        ["RMSE against unrounded labels", "RMSE", "mean absolute error (integer labels)"],
        [(name, f"{split['rmse_score']:.3f}", f"{split['mae']:.3f}") for name, split, _ in splits],
    )
    labels = list(splits[0][1]["by_label"])
    by_label = _table(
        ["RMSE by label", *labels],
        [(name, *(f"{split['by_label'][label]:.2f}" for label in labels)) for name, split, _ in splits],
    )
    sharp = _table(
        ["label 10", "mean score", "share above the threshold", "share of soft frames above it"],
        [
            (name, f"{each['sharp_mean']:.2f}", f"{each['sharp_accepted']:.3f}", f"{each['soft_accepted']:.3f}")
            for name, each, _ in splits
        ],
    )
    exposures = _table(
        ["any exposure, RMSE against integer labels", "frames", "RMSE"],
        [
            ("by field", figures["any_exposure"]["test"]["frames"], f"{figures['any_exposure']['test']['rmse']:.3f}"),
            (
                "by image",
                figures["any_exposure"]["image_test"]["frames"],
                f"{figures['any_exposure']['image_test']['rmse']:.3f}",
            ),
        ],
    )
    lead = f"Command: `{figures['command']}` on `{figures['data'].partition(',')[0]}`."
    return "\n\n".join([lead, first, unrounded, by_label, sharp, exposures])


def _scorer_training(entry: ModelEntry) -> str:
    runs = [entry.training, *entry.training.get("before", [])]
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    for run in reversed(runs):
        first = len(rows) + 1
        builds = [command for command in run["commands"] if command.startswith("semd dataset build DATA")]
        frames = sum(int(_option(command, "--frames") or 0) for command in builds)
        seeds = ", ".join(_option(command, "--seed") or "" for command in builds)
        for command in (each for each in run["commands"] if each.startswith("semd train score")):
            start = _START.search(command)
            rows.append(
                (
                    len(rows) + 1,
                    f"`{_option(command, '--preset')}`",
                    f"{frames:,}",
                    seeds,
                    _option(command, "--epochs-scale") or _option(command, "--passes-scale") or "1",
                    _option(command, "--rate-scale") or "1",
                    _option(command, "--seed"),
                    f"`{start.group(1)[:_SHORT_DIGEST]}`" if start is not None else "random",
                )
            )
        if "note" in run:
            which = f"Run {first}" if len(rows) == first else f"Runs {first} to {len(rows)}"
            notes.append(f"- {which}: {run['note']}.")
    head = ["run", "preset", "frames", "dataset seeds", "epochs scale", "rate scale", "seed", "starts from"]
    lead = (
        "Runs in the order in which they were made. The digest of the weights that a run starts from is cut to "
        f"{_SHORT_DIGEST} digits; `manifest.json` holds every command and every setting in full."
    )
    commands = "\n".join(entry.training["commands"])
    listing = f"Commands of the last run:\n\n```sh\n{commands}\n```"
    return "\n\n".join([lead, _table(head, rows), "\n".join(notes), listing])


def _option(command: str, name: str) -> str | None:
    words = shlex.split(command)
    return words[words.index(name) + 1] if name in words else None


def _control(figures: Mapping[str, Any]) -> str:
    images = figures["on_images"]
    low, high = images["success_95_percent_interval"]
    rendered = _table(
        ["on rendered frames", "figure"],
        [
            ("runs", f"{images['episodes']:,}"),
            ("DONE and right within 25 frames", f"{images['success_within_25']:.2%}"),
            ("its 95 % interval", f"{low:.2%} to {high:.2%}"),
            ("error of the working distance at the end, RMSE", f"{images['wd_rmse_mm']:.3f} mm"),
            ("brightness and contrast good at the end", f"{images['brightness_contrast_ok']:.1%}"),
            ("mean true score at the end", f"{images['mean_true_score']:.2f}"),
            ("frames of a run, median", f"{images['median_frames']:g}"),
            ("frames of a run, 95th percentile", f"{images['p95_frames']:g}"),
            ("runs that ended worse than they began, by more than 0.1 points", images["worse_than_start"]),
        ],
    )
    twins = [("all three axes", figures["on_the_twin"]), ("working distance alone", figures["on_the_twin_wd_alone"])]
    twin = _table(
        ["actor alone, on the twin", "episodes", "true success within 25 frames", "median frames", "90th percentile"],
        [
            (
                name,
                f"{each['episodes']:,}",
                f"{each['true_success_25']:.1%}",
                f"{each['median_frames']:g}",
                f"{each['p90_frames']:g}",
            )
            for name, each in twins
        ],
    )
    lead = f"Command: `{images['command']}`. The twin's figures: {figures['how']}."
    return "\n\n".join([lead, rendered, twin])


def _actor_training(entry: ModelEntry) -> str:
    training = entry.training
    rows = [
        ("command", f"`{training['command']}`"),
        ("data", training["data"]),
        ("frames", f"{training['frames']:,}"),
        ("updates", f"{training['updates']:,}"),
        ("which weights", training.get("note", "")),
    ]
    return _table(["what", "value"], rows)
