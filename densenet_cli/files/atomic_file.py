"""Files that are replaced as a whole, so that a kill at any moment leaves the old or the new one."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from densenet_cli.options import UserError

_guards: dict[Path, Callable[[], None]] = {}  # of folders that this process holds


def replace_file(path: Path, content: str | Callable[[BinaryIO], Any]) -> None:
    """Write a file as a whole: another name, to the disk, then the new name over the old.

    Args:
        path: the file; its folder is made if need be.
        content: the text, or a function that writes the bytes to an open file.

    Raises:
        UserError: if the disk is full or the folder can't be written; the old file is then intact.
            Also what the guard of the file's folder raises; see `guarded`.
    """
    check = _guard(path)
    check()  # before anything is made: the folder may have been deleted
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            if isinstance(content, str):
                # A lone surrogate, as in the name of a file that is not UTF-8, becomes \udc80.
                file.write(content.encode(errors="backslashreplace"))
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        check()
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # if it cannot be removed, `error` says why
            partial.unlink()
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
    check = _guard(target)
    check()
    partial = _partial(target)
    try:
        os.link(source, partial)
        check()
        partial.replace(target)
    except OSError:  # a file system without hard links
        replace_file(target, lambda file: file.write(source.read_bytes()))
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Within, `check` is called just before any file below the folder is replaced.

    Args:
        folder: a folder that this process holds.
        check: raises an error where the folder is no longer this process's to write.
    """
    place = Path(os.path.abspath(folder))
    _guards[place] = check
    try:
        yield
    finally:
        del _guards[place]


def remove_partials(path: Path) -> None:
    """Remove what writers of a file left when they died; for one who knows that no other is at work."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.partial-*"):
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """The other name; process numbers would not do, for two machines may give the same one."""
    return path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")


def _guard(path: Path) -> Callable[[], None]:
    folders = Path(os.path.abspath(path)).parents
    return next((_guards[folder] for folder in folders if folder in _guards), lambda: None)
