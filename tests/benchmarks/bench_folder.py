"""How long a run waits for a folder of 1.28 million photos, as ImageNet is one, and what that costs.

Run by `python tests/benchmarks/bench_folder.py [IMAGES]`. The photos are hard links to 1,000 made-up
ones, in 1,000 classes, in a folder that is deleted at the end; the system has all of them in memory.
torchvision's ImageFolder, which takes no sizes and no digest, lists the same folder beside it. Each
part is a process of its own; memory is what the process has at its peak more than after its imports.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES, CLASSES, ORIGINALS = 1_281_000, 1_000, 1_000
GOALS_S = {"list": 10}


def fill(root: Path, images: int) -> None:
    """Training images and a twenty-fifth as many validation images, all in class folders."""
    originals, chance = root / "originals", np.random.default_rng(0)
    originals.mkdir()
    for number in range(ORIGINALS):
        noise = chance.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(noise).resize((160, 120)).save(originals / f"{number}.jpg", quality=90)
    linked = 0
    for split, total in (("train", images), ("val", images // 25)):
        for name in range(CLASSES):
            folder = root / "photos" / split / f"n{1_440_000 + 77 * name:08}"
            folder.mkdir(parents=True)
            for number in range(total // CLASSES):
                source = originals / f"{linked % ORIGINALS}.jpg"
                os.link(source, folder / f"{folder.name}_{number}.JPEG")
                linked += 1


def list_and_check(root: str, check: str | bool) -> None:
    """What a run does before its network: list the images, compute their digest, check them."""
    from densenet_cli.data.image_folder import ImageFolder

    data = ImageFolder(root, num_workers=0, check=check)
    data.prepare()
    data.digest()


def list_by_torchvision(root: str) -> None:
    """The same images as lists of names and classes."""
    from torchvision.datasets import ImageFolder

    for split in ("train", "val"):
        ImageFolder(f"{root}/{split}")


def order_an_epoch(images: int) -> None:
    """The first batch of an epoch, whose order is that of all of its images."""
    from densenet_cli.data.epoch_order import EpochOrder

    next(iter(EpochOrder(images, 256, 0)))


def measured(work: Callable[..., None], *arguments: object) -> tuple[float, float]:
    """Seconds, and MB of memory, in this process."""
    import torchvision.datasets  # noqa: F401

    import densenet_cli.data.image_folder  # noqa: F401

    logging.disable(logging.WARNING)  # links in two splits are equal images
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    work(*arguments)
    seconds = time.perf_counter() - begin
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder, "cache"))
        fill(Path(folder), images)
        root = str(Path(folder, "photos"))
        print(f"a folder of {images + images // 25:,} photos, of which all folders are in memory\n")
        parts: dict[str, tuple[Callable[..., None], tuple[object, ...]]] = {
            "list": (list_and_check, (root, False)),
            "list by torchvision": (list_by_torchvision, (root,)),
            "list and check": (list_and_check, (root, "quick")),
            "list, checked before": (list_and_check, (root, "quick")),
            "order of an epoch": (order_an_epoch, (images,)),
        }
        for name, (work, arguments) in parts.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                seconds, memory = process.submit(measured, work, *arguments).result()
            goal = f"   goal: {GOALS_S[name]} s for 1.28 million" if name in GOALS_S else ""
            print(f"{name:24} {seconds:8.2f} s {memory:8.0f} MB{goal}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
