"""How long the input of a training step takes, beside torchvision's reference transforms.

Run by `python tests/benchmarks/bench_input.py [FOLDER]`, of photos, as data=image_folder takes it;
without a folder photos of 500 x 375 pixels are made up. All ways take turns in one run; of each the
least disturbed turn counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2

from densenet_cli.data.image_data import ImageData, usable_cores
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.in_memory import InMemoryData, Labelled

TURNS, BATCH = 6, 64
STEPS_MS = {"DenseNet-BC-100-12": 250, "ResNet-20": 20}  # aimed at, on two cores
NORMALISE = [
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
]
CROP = [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()]


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
        for _, labels in loader:
            yield len(labels)


def compare(
    ways: dict[str, Callable[[], Iterator[int]]], batches: int, workers: int = 0
) -> dict[str, Times]:
    """The least times of each way over turns of so many batches."""
    sources = {name: way() for name, way in ways.items()}
    found: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, source in sources.items():
            for _ in range(1 + 2 * workers):  # what was made ready during the turns of the others
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


def photos(root: Path, workers: int) -> None:
    """Photos, cut to 224 x 224, by so many worker processes."""
    data = ImageFolder(str(root), BATCH, num_workers=workers)
    data.prepare()
    train = root / "train" if (root / "train").is_dir() else root

    def torchvisions(*jitter: v2.Transform) -> Iterator[int]:
        transform = v2.Compose([*CROP, *jitter, v2.PILToTensor(), *NORMALISE])
        images = TorchvisionFolder(train, transform)
        return again(
            DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        )

    ways = {
        "densenet-cli": lambda: endless(data),
        "torchvision": torchvisions,
        "torchvision, jitter": lambda: torchvisions(v2.ColorJitter(0.4, 0.4, 0.4)),
    }
    print(f"\nphotos of {root}, 224 x 224, {workers or 'no'} worker processes")
    for name, (wall, own) in compare(ways, 1 + 2 * workers, workers).items():
        print(f"{name:24} {1e3 / wall:8.0f} images/s; {own:.2f} ms an image in the training process")


def make_photos(root: Path) -> None:
    """500 photos of 500 x 375 pixels, as large as ImageNet's are on average."""
    chance = np.random.RandomState(0)
    for index in range(500):
        colours = chance.randint(0, 256, (30, 40, 3)).astype(np.uint8)
        path = root / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(colours).resize((500, 375)).save(path, quality=92)


def main() -> None:
    """Measure both kinds of input."""
    small_images()
    with tempfile.TemporaryDirectory() as name:
        root = Path(sys.argv[1] if len(sys.argv) > 1 else name)
        if len(sys.argv) == 1:
            make_photos(root)
        for workers in (0, usable_cores()):
            photos(root, workers)


if __name__ == "__main__":
    main()
