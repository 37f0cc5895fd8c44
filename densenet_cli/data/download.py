"""Download published files: completely or not at all, by one process, and with the right checksum."""

from __future__ import annotations

import hashlib
import http.client
import logging
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import wrap_file

from densenet_cli.options import OptionError, UserError

log = logging.getLogger(__name__)
TIMEOUT_S = 30  # without data from the server


@dataclass(frozen=True)
class PublishedFile:
    """A file as it was published.

    Attributes:
        path: relative to the root folder.
        md5: its checksum, in hexadecimal.
        url: where to download it; empty for a file in an archive.
    """

    path: str
    md5: str
    url: str = ""


@dataclass(frozen=True)
class PublishedSet:
    """The files of a data set, all in one archive or each with its own URL.

    Attributes:
        name: as in `data=name`.
        files: all files that are read.
        archive: the tar file that contains them, below one top folder; None if there is none.
    """

    name: str
    files: Sequence[PublishedFile]
    archive: PublishedFile | None = None


def make_available(published: PublishedSet, root: Path, download: bool, verify: bool) -> None:
    """Make sure that all files are below `root`: unpack or download those that are not.

    One process does this while others wait. If all files are there, nothing is locked or written.

    Args:
        published: the files.
        root: their folder; it is created if need be.
        download: whether to download missing or damaged files.
        verify: whether a file with another checksum than the published one counts as damaged.

    Raises:
        UserError: if a file is missing or damaged and cannot be replaced.
    """
    problem = fault_of(published.files, root, verify)
    if problem is None:
        return
    folder, *below = Path(published.files[0].path).parts
    if below and root.name == folder and root.joinpath(*below).is_file():
        raise OptionError("root", root, f"must be the folder that contains {folder}", root.parent)
    if not download and not (published.archive and (root / published.archive.path).exists()):
        raise _missing(published, root, verify)
    with _only_one_process(root), _adding_to_errors(problem):
        if fault_of(published.files, root, verify) is None:
            return  # another process has done it
        if published.archive is None:
            for file in published.files:
                if fault_of([file], root, verify):
                    _fetch(file, root)
        else:
            _bring_archive(published, root, download, verify)
            _unpack(published, root)
    if fault_of(published.files, root, verify):
        raise _missing(published, root, verify)


def fault_of(files: Sequence[PublishedFile], root: Path, verify: bool) -> str | None:
    """What is wrong with the first missing or damaged file; None if all are good."""
    for file in files:
        path = root / file.path
        if not path.is_file():
            return f"{path} is missing"
        if verify and md5_of(path) != file.md5:
            return f"{path} is not the published file (its checksum differs)"
    return None


def digest(published: PublishedSet, root: Path, verify: bool) -> str:
    """Twelve hexadecimal digits that identify the content of the files.

    With `verify`, only files with the published checksums are used, so they need not be read for this.

    Raises:
        OptionError: if the files have to be read and one is missing.
    """
    files = published.files
    if not verify and (problem := fault_of(files, root, verify)):
        raise OptionError("root", root, problem)
    lines = [f"{file.path} {file.md5 if verify else md5_of(root / file.path)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def md5_of(path: Path) -> str:
    """MD5 checksum of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _missing(published: PublishedSet, root: Path, verify: bool) -> OptionError:
    ways = "put the files there, or download them with data.download=true"
    problem = fault_of(published.files, root, verify)
    if problem and "checksum" in problem:
        ways = "download it again with data.download=true, or use it as it is with data.verify=false"
    return OptionError("root", root, f"{problem}; {ways}")


@contextmanager
def _only_one_process(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()  # if this fails, FileLock would wait forever
        lock = FileLock(root / ".download.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("waiting: another process is downloading to %s", root)
            lock.acquire()
    except OSError as error:
        rule = f"cannot be written ({error.strerror}); name another folder"
        raise OptionError("root", root, rule) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _adding_to_errors(problem: str) -> Iterator[None]:
    """Add to a download's error what is wrong with the file that is there already."""
    try:
        yield
    except UserError as error:
        if "checksum" not in problem:
            raise
        raise UserError(f"{error}. {problem}: data.verify=false uses it as it is") from error


def _bring_archive(published: PublishedSet, root: Path, download: bool, verify: bool) -> None:
    archive = published.archive
    assert archive is not None
    problem = fault_of([archive], root, verify)
    if problem is None:
        return
    if not download:
        rule = f"{problem}: its download was incomplete; download it again with data.download=true"
        raise OptionError("root", root, rule)
    _fetch(archive, root)


def _fetch(file: PublishedFile, root: Path) -> None:
    """Download one file; it gets its name only when it is complete and its checksum is right."""
    target = root / file.path
    part = target.with_name(f".{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    log.info("downloading %s to %s", file.url, target)
    by_hand = f"download it yourself to {target}, or use data=digits, which needs no download"
    try:
        _copy(file.url, part)
        if md5_of(part) != file.md5:
            raise UserError(
                f"{file.url}: the download is damaged ({part.stat().st_size} bytes with a wrong "
                f"checksum) and was deleted; try again, or {by_hand}"
            )
        _rename_old(target)
        part.rename(target)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"cannot download {file.url}: {reason}; {by_hand}") from error
    finally:
        part.unlink(missing_ok=True)


def _copy(url: str, part: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "densenet-cli"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        size = int(response.headers.get("Content-Length") or 0)
        name = url.rpartition("/")[2]
        with wrap_file(response, size, description=name) as stream, part.open("wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)


def _unpack(published: PublishedSet, root: Path) -> None:
    """Unpack to another folder, then rename it: an interrupted unpacking never looks complete.

    Only the files of the set are read, and only if they are regular files: an archive cannot write
    anywhere else, and its links are not followed.
    """
    assert published.archive is not None
    archive = root / published.archive.path
    folder = Path(published.files[0].path).parts[0]
    unpacking = root / f".{folder}.unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            for file in published.files:
                source = tar.extractfile(file.path) if tar.getmember(file.path).isreg() else None
                if source is None:
                    raise tarfile.TarError(f"{file.path} in it is not a regular file")
                target = unpacking / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(source, out)
        _rename_old(root / folder)
        (unpacking / folder).rename(root / folder)
    except Exception as error:  # a damaged archive can raise any error
        reason = str(error).partition(":\n")[0]
        raise UserError(f"{archive} cannot be unpacked ({reason}); delete it and try again") from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


def _rename_old(path: Path) -> None:
    """Rename a file or folder at `path`, if there is one: it may be the user's only copy."""
    if not path.exists():
        return
    number = 1
    while (aside := path.with_name(f"{path.name}.old{number}")).exists():
        number += 1
    path.rename(aside)
    log.warning("replaced %s; what was there is now %s", path, aside)
