"""A small data set whose images can have several labels, for tests: spots at four places."""

import os
from pathlib import Path

import torch

from densenet_cli.data.in_memory import InMemoryData, Labelled

CHANCES = torch.tensor([0.5, 0.3, 0.1, 0.03])
PLACES = [(1, 1), (1, 5), (5, 1), (5, 5)]


class Findings(InMemoryData):
    """300 + 200 images of 8x8 pixels; no test image has the label "rare"."""

    name = "findings"
    several_labels = True
    flips = False
    padding = 1

    def arrays(self):
        chance = torch.Generator().manual_seed(0)
        images = torch.randint(0, 100, (500, 8, 8, 3), dtype=torch.uint8, generator=chance)
        labels = (torch.rand(500, 4, generator=chance) < CHANCES).float()
        labels[300:, 3] = 0
        for label, (top, left) in enumerate(PLACES):
            spot = (60 * labels[:, label]).byte()[:, None, None, None]
            images[:, top : top + 2, left : left + 2] += spot
        parts = [Labelled(images[own], labels[own]) for own in (slice(300), slice(300, 500))]
        return *parts, ["fluid", "mass", "node", "rare"]


def words_for(folder):
    """The words by which a command in a process of its own finds this data set."""
    (folder / "conf/data").mkdir(parents=True, exist_ok=True)
    text = "defaults: [digits, _self_]\n_target_: findings.Findings\n"
    (folder / "conf/data/findings.yaml").write_text(text)
    return [f"--config-dir={folder}/conf", "data=findings"]


def environment():
    """The environment in which a process of its own can import this module."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
