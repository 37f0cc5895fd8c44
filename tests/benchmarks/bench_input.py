"""How long the input of a training step takes, beside torchvision's reference transforms.

Run by `python tests/benchmarks/bench_input.py [FOLDER]`, of photos, as data=image_folder takes it;
without a folder photos of 500 x 375 pixels are made up. All ways take turns in one run; of each the
least disturbed turn counts.

Small images are read in this process. Photos are cut to 224 x 224, augmented and normalised on the CPU,
by one worker process a core; each way has a process of its own, with its workers. "for a GPU" are bytes
that are cut, but are augmented and normalised on the GPU. Columns:
    images/s        those that are ready for the network, or for the GPU
    a core          images per second of processor time, of all processes of the way
    KB read         an image, through calls of the system; most come from its cache
    MB              of memory, of all processes of the way, beyond torch, Python and files
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from lightning import Trainer
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2

from densenet_cli.data import jpeg
from densenet_cli.data.image_data import ImageData, usable_cores
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.in_memory import InMemoryData, Labelled
from densenet_cli.training.allocator import keep_freed_memory

TURNS, BATCH = 6, 64
SECONDS = 1.0  # of a turn with photos
STEPS_MS = {"DenseNet-BC-100-12": 250, "ResNet-20": 20}  # aimed at, on two cores
NORMALISE = [
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
]


Times = tuple[float, float]
"""Wall and processor milliseconds an image, the latter of this process alone."""


class RandomImages(InMemoryData):
    """As many images as CIFAR-10 has, and as large."""

    def arrays(self) -> tuple[Labelled, Labelled, list[str]]:
        images = torch.randint(0, 256, (50_000, 32, 32, 3), dtype=torch.uint8)
        all_of_them = Labelled(images, torch.arange(50_000) % 10)
        return all_of_them, Labelled(images[:1000], all_of_them.labels[:1000]), list("0123456789")


class TransformedTensors(TensorDataset):
    """Images of (3, 32, 32) bytes, each through torchvision's transforms."""

    transform = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), *NORMALISE])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        image, label = super().__getitem__(index)
        return self.transform(image), label


def endless(data: ImageData) -> Iterator[int]:
    """The sizes of the training batches, epoch after epoch, ready for the network."""
    loader = data.train_dataloader()
    while True:
        for batch in loader:
            yield len(data.on_after_batch_transfer(batch)[1])


def again(loader: DataLoader) -> Iterator[int]:
    """The sizes of the batches of a plain loader, epoch after epoch."""
    while True:
        for _, labels, *_ in loader:
            yield len(labels)


def compare(ways: dict[str, Callable[[], Iterator[int]]], batches: int) -> dict[str, Times]:
    """The least times of each way over turns of so many batches."""
    sources = {name: way() for name, way in ways.items()}
    found: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, source in sources.items():
            next(source)
            wall, own = time.perf_counter(), time.process_time()
            images = sum(next(source) for _ in range(batches))
            spent = time.perf_counter() - wall, time.process_time() - own
            found[name].append((1e3 * spent[0] / images, 1e3 * spent[1] / images))
    return {name: (min(times)[0], min(own for _, own in times)) for name, times in found.items()}


def small_images() -> None:
    """Batches of 64 images of 32 x 32 pixels."""
    data = RandomImages(BATCH, None, True, 0, 0, "mean_std")
    data.prepare()
    planes = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8)
    theirs = TransformedTensors(planes, torch.arange(50_000) % 10)
    ways = {
        "densenet-cli": lambda: endless(data),
        "torchvision": lambda: again(DataLoader(theirs, BATCH, shuffle=True)),
    }
    print(f"\nmirror, shift, normalise: {BATCH} x 3 x 32 x 32, {torch.get_num_threads()} threads")
    for name, (wall, own) in compare(ways, 20).items():
        wall, own = BATCH * wall, BATCH * own
        shares = ", ".join(f"{wall / step:.2%} of {net}'s {step} ms" for net, step in STEPS_MS.items())
        print(f"{name:24} {wall:8.3f} ms a batch ({own:.3f} of processors): {shares}")


class Photos:
    """One way to read photos, in a process of its own: densenet-cli's, or torchvision's.

    Args:
        root: the folder of the photos.
        way: what `PHOTO_WAYS` has.
    """

    def __init__(self, root: Path, way: str) -> None:
        context = multiprocessing.get_context("forkserver")  # a fork would have this process's memory
        context.set_forkserver_preload(["lightning", "torchvision.transforms.v2"])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, root, way), daemon=False)
        self.process.start()

    def ask(self, seconds: float) -> tuple[float, ...]:
        """(images/s, images a second of processors, bytes an image, bytes of memory) of one turn.

        After a turn of 0 seconds the process ends, with its workers.
        """
        self.connection.send(seconds)
        return self.connection.recv()


def serve(connection: Connection, root: Path, way: str) -> None:
    """Answer `Photos.ask`, in its process."""
    multiprocessing.set_start_method("fork", force=True)  # of workers, as in a process of its own
    workers = usable_cores()
    sizes = PHOTO_WAYS[way](root, workers)
    while seconds := connection.recv():
        for _ in range(2 * workers + 1):  # what was made ready during the turns of the others
            next(sizes)
        images, begin = 0, (time.perf_counter(), spent(), bytes_read())
        while time.perf_counter() < begin[0] + seconds:
            images += next(sizes)
        end = time.perf_counter(), spent(), bytes_read()
        wall, cores, content = (after - before for before, after in zip(begin, end, strict=True))
        connection.send((images / wall, images / cores, content / images, memory()))
    connection.send(())
    sizes.close()


