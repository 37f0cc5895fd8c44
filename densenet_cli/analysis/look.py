"""The runs that an analysis sets side by side, and where its figures go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from densenet_cli.analysis.evaluation import Batches
from densenet_cli.analysis.subject import Subject
from densenet_cli.inference import test_images
from densenet_cli.inference.trained import Trained, load
from densenet_cli.instantiation import build
from densenet_cli.results.figures import write_drawing
from densenet_cli.results.figures.drawing import Drawing
from densenet_cli.results.networks import family, network_name

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

    def networks(self, also_untrained: bool = False) -> Iterator[tuple[Subject, Trained]]:
        """The network of each run under a name of its own; also as it was when its run began."""
        names: set[str] = set()
        for run in self.runs:
            trained = load(run, "auto", "32-true")
            yield _subject(trained, names), trained
            if also_untrained:
                yield _subject(trained, names, ", untrained"), _untrained(trained)

    def test_images(self, trained: Trained) -> Batches:
        """Images of the network's own run, as it takes them."""
        return test_images.batches(trained, self.images, self.root)

    def each(
        self, find: Callable[[Trained, Batches], Found], also_untrained: bool = False
    ) -> dict[Subject, Found]:
        """What is found in each network with its run's test images."""
        return {
            subject: find(trained, self.test_images(trained))
            for subject, trained in self.networks(also_untrained)
        }

    def write(self, name: str, drawing: Drawing) -> None:
        """Write a figure and its numbers, and say where."""
        for path in write_drawing(drawing, self.folder / name, self.formats):
            print(path)

    def write_each(self, name: str, drawings: Sequence[Drawing]) -> None:
        """Write a figure a network, numbered from 1 if there are several."""
        for number, drawing in enumerate(drawings, start=1):
            self.write(f"{name}_{number}" if len(drawings) > 1 else name, drawing)


def _subject(trained: Trained, names: set[str], state: str = "") -> Subject:
    """A network's name, with its run's folder if another one has the same; noted in `names`."""
    model = trained.fields["config"]["model"]
    title = network_name(model) + state
    if title in names:
        title += f" [{trained.checkpoint.parent.parent.name}]"
    names.add(title)
    return Subject(title, family(model))


def _untrained(trained: Trained) -> Trained:
    """The network as its run began; its seed decides the weights."""
    config = trained.fields["config"]
    torch.manual_seed(config["seed"])
    network = build("model", config["model"], num_classes=len(trained.class_names)).eval()
    network = network.to(device=trained.device, memory_format=torch.channels_last)
    return replace(trained, network=network)
