"""How long a run waits for a folder of 1.28 million photos, as ImageNet is one, and what that costs.

Run by `python tests/benchmarks/bench_folder.py [IMAGES]`. The photos are hard links to 1,000 made-up
ones, in 1,000 classes, in a folder that is deleted at the end; the system has all of them in memory.
torchvision's ImageFolder, which takes no sizes and no digest, lists the same folder beside it. The pack
has the index of as many images, and the raw pixels of the 1,000, all of which the system has in memory.

Each part is a process of its own; memory is what the process has at its peak more than after its
imports. That of the first batch is what the process and two loader workers then have together.
"""

from __future__ import annotations

import json
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
from typing import Any

import numpy as np
from PIL import Image

IMAGES, CLASSES, ORIGINALS = 1_281_000, 1_000, 1_000
GOALS = {"list": "10 s", "first batch from a pack": "5 s, 1200 MB"}  # for 1.28 million


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


def fill_pack(root: Path, images: int) -> None:
    """Pack the 1,000 photos, and then let the pack have each of them many times."""
    from densenet_cli.data.image_folder import ImageFolder
    from densenet_cli.data.pack import FACTS, INDEX, LABELS, NAMES

    for name in ("a", "b"):
        (root / "few" / name).mkdir(parents=True)
    for number, path in enumerate(sorted((root / "originals").iterdir())):
        os.link(path, root / "few" / "ab"[number % 2] / path.name)
    pack = root / "photos.pack"
    ImageFolder(str(root / "few"), pack=str(pack), pack_quality="raw").prepare()
    sizes = {"train": images, "test": images // 25}
    rows = np.arange(sum(sizes.values())) % ORIGINALS
    np.save(pack / INDEX, np.load(pack / INDEX)[rows])
    np.save(pack / LABELS, rows % CLASSES)
    names = [f"train/n{1_440_000 + row:08}/n{1_440_000 + row:08}_{row}.JPEG" for row in rows.tolist()]
    (pack / NAMES).write_bytes("\0".join([*names, ""]).encode())
    facts = json.loads((pack / FACTS).read_text())
    facts |= {"images": len(rows), "splits": sizes, "classes": [str(n) for n in range(CLASSES)]}
    (pack / FACTS).write_text(json.dumps(facts))


def first_batch(root: str) -> float:
    """Read a batch of a pack, by two workers; returns the MB that it takes in all three processes."""
    from densenet_cli.data.image_folder import ImageFolder

    multiprocessing.set_start_method("fork", force=True)  # of workers, as in a run
    before = memory_of_all()
    data = ImageFolder(root, num_workers=2)
    data.prepare()
    data.digest()
    batches = iter(data.train_dataloader())
    next(batches)
    return memory_of_all() - before


def memory_of_all() -> float:
    """MB of this process and its children, without files; pages that they share count once."""
    parts, found = ("Pss_Anon:", "Pss_Shmem:"), 0
    for one in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith(parts))
    return found / 1024


def order_an_epoch(images: int) -> None:
    """The first batch of an epoch, whose order is that of all of its images."""
    from densenet_cli.data.epoch_order import EpochOrder

    next(iter(EpochOrder(images, 256, 0)))


def measured(work: Callable[..., float | None], *arguments: object) -> tuple[float, float]:
    """Seconds, and MB of memory, in this process."""
    import torchvision.datasets  # noqa: F401

    import densenet_cli.data.image_folder  # noqa: F401

    logging.disable(logging.WARNING)  # links in two splits are equal images
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    memory = work(*arguments)
    seconds = time.perf_counter() - begin
    if memory is not None:
        return seconds, memory
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def alone(work: Callable[..., Any], *arguments: object) -> Any:
    """Its result, from a process of its own; that of a large process would begin with a high peak."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def main(images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder, "cache"))
        fill(Path(folder), images)
        alone(fill_pack, Path(folder), images)
        root = str(Path(folder, "photos"))
        print(f"a folder of {images + images // 25:,} photos, of which all folders are in memory\n")
        parts: dict[str, tuple[Callable[..., float | None], tuple[object, ...]]] = {
            "list": (list_and_check, (root, False)),
            "list by torchvision": (list_by_torchvision, (root,)),
            "list and check": (list_and_check, (root, "quick")),
            "list, checked before": (list_and_check, (root, "quick")),
            "order of an epoch": (order_an_epoch, (images,)),
            "first batch from a pack": (first_batch, (f"{root}.pack",)),
        }
        for name, (work, arguments) in parts.items():
            seconds, memory = alone(measured, work, *arguments)
            goal = f"   goal: {GOALS[name]}" if name in GOALS else ""
            print(f"{name:24} {seconds:8.2f} s {memory:8.0f} MB{goal}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
