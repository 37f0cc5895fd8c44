"""The runs that a study compares, with their networks and test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch

from densenet_cli.analysis.forward import Batches
from densenet_cli.analysis.network_label import NetworkLabel
from densenet_cli.analysis.output import Output
from densenet_cli.config.build import build_model
from densenet_cli.config.trust import Trust
from densenet_cli.inference import run_images
from densenet_cli.inference.trained_network import TrainedNetwork, load
from densenet_cli.options import UserError
from densenet_cli.plain_text import printable
from densenet_cli.record.network_names import family, network_name

Result = TypeVar("Result")


@dataclass(frozen=True)
class Analysis:
    """What all studies of trained networks need: the runs, their test images, and where results go.

    Attributes:
        runs: folders of runs, or checkpoints in them.
        images: number of test images.
        root: folder of the data, if they have moved since the runs; else None.
        output: where the figures and the results go.
        precision: of the networks, 32-true or bf16-mixed; None: as trained.
        trust: classes and packages that the runs' folders may name.
    """

    runs: Sequence[Path]
    images: int
    root: str | None
    output: Output
    precision: str | None = "32-true"
    trust: Trust = field(default_factory=Trust)

    def networks(self, also_untrained: bool = False) -> Iterator[tuple[NetworkLabel, TrainedNetwork]]:
        """The network of each run, each with a label of its own.

        Args:
            also_untrained: after each network, yield it again with the initial weights of its seed.

        Raises:
            UserError: a run is named twice, or cannot be loaded.
        """
        titles: set[str] = set()
        for run, name in zip(self.runs, shortest_names(self.runs), strict=True):
            trained = load(run, "auto", self.precision, self.trust)
            label = _label(trained, name, titles)
            titles.add(label.title)
            yield label, trained
            if also_untrained:
                title = f"{label.title}, untrained"
                yield replace(label, title=title, trained=label), _untrained(trained)

    def test_images(self, trained: TrainedNetwork, several_labels: bool = False) -> Batches:
        """Test images of the network's own run, preprocessed for the network.

        Args:
            trained: the network.
            several_labels: whether the study can use images that have several labels.

        Raises:
            UserError: it cannot, and these can have several; or as `run_images.batches`.
        """
        if trained.several_labels and not several_labels:
            raise UserError(
                f"{trained.checkpoint}: its images can have several labels; this study asks whether an "
                "image is classified rightly, and needs images with one label each; densenet-model "
                "evaluate measures AUROC and F1 of each label"
            )
        return run_images.batches(trained, self.images, self.root)

    def each(
        self,
        measure: Callable[[TrainedNetwork, Batches], Result],
        also_untrained: bool = False,
        several_labels: bool = False,
    ) -> dict[NetworkLabel, Result]:
        """The result of `measure` for each network with the `test_images` of its run."""
        return {
            label: measure(trained, self.test_images(trained, several_labels))
            for label, trained in self.networks(also_untrained)
        }


def shortest_names(runs: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as distinguish it from the others.

    Raises:
        UserError: a run is named twice.
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


def _label(trained: TrainedNetwork, name: str, titles: set[str]) -> NetworkLabel:
    """The network's name, followed by its run's if another network has that title already."""
    model = trained.fields["config"]["model"]
    title = network_name(model)
    return NetworkLabel(f"{title} [{printable(name)}]" if title in titles else title, family(model))


def _untrained(trained: TrainedNetwork) -> TrainedNetwork:
    """The network with random weights by its run's seed, also if the run fine-tuned other weights."""
    config = trained.fields["config"]
    torch.manual_seed(config["seed"])
    classes = len(trained.class_names)
    network = build_model(config["model"], classes, trained.channels).eval()
    network.to(device=trained.device, memory_format=torch.channels_last)
    return replace(trained, network=network)
