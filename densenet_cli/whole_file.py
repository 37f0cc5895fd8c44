"""Files that are replaced as a whole, so that a kill at any moment leaves the old or the new one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from densenet_cli.options import UserError


def replace_file(path: Path, content: str | Callable[[BinaryIO], Any]) -> None:
    """Write a file as a whole: another name, to the disk, then the new name over the old.

    Args:
        path: the file; its folder is made if need be.
        content: the text, or a function that writes the bytes to an open file.

    Raises:
        UserError: if the disk is full or the folder can't be written; the old file is then intact.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            if isinstance(content, str):
                file.write(content.encode())
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # torch.save reports a full disk as a RuntimeError whose context is the OSError.
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and isinstance(error, (OSError, RuntimeError)):
            raise UserError(f"{path} cannot be written: {cause.strerror or cause}") from error
        raise


def replace_by_link(source: Path, target: Path) -> None:
    """Give `target` the content of `source` without writing it twice.

    Raises:
        UserError: as `replace_file`.
    """
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
        partial.replace(target)
    except OSError:  # a file system without hard links
        replace_file(target, lambda file: file.write(source.read_bytes()))
