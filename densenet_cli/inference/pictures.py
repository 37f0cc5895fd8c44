"""Picture files -> batches of images as a network takes them; what cannot be read is set aside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from densenet_cli.data.image_data import usable_cores
from densenet_cli.data.photo import MAX_PIXELS, TooLarge, centre_crop, limit_pixels, reason
from densenet_cli.data.picture_files import LeftOut, image_files
from densenet_cli.options import UserError


@dataclass(frozen=True)
class Unreadable:
    """A file that is no picture, and why."""

    path: str
    reason: str


def limit(most: int | None) -> None:
    """Leave out pictures of more pixels from now on; None: of more than training takes by default."""
    limit_pixels(most or MAX_PIXELS)


def find(words: Sequence[Path]) -> list[str]:
    """The files named, and all images in the folders named, in this order; says what is left out.

    Raises:
        UserError: if there is no such file or folder, or no image in any.
        OSError: if a folder cannot be read.
    """
    paths: list[str] = []
    left_out, named = LeftOut(), ", ".join(map(str, words))
    for word in words:
        if not word.exists():
            raise UserError(f"{word}: there is no such file or folder")
        if not (word.is_dir() or word.is_file()):
            raise UserError(f"{word}: is a pipe, socket or device, and no file")
        paths += image_files(word, left_out) if word.is_dir() else [str(word)]
    if not paths:
        besides = f"; left out: {left_out}" if str(left_out) else ""
        raise UserError(f"{named}: there is no image in it{besides}")
    left_out.say(named)
    return paths


def batches(
    paths: Sequence[str], read: Callable[[str], Tensor], batch_size: int
) -> Iterator[tuple[list[int], Tensor, list[Unreadable]]]:
    """Read pictures, several at a time and one batch ahead.

    Args:
        paths: the files.
        read: makes a tensor of one shape of each.
        batch_size: files in a batch, readable or not.

    Yields:
        The indices of those that could be read, (n,) of them; what was read, (n, ...); the others.
    """
    parts = [range(len(paths))[i : i + batch_size] for i in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        coming = [pool.submit(_read, paths[index], read) for index in parts[0]]
        for number, part in enumerate(parts):
            found = [future.result() for future in coming]
            after = parts[number + 1] if number + 1 < len(parts) else range(0)
            coming = [pool.submit(_read, paths[index], read) for index in after]
            pictures = {
                index: one for index, one in zip(part, found, strict=True) if isinstance(one, Tensor)
            }
            if pictures:
                stacked = torch.stack(list(pictures.values()))
                yield list(pictures), stacked, [one for one in found if isinstance(one, Unreadable)]
            else:
                yield [], torch.empty(0), [one for one in found if isinstance(one, Unreadable)]


def some(
    words: Sequence[Path], size: int, kept: float, most: int = 64
) -> tuple[Tensor, list[Unreadable]]:
    """The first pictures named, (n, size, size, 3) uint8, two or more; random ones if none is named.

    Raises:
        UserError: if there are not two that can be read.
    """
    if not words:
        noise = torch.randint(256, (2, size, size, 3), generator=torch.Generator().manual_seed(0))
        return noise.to(torch.uint8), []
    paths = find(words)[:most]
    cut = functools.partial(centre_crop, size=size, fraction=kept)
    (_, images, unreadable), *_ = batches(paths, cut, most)
    if len(images) < 2:
        named = ", ".join(map(str, words))
        raise UserError(f"{named}: two pictures at least are needed{first_of(unreadable)}")
    return images, unreadable


def first_of(unreadable: Sequence[Unreadable]) -> str:
    """The end of a sentence that says of one file why it cannot be read; empty if all can be."""
    return f"; {unreadable[0].path} cannot be read: {unreadable[0].reason}" if unreadable else ""


def _read(path: str, read: Callable[[str], Tensor]) -> Tensor | Unreadable:
    try:
        return read(path)
    except TooLarge as error:
        needed = f"--max-pixels {error.needed}" if error.needed else "a larger --max-pixels"
        return Unreadable(path, f"it {error}; {needed} reads it")
    except Exception as error:  # decoders raise nearly anything
        return Unreadable(path, reason(error))
