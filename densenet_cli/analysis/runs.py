"""The runs that an analysis sets side by side, and where its figures go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.network_label import Subject
from densenet_cli.config.build import build
from densenet_cli.config.trust import Trust
from densenet_cli.figures.drawing import FORMATS, Drawing
from densenet_cli.figures.terminal import console, plain
from densenet_cli.inference import run_images as test_images
from densenet_cli.inference.trained import Trained, load
from densenet_cli.options import UserError, choice
from densenet_cli.plain_text import printable
from densenet_cli.record.network_names import family, network_name

Found = TypeVar("Found")


@dataclass(frozen=True)
class Look:
    """What to look at, and where to leave what is found.

    Attributes:
        runs: folders of runs, or checkpoints in them.
        images: test images to look with.
        root: where the data lie, if no longer where the runs found them.
        folder: of the figures.
        formats: some of figures.drawing.FORMATS.
        precision: what the networks compute in, 32-true or bf16-mixed; None: as they were trained.
        trust: what the runs' folders may name.
    """

    runs: Sequence[Path]
    images: int
    root: str | None
    folder: Path
    formats: Sequence[str]
    precision: str | None = "32-true"
    trust: Trust = field(default_factory=Trust)

    def networks(self, also_untrained: bool = False) -> Iterator[tuple[Subject, Trained]]:
        """The network of each run under a title of its own; also with the weights of its seed.

        Raises:
            UserError: a run is named twice, or cannot be loaded.
        """
        titles: set[str] = set()
        for run, name in zip(self.runs, shortest_names(self.runs), strict=True):
            trained = load(run, "auto", self.precision, self.trust)
            subject = _subject(trained, name, titles)
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
        formats: some of figures.drawing.FORMATS.
    """
    for number, drawing in enumerate(drawings, start=1):
        stem = folder / (f"{name}_{number}" if len(drawings) > 1 else name)
        for path in drawing.save(stem, formats):
            print(printable(path))
    for note in dict.fromkeys(drawing.note for drawing in drawings):
        console().print(plain(note))


def shortest_names(runs: Sequence[Path]) -> list[str]:
    """The end of each path, as long as it takes to tell it from the others.

    Raises:
        UserError: one is named twice.
    """
    paths = [run.resolve().parts for run in runs]
    names = []
    for run, parts in zip(runs, paths, strict=True):
        if paths.count(parts) > 1:
            raise UserError(f"{run}: is named twice; name each run once")
        others = [path for path in paths if path != parts]
        lengths = range(1, len(parts) + 1)
        unique = (n for n in lengths if all(other[-n:] != parts[-n:] for other in others))
        names.append("/".join(parts[-next(unique) :]))
    return names


def _subject(trained: Trained, name: str, titles: set[str]) -> Subject:
    """What a network is, with its run's name if another one is the same; noted in `titles`."""
    model = trained.fields["config"]["model"]
    title = network_name(model)
    if title in titles:
        title += f" [{printable(name)}]"
    titles.add(title)
    return Subject(title, family(model))


def _untrained(trained: Trained) -> Trained:
    """The network with the weights that its run's seed makes; of a fine-tuned one too."""
    config = trained.fields["config"]
    torch.manual_seed(config["seed"])
    network = build("model", config["model"], num_classes=len(trained.class_names)).eval()
    network = network.to(device=trained.device, memory_format=torch.channels_last)
    return replace(trained, network=network)
