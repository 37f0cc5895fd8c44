"""Image files and packs -> batches of images of the network's size; unreadable ones are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from densenet_cli.data.image_data import usable_cores
from densenet_cli.data.image_files import LeftOut, image_files
from densenet_cli.data.pack import Pack, PackedPath, is_pack
from densenet_cli.data.photo import MAX_PIXELS, TooLarge, limit_pixels, reason
from densenet_cli.data.picture import Picture
from densenet_cli.inference.trained_network import TrainedNetwork
from densenet_cli.options import UserError


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be read as an image, and why."""

    path: str
    reason: str


def limit(most: int | None) -> None:
    """Skip images of more pixels from now on; None: of more than training accepts by default."""
    limit_pixels(most or MAX_PIXELS)


def find(paths: Sequence[Path]) -> list[str]:
    """The files named, and all images in the folders and packs named, in this order.

    What is left out is logged. Images of packs are PackedPath.

    Raises:
        UserError: a file or folder does not exist, or there is no image in any.
        OSError: a folder cannot be read.
    """
    found: list[str] = []
    left_out, named = LeftOut(), ", ".join(map(str, paths))
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        if not (path.is_dir() or path.is_file()):
            raise UserError(f"{path}: is a pipe, socket or device, not a file")
        if is_pack(path):
            pack = Pack(path)
            found += PackedPath.all(pack, range(len(pack)))
        else:
            found += image_files(path, left_out) if path.is_dir() else [str(path)]
    if not found:
        besides = f"; left out: {left_out}" if str(left_out) else ""
        raise UserError(f"{named}: there is no image in it{besides}")
    left_out.warn(named)
    return found


def batches(
    paths: Sequence[str], read: Callable[[Picture], Tensor], batch_size: int
) -> Iterator[tuple[list[int], Tensor, list[Unreadable]]]:
    """Read images, several at a time and one batch ahead.

    Args:
        paths: the files, or PackedPath.
        read: makes a tensor of one image, always of the same shape.
        batch_size: files in a batch, readable or not.

    Yields:
        The indices of the n files that can be read; their tensors, (n, ...); the other files.
    """
    parts = [range(len(paths))[i : i + batch_size] for i in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(usable_cores()) as pool:

        def submit(part: range) -> list:
            return [pool.submit(_read, paths[index], read) for index in part]

        pending = submit(parts[0])
        for part, following in zip(parts, [*parts[1:], range(0)], strict=True):
            results = [future.result() for future in pending]
            pending = submit(following)
            images = {
                index: one for index, one in zip(part, results, strict=True) if isinstance(one, Tensor)
            }
            stacked = torch.stack(list(images.values())) if images else torch.empty(0)
            yield list(images), stacked, [one for one in results if isinstance(one, Unreadable)]


def sample(
    paths: Sequence[Path], trained: TrainedNetwork, most: int = 64
) -> tuple[Tensor, list[Unreadable]]:
    """The first images of the files and folders named; two random images if none is named.

    Returns:
        Two or more images (n, H, W, C) uint8 of the network's size, and the files that cannot be read.

    Raises:
        UserError: fewer than two images can be read.
    """
    if not paths:
        shape = (2, *trained.image_size, trained.channels)
        noise = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
        return noise.to(torch.uint8), []
    files = find(paths)[:most]
    (_, images, unreadable), *_ = batches(files, trained.crop, most)
    if len(images) < 2:
        named = ", ".join(map(str, paths))
        raise UserError(f"{named}: at least two images are needed{first_reason(unreadable)}")
    return images, unreadable


def first_reason(unreadable: Sequence[Unreadable]) -> str:
    """The end of a message: why the first file cannot be read; empty if all can be read."""
    return f"; {unreadable[0].path} cannot be read: {unreadable[0].reason}" if unreadable else ""


def _read(path: str, read: Callable[[Picture], Tensor]) -> Tensor | Unreadable:
    try:
        return read(path.picture() if isinstance(path, PackedPath) else path)
    except TooLarge as error:
        needed = f"--max-pixels {error.needed}" if error.needed else "a larger --max-pixels"
        return Unreadable(path, f"it {error}; {needed} reads it")
    except Exception as error:  # decoders raise nearly anything
        return Unreadable(path, reason(error))