def ours(root: Path, workers: int, device: str = "cpu", **options: object) -> Iterator[int]:
    """densenet-cli's, in a process that is set up as by a run."""
    keep_freed_memory()
    data = ImageFolder(str(root), BATCH, num_workers=workers, check="quick", **options)
    data.prepare()
    strategy = SimpleNamespace(root_device=torch.device(device))
    facts = {"training": True, "global_rank": 0, "world_size": 1, "num_devices": 1}
    data.trainer = cast(Trainer, SimpleNamespace(strategy=strategy, **facts))
    return endless(data) if device == "cpu" else again(data.train_dataloader())


def torchvisions(root: Path, workers: int, *transforms: v2.Transform) -> Iterator[int]:
    """torchvision's folder and transforms, with PyTorch's loader."""
    train = root / "train" if (root / "train").is_dir() else root
    flip = v2.RandomHorizontalFlip()
    transform = v2.Compose([*transforms, flip, v2.PILToTensor(), *NORMALISE])
    images = TorchvisionFolder(train, transform)
    return again(DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=True))


def pack(root: Path, quality: int | str) -> dict[str, object]:
    """The options for a pack of photos whose shorter side is 256."""
    where = root.parent / f"{quality}.pack"
    return {"pack": str(where), "pack_size": 256, "pack_quality": quality}


SAME = v2.RandomResizedCrop(224, interpolation=v2.InterpolationMode.BICUBIC)
PHOTO_WAYS: dict[str, Callable[[Path, int], Iterator[int]]] = {
    "torchvision, crop and mirror": lambda root, workers: torchvisions(
        root, workers, v2.RandomResizedCrop(224)
    ),
    "torchvision, as ours": lambda root, workers: torchvisions(
        root, workers, SAME, v2.ColorJitter(0.4, 0.4, 0.4)
    ),
    "densenet-cli, Pillow only": lambda root, workers: without_simplejpeg(root, workers),
    "densenet-cli": ours,
    "  pack": lambda root, workers: ours(root, workers, **pack(root, 90)),
    "  raw pack": lambda root, workers: ours(root, workers, **pack(root, "raw")),
    "  for a GPU": lambda root, workers: ours(root, workers, "cuda"),
    "  for a GPU, pack": lambda root, workers: ours(root, workers, "cuda", **pack(root, 90)),
    "  for a GPU, raw pack": lambda root, workers: ours(root, workers, "cuda", **pack(root, "raw")),
}


def without_simplejpeg(root: Path, workers: int) -> Iterator[int]:
    """densenet-cli's, where the extra `photos` is not installed."""
    jpeg.simplejpeg = None
    return ours(root, workers)


def processes() -> list[int]:
    """This process and its children."""
    return [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]


def memory() -> int:
    """Bytes of this process and its children without files, and without what was there when they began.

    Pages that only one process has, and those that processes share to hand over batches.
    """
    found = 0
    for one in processes():
        together = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        found += sum(_bytes(line) for line in together if line.startswith("Pss_Shmem:"))
        lines = Path(f"/proc/{one}/smaps").read_text().splitlines()
        own, private = (
            [_bytes(line) for line in lines if line.startswith(name)]
            for name in ("Anonymous:", "Private_Dirty:")
        )
        found += sum(map(min, own, private))  # of each mapping; memory of batches is not anonymous
    return found


def _bytes(line: str) -> int:
    return 1024 * int(line.split()[1])


def spent() -> float:
    """Seconds of processors of this process and its children."""
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in processes()]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def bytes_read() -> int:
    """By this process and its children."""
    counts = [Path(f"/proc/{one}/io").read_text().split() for one in processes()]
    return sum(int(each[1]) for each in counts)


def photos(root: Path) -> None:
    """All ways in turn, and each beside torchvision's with the same augmentation."""
    ways = {name: Photos(root, name) for name in PHOTO_WAYS}
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            found[name].append(way.ask(SECONDS))
    for way in ways.values():
        way.ask(0)
        way.process.join()
    print(f"\nphotos of {root}, 224 x 224, {usable_cores()} worker processes")
    print(f"{'':30} images/s   a core  times a core as torchvision's   KB read     MB")
    best = {name: [max(column) for column in zip(*turns, strict=True)] for name, turns in found.items()}
    plain, same = (best[name][1] for name in list(best)[:2])
    for name, (rate, a_core, content, most) in best.items():
        times = f"{a_core / same:.2f} ({a_core / plain:.2f} without jitter)"
        line = f"{name:30} {rate:8.0f} {a_core:8.0f}  {times:31}"
        print(f"{line} {content / 1e3:7.1f} {most / 2**20:6.0f}")


def make_photos(root: Path) -> None:
    """2,000 photos of 500 x 375 pixels, as large as ImageNet's are on average."""
    chance = np.random.RandomState(0)
    for index in range(2000):
        colours = chance.randint(0, 256, (30, 40, 3)).astype(np.uint8)
        path = root / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(colours).resize((500, 375)).save(path, quality=92)


def main() -> None:
    """Measure both kinds of input."""
    small_images()
    with tempfile.TemporaryDirectory() as name:
        root = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else Path(name) / "photos"
        if len(sys.argv) == 1:
            make_photos(root)
        photos(root)


if __name__ == "__main__":
    main()
