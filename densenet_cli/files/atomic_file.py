"""Atomic replacement of files: a kill at any moment leaves either the old file or the new one."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from densenet_cli.options import UserError

_guards: dict[Path, Callable[[], None]] = {}  # by folder; see `guarded`


def replace_file(path: Path, content: str | Callable[[BinaryIO], Any]) -> None:
    """Write a temporary file beside `path`, flush it to the disk, and rename it to `path`.

    Args:
        path: the file; its folder is created if it does not exist.
        content: the text, or a function that writes the bytes to an open file.

    Raises:
        UserError: if the disk is full or the folder cannot be written; the old file is then intact.
            Also what the guard of the file's folder raises; see `guarded`.
    """
    check = _guard(path)
    check()  # first, so that a deleted folder is not created again
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            if isinstance(content, str):
                # A file name that is not UTF-8 has lone surrogates; they are written as \udc80.
                file.write(content.encode(errors="backslashreplace"))
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        check()
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # `error` says why it cannot be removed
            partial.unlink()
        # torch.save raises a RuntimeError for a full disk; its context is the OSError.
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and isinstance(error, (OSError, RuntimeError)):
            raise UserError(f"{path} cannot be written: {cause.strerror or cause}") from error
        raise


def replace_by_link(source: Path, target: Path) -> None:
    """Replace `target` by a hard link to `source`, so that the content is not written twice.

    Raises:
        UserError: as `replace_file`.
    """
    check = _guard(target)
    check()
    partial = _partial(target)
    try:
        os.link(source, partial)
        check()
        partial.replace(target)
    except OSError:  # the file system has no hard links
        replace_file(target, lambda file: file.write(source.read_bytes()))
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """While entered, `check` is called just before any file below the folder is replaced.

    Args:
        folder: a folder that this process has locked.
        check: raises an error if this process may no longer write there.
    """
    absolute = Path(os.path.abspath(folder))
    _guards[absolute] = check
    try:
        yield
    finally:
        del _guards[absolute]


def remove_partials(path: Path) -> None:
    """Remove the temporary files of writers that died. Call it only while no other process writes."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """A temporary name. It is random, since two machines may have processes of the same number."""
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")


def _guard(path: Path) -> Callable[[], None]:
    folders = Path(os.path.abspath(path)).parents
    return next((_guards[folder] for folder in folders if folder in _guards), lambda: None)
