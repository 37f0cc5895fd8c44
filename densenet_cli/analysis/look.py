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
from densenet_cli.options import choice
from densenet_cli.results.figures import FORMATS, write_drawing
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

    def networks(self, also_untrained: bool = False) -> Iterator[tuple[Subject, Trained]]:
        """The network of each run under a name of its own; also as it was when its run began."""
        names: set[str] = set()
        for run in self.runs:
            trained = load(run, "auto", "32-true")
            subject = _subject(trained, names)
            yield subject, trained
            if also_untrained:
                before = replace(subject, title=f"{subject.title}, untrained", trained=subject)
                yield before, _untrained(trained)

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

    def write(self, name: str, *drawings: Drawing) -> None:
        """Write figures, numbered from 1 if there are several; see `write`."""
        write(self.folder, name, drawings, self.formats)


def formats(text: str) -> list[str]:
    """The formats of figures that are typed as "png,svg".

    Raises:
        OptionError: there is no such format.
    """
    return [choice("--format", name.strip(), FORMATS) for name in text.split(",")]


def write(folder: Path, name: str, drawings: Sequence[Drawing], formats: Sequence[str]) -> None:
    """Write figures and the numbers in them; say where they are, and what they show.

    Args:
        folder: it is made if need be.
        name: of the files; with a number from 1 if there are several drawings.
        drawings: one or more.
        formats: some of results.figures.FORMATS.
    """
    for number, drawing in enumerate(drawings, start=1):
        stem = folder / (f"{name}_{number}" if len(drawings) > 1 else name)
        for path in write_drawing(drawing, stem, formats):
            print(path)
    for note in dict.fromkeys(drawing.note for drawing in drawings):
        console().print(note, markup=False, highlight=False)


def _subject(trained: Trained, names: set[str]) -> Subject:
    """A network's name, with its run's folder if another one has the same; noted in `names`."""
    model = trained.fields["config"]["model"]
    title = network_name(model)
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
