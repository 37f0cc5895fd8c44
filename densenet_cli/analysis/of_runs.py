"""Analyses of trained runs: figures, the numbers in them as CSV, and what the terminal shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich import box
from rich.table import Table

from densenet_cli.analysis import (
    calibration,
    calibration_figure,
    feature_maps,
    feature_reuse,
    gradient_flow,
    layer_figure,
    lesion_figure,
    lesions,
    reuse_figure,
)
from densenet_cli.analysis.evaluation import Batches, answers
from densenet_cli.analysis.subject import Subject
from densenet_cli.inference import test_images
from densenet_cli.inference.trained import Trained, load
from densenet_cli.instantiation import build
from densenet_cli.results.figures import write_drawing
from densenet_cli.results.figures.drawing import Drawing
from densenet_cli.results.networks import family, network_name
from densenet_cli.results.terminal import console

Found = TypeVar("Found")


@dataclass(frozen=True)
class Look:
    """What to look at, and where to leave what is found.

    Attributes:
        runs: folders of runs, or checkpoints in them.
        images: test images to look with.
        root: where the data lie, if no longer where the runs found them.
        folder: of the figures.
        formats: some of results.figures.FORMATS.
    """

    runs: Sequence[Path]
    images: int
    root: str | None
    folder: Path
    formats: Sequence[str]

    def each(
        self, find: Callable[[Trained, Batches], Found], untrained: bool = False
    ) -> dict[Subject, Found]:
        """What is found in each network, on its run's own test images; also as it was at the start."""
        found: dict[Subject, Found] = {}
        for run in self.runs:
            trained = load(run, "auto", "32-true")
            batches = test_images.batches(trained, self.images, self.root)
            found[_subject(trained, found)] = find(trained, batches)
            if untrained:
                fresh = _untrained(trained)
                found[_subject(fresh, found, ", untrained")] = find(fresh, batches)
        return found

    def write(self, name: str, drawing: Drawing) -> None:
        """Write a figure and its numbers, and say where."""
        for path in write_drawing(drawing, self.folder / name, self.formats):
            print(path)


def _subject(trained: Trained, others: dict[Subject, Any], state: str = "") -> Subject:
    """A network's name, with its run's folder if another one here has the same."""
    model = trained.fields["config"]["model"]
    title = network_name(model) + state
    if title in {other.title for other in others}:
        title += f" [{trained.checkpoint.parent.parent.name}]"
    return Subject(title, family(model))


def _untrained(trained: Trained) -> Trained:
    """The network as its run began; its seed decides the weights."""
    fields, fresh = trained.fields, copy.copy(trained)
    torch.manual_seed(fields["config"]["seed"])
    network = build("model", fields["config"]["model"], num_classes=len(trained.class_names))
    object.__setattr__(fresh, "network", network.eval().to(trained.device))
    return fresh


def reuse(look: Look, through_norm: bool) -> None:
    """Figure 5 of the DenseNet paper for each run, and the paper's observations in numbers."""
    claims: dict[str, feature_reuse.Claims] = {}
    seen: dict[Subject, None] = {}
    for run in look.runs:
        trained = load(run, "cpu", "32-true")
        for network, state in ((trained, ""), (_untrained(trained), ", untrained")):
            subject = _subject(network, seen, state)
            seen[subject] = None
            found = feature_reuse.feature_reuse(network.network, through_norm)
            claims[subject.title] = feature_reuse.claims(found)
            if not state:
                name = f"reuse_{run.name}" if len(look.runs) > 1 else "reuse"
                look.write(name, reuse_figure.draw(found, subject.title))
    _show_claims(claims)


def _show_claims(claims: dict[str, feature_reuse.Claims]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("observation")
    for title in claims:
        table.add_column(title, justify="right")
    rows: dict[str, list[str]] = {}
    for own in claims.values():
        for name, value in _flat(asdict(own)):
            rows.setdefault(name, []).append("" if value is None else f"{value:.3f}")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console().print(table)


def _flat(values: dict[str, Any]) -> list[tuple[str, float | None]]:
    pairs: list[tuple[str, float | None]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += [(f"{name}: {part}", number) for part, number in value.items()]
        else:
            pairs.append((name.replace("_", " "), value))
    return pairs


def lesion(look: Look, replace: str, draws: int, most: int) -> None:
    """Errors after units were deleted, one and several, and swapped; all runs on one figure.

    Args:
        look: what to look at.
        replace: "zero" or "mean": what stands in place of a deleted unit's maps.
        draws: random draws of each number of deletions and swaps.
        most: deletions and swaps at most.
    """

    def study(trained: Trained, batches: Batches) -> list[lesions.Lesion]:
        own = lesions.LesionStudy(trained.network, batches, replace, draws)
        numbers = range(1, min(most, len(own.units)) + 1)
        found = [own.intact(), *own.delete_each(), *own.delete_random(numbers)]
        return found + (own.swap_random(range(1, most + 1)) if own.pairs() else [])

    look.write("lesions", lesion_figure.draw(look.each(study)))


def gradients(look: Look) -> None:
    """Gradient norms by layer, at the start and trained."""
    found = look.each(
        lambda trained, images: gradient_flow.gradient_norms(trained.network, images), True
    )
    look.write("gradients", layer_figure.draw_gradients(found))


def maps(look: Look) -> None:
    """Dead and redundant feature maps by layer."""
    found = look.each(lambda trained, images: feature_maps.activations(trained.network, images))
    look.write("maps", layer_figure.draw_feature_maps(found))


def mistakes(look: Look) -> None:
    """Calibration, and what is taken for what."""

    def judge(trained: Trained, images: Batches) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        return (*answers(trained.network, images), trained.class_names)

    found = look.each(judge)
    bins = {subject: calibration.reliability(*own[:2]) for subject, own in found.items()}
    look.write("calibration", calibration_figure.draw_reliability(bins))
    for number, (subject, (logits, labels, names)) in enumerate(found.items()):
        confusion = calibration.confusion_matrix(logits, labels)
        name = f"confusion_{number}" if len(found) > 1 else "confusion"
        look.write(name, calibration_figure.draw_confusion(confusion, names, subject.title))
        error = 100 * (1 - confusion.diagonal().sum() / confusion.sum()).item()
        distance = calibration.expected_calibration_error(logits, labels)
        print(f"{subject.title}: error {error:.2f} %, calibration error {100 * distance:.2f} %")
