"""Fetching published files: whole or not at all, by one process, none the wrong file."""

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
SILENCE_S = 30  # how long a server may send nothing


@dataclass(frozen=True)
class PublishedFile:
    """A file as its authors published it.

    Attributes:
        path: where it lies below the root folder.
        md5: its checksum, in hexadecimal.
        url: where to fetch it; empty for a file that comes in an archive.
    """

    path: str
    md5: str
    url: str = ""


@dataclass(frozen=True)
class PublishedSet:
    """The files of a data set, all in one archive or each with its own address.

    Attributes:
        name: as in `data=name`.
        files: all that are read.
        archive: the tar file that holds them, if there is one; they share one top folder then.
    """

    name: str
    files: Sequence[PublishedFile]
    archive: PublishedFile | None = None


def make_available(published: PublishedSet, root: Path, download: bool, verify: bool) -> None:
    """Have all files of a set below `root`: unpack or download them unless they are there.

    Only one process does it; others wait. If all is there, nothing is locked or written.

    Args:
        published: what is wanted.
        root: folder; made if missing.
        download: whether missing or altered files may be fetched.
        verify: whether files with another checksum than the published one count as damaged.

    Raises:
        UserError: if a file is missing or damaged and cannot be had; says which, and what to do.
    """
    problem = trouble(published.files, root, verify)
    if problem is None:
        return
    if not download and not (published.archive and (root / published.archive.path).exists()):
        raise _missing(published, root, verify)
    with _only_one_process(root), _recalling(problem):
        if trouble(published.files, root, verify) is None:
            return  # another process did it while this one waited
        if published.archive is None:
            for file in published.files:
                if trouble([file], root, verify):
                    _fetch(file, root)
        else:
            _bring_archive(published, root, download, verify)
            _unpack(published, root)
    if trouble(published.files, root, verify):
        raise _missing(published, root, verify)


def trouble(files: Sequence[PublishedFile], root: Path, verify: bool) -> str | None:
    """What is wrong with the first missing or damaged file; None if all are there."""
    for file in files:
        path = root / file.path
        if not path.is_file():
            return f"{path} is missing"
        if verify and md5_of(path) != file.md5:
            return f"{path} is not the published file (its checksum differs)"
    return None


def digest(published: PublishedSet, root: Path, verify: bool) -> str:
    """Twelve hexadecimal digits that stand for the content of a set's files.

    Files that are verified before they are used have the published checksums, and are not read.

    Raises:
        OptionError: if the files have to be read and one is missing.
    """
    files = published.files
    if not verify and (problem := trouble(files, root, verify)):
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
    ways = "put the files there, or let them be fetched with data.download=true"
    problem = trouble(published.files, root, verify)
    if problem and "checksum" in problem:
        ways = "fetch it again with data.download=true, or take it as it is with data.verify=false"
    return OptionError("root", root, f"{problem}; {ways}")


@contextmanager
def _only_one_process(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()  # a lock would be waited for, for ever
        lock = FileLock(root / ".download.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("waiting: another process is fetching data into %s", root)
            lock.acquire()
    except OSError as error:
        rule = f"cannot be written ({error.strerror}); name a folder that can"
        raise OptionError("root", root, rule) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _recalling(problem: str) -> Iterator[None]:
    """If no download comes, say too what is wrong with files that are there already."""
    try:
        yield
    except UserError as error:
        if "checksum" not in problem:
            raise
        raise UserError(f"{error}. {problem}: data.verify=false takes it as it is") from error


def _bring_archive(published: PublishedSet, root: Path, download: bool, verify: bool) -> None:
    archive = published.archive
    assert archive is not None
    problem = trouble([archive], root, verify)
    if problem is None:
        return
    if not download:
        rule = f"{problem}: it was not fetched whole; fetch it again with data.download=true"
        raise OptionError("root", root, rule)
    _fetch(archive, root)


def _fetch(file: PublishedFile, root: Path) -> None:
    """Download one file; it gets its name only once it is whole and its checksum right."""
    target = root / file.path
    part = target.with_name(f".{target.name}.part")
    log.info("downloading %s to %s", file.url, target)
    by_hand = f"fetch it by hand and put it at {target}, or use data=digits, which needs no download"
    try:
        _copy(file.url, part)
        if md5_of(part) != file.md5:
            raise UserError(
                f"{file.url}: the download is broken ({part.stat().st_size} bytes came, their "
                f"checksum is wrong) and was thrown away; start again, or {by_hand}"
            )
        _put_aside(target)
        part.rename(target)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"cannot download {file.url}: {reason}; {by_hand}") from error
    finally:
        part.unlink(missing_ok=True)


def _copy(url: str, part: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "densenet-cli"})
    with urllib.request.urlopen(request, timeout=SILENCE_S) as response:
        size = int(response.headers.get("Content-Length") or 0)
        name = url.rpartition("/")[2]
        with wrap_file(response, size, description=name) as stream, part.open("wb") as out:
            shutil.copyfileobj(stream, out, 1 << 20)


def _unpack(published: PublishedSet, root: Path) -> None:
    """Unpack beside the final place, then rename: a broken-off unpacking is never taken as whole.

    Only the wanted files are read, and only if they are files: an archive cannot write anywhere
    else, and its links, which may lead to themselves, are not followed.
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
                    raise tarfile.TarError(f"{file.path} in it is no regular file")
                target = unpacking / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(source, out)
        _put_aside(root / folder)
        (unpacking / folder).rename(root / folder)
    except Exception as error:  # a damaged archive can raise nearly anything
        reason = str(error).partition(":\n")[0]
        raise UserError(
            f"{archive} cannot be unpacked ({reason}); delete it and start again"
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


def _put_aside(path: Path) -> None:
    """Rename what lies at `path`, if anything: it may be all that someone has of it."""
    if not path.exists():
        return
    number = 1
    while (aside := path.with_name(f"{path.name}.old{number}")).exists():
        number += 1
    path.rename(aside)
    log.warning("replaced %s; what was there is now %s", path, aside)
