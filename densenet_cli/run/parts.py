"""The parts of a run, as they are handed to what records and tests it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L

from densenet_cli.data.image_data import ImageData
from densenet_cli.run.budget import Length
from densenet_cli.training.checkpoints import Checkpoints
from densenet_cli.training.classifier import ImageClassifier
from densenet_cli.training.progress import TrainingProgress


@dataclass(frozen=True)
class Run:
    """The parts of a run.

    Attributes:
        device: cpu, cuda, mps, or another that Lightning knows.
        length: how long it trains under a budget or by recipe.steps; else None.
    """

    config: dict[str, Any]
    device: str
    data: ImageData
    classifier: ImageClassifier
    trainer: L.Trainer
    progress: TrainingProgress
    checkpoints: Checkpoints
    length: Length | None = None
