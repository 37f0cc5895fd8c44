import multiprocessing
import os
import shutil
import signal
import tarfile
import urllib.request

import pytest

from densenet_cli.data import download
from densenet_cli.data.cifar import Cifar10
from densenet_cli.data.svhn import Svhn
from densenet_cli.options import OptionError, UserError

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"


def cifar(root, **options):
    data = Cifar10(str(root), 16, normalise="scale", **options)
    data.prepare()
    return data


def left_over(root):
    """Anything but what was wanted."""
    return {path.name for path in root.iterdir()} - {FOLDER, ARCHIVE, ".download.lock"}


@pytest.fixture(autouse=True)
def release(cifar_release):
    return cifar_release


def test_a_missing_set_is_downloaded_and_unpacked_once(tmp_path, server):
    root = tmp_path / "new" / "folder"
    assert cifar(root).sizes["train"] == 100
    assert cifar(root).sizes["test"] == 10
    assert server.requests == [f"/{ARCHIVE}"]
    assert not left_over(root)


def test_existing_files_are_used_without_network_lock_or_writing(cifar_root, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked the net"))
    monkeypatch.setattr(download, "FileLock", lambda *_: pytest.fail("locked"))
    before = sorted(os.walk(cifar_root))
    assert cifar(cifar_root).sizes["train"] == 100
    assert sorted(os.walk(cifar_root)) == before


def test_an_existing_archive_is_unpacked_even_without_download(tmp_path, release, server):
    root = tmp_path / "byhand"
    root.mkdir()
    shutil.copy(release, root)
    assert cifar(root, download=False).sizes["train"] == 100
    assert not server.requests


@pytest.mark.parametrize("damage", ["truncated", "altered", "partial"])
def test_a_broken_archive_is_never_used_and_is_downloaded_again(tmp_path, release, damage):
    root = tmp_path / "broken"
    root.mkdir()
    content = release.read_bytes()
    if damage == "truncated":
        (root / ARCHIVE).write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        (root / ARCHIVE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:  # what a killed download leaves
        (root / f".{ARCHIVE}.part").write_bytes(content[: len(content) // 2])
    if damage != "partial":
        with pytest.raises(OptionError, match=rf"root=.*{ARCHIVE} is not the published file"):
            cifar(root, download=False)
    assert cifar(root).sizes["train"] == 100
    assert not {name for name in left_over(root) if ".old" not in name}


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_an_interrupted_unpacking_is_never_used(tmp_path):
    root = tmp_path / "killed"

    def die_at_the_fourth_file():
        extract, files = tarfile.TarFile.extractfile, []

        def deadly(archive, name):
            files.append(name)
            if len(files) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return extract(archive, name)

        tarfile.TarFile.extractfile = deadly
        cifar(root)

    process = multiprocessing.get_context("fork").Process(target=die_at_the_fourth_file)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert left_over(root)
    assert not (root / FOLDER).exists()
    assert cifar(root).sizes["train"] == 100
    assert not left_over(root)


def test_a_download_with_a_wrong_checksum_is_deleted(tmp_path, release, cifar_root):
    whole = release.read_bytes()
    release.write_bytes(whole[:-100])
    root = tmp_path / "wrong"
    with pytest.raises(UserError, match=rf"{ARCHIVE}: the download is damaged \(\d+ bytes"):
        cifar(root)
    assert not [path for path in root.iterdir() if path.name != ".download.lock"]
    release.write_bytes(whole)
    assert cifar(root).sizes["train"] == 100


@pytest.mark.parametrize("state", ["missing", "truncated"])
def test_a_damaged_file_is_named_and_replaced_but_kept(cifar_root, state):
    path = cifar_root / FOLDER / "data_batch_2"
    whole = path.read_bytes()
    if state == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:1000])
    problem = "is missing" if state == "missing" else "is not the published file"
    with pytest.raises(OptionError, match=rf"root={cifar_root}: {path} {problem}.*download=true"):
        cifar(cifar_root, download=False)
    cifar(cifar_root)
    assert path.read_bytes() == whole
    assert left_over(cifar_root) == {f"{FOLDER}.old1"}


def test_a_missing_folder_is_named_with_the_file_that_is_expected(tmp_path):
    with pytest.raises(OptionError, match=r"root=.*nowhere/cifar-10-batches-py/data_batch_1 is mi"):
        cifar(tmp_path / "nowhere", download=False)
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(
        OptionError, match=r"^root=\./nowhere/: nowhere/cifar-10-batches-py/data_batch_1"
    ):
        cifar("./nowhere/", download=False)


def test_the_folder_of_the_files_themselves_is_answered_with_the_one_above(cifar_root, server):
    inside = cifar_root / FOLDER
    rule = f"must be the folder that contains {FOLDER}; for example root={cifar_root}"
    with pytest.raises(OptionError, match=f"root={inside}: {rule}$"):
        cifar(inside)
    assert not list(inside.glob("*.tar.gz"))  # nothing was downloaded


def test_a_file_without_permission_is_named(cifar_root, monkeypatch):
    path = cifar_root / FOLDER / "data_batch_1"

    def denied(_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(download, "md5_of", denied)  # root may read all
    with pytest.raises(OptionError, match=rf"root={cifar_root}: {path} cannot be read .Permission den"):
        cifar(cifar_root)


def test_files_with_other_checksums_can_be_used_as_they_are(cifar_root):
    path = cifar_root / FOLDER / "test_batch"
    path.write_bytes((cifar_root / FOLDER / "data_batch_1").read_bytes())
    with pytest.raises(OptionError, match=r"checksum differs.*data\.verify=false"):
        cifar(cifar_root, download=False)
    assert cifar(cifar_root, verify=False).sizes["test"] == 20


@pytest.mark.parametrize("trouble", ["no server", "no file", "silence"])
def test_without_a_network_the_message_says_what_to_download(
    tmp_path, server, release, trouble, monkeypatch
):
    if trouble == "no server":
        monkeypatch.setattr(Cifar10.release, "url", f"http://127.0.0.1:9/{ARCHIVE}")
    elif trouble == "no file":
        release.unlink()
    else:

        def silent(*_, **__):
            raise TimeoutError("timed out")

        monkeypatch.setattr(urllib.request, "urlopen", silent)
    root = tmp_path / "offline"
    with pytest.raises(UserError) as caught:
        cifar(root)
    message = str(caught.value)
    assert message.startswith(f"cannot download {Cifar10.release.url}: ")
    assert f"download it yourself to {root / ARCHIVE}, or use data=digits" in message
    assert "\n" not in message
    assert not (root / FOLDER).exists()


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OptionError, match=r"root=.*file/below: cannot be written"):
        cifar(tmp_path / "file" / "below")


def test_an_archive_without_the_files_is_named(tmp_path):
    root = tmp_path / "other"
    root.mkdir()
    with tarfile.open(root / ARCHIVE, "w:gz") as tar:
        tar.add(__file__, "readme")
    with pytest.raises(UserError, match=rf"{root / ARCHIVE} cannot be unpacked .*data_batch_1"):
        cifar(root, verify=False)
    (root / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(UserError, match=rf"{root / ARCHIVE} cannot be unpacked"):
        cifar(root, verify=False)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_archive_members_that_are_not_files_are_refused(tmp_path, kind):
    root = tmp_path / "links"
    root.mkdir()
    with tarfile.open(root / ARCHIVE, "w:gz") as tar:
        member = tarfile.TarInfo(f"{FOLDER}/data_batch_1")
        member.type, member.linkname = kind, "data_batch_1"  # a link to itself
        tar.addfile(member)
    with pytest.raises(
        UserError, match=r"cannot be unpacked \(.*data_batch_1 in it is not a regular file"
    ):
        cifar(root, verify=False)
    assert not left_over(root)


@pytest.mark.parametrize("place", [30, 20_000])
def test_an_archive_whose_compression_is_damaged_is_named(tmp_path, release, place):
    root = tmp_path / "damaged"
    root.mkdir()
    content = release.read_bytes()
    (root / ARCHIVE).write_bytes(content[:place] + bytes([255]) * 400 + content[place + 400 :])
    with pytest.raises(UserError, match=rf"{root / ARCHIVE} cannot be unpacked .*; delete it and try"):
        cifar(root, verify=False)


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_of_several_processes_one_downloads(tmp_path, server):
    root = tmp_path / "shared"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=cifar, args=(root,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert server.requests == [f"/{ARCHIVE}"]


def test_files_without_an_archive_are_downloaded_one_by_one(tmp_path, svhn_release, server):
    root = tmp_path / "svhn"
    data = Svhn(str(root), 16, validation=0)
    data.prepare()
    (root / "extra_32x32.mat").write_bytes(b"half")
    data = Svhn(str(root), 16, validation=0)
    data.prepare()
    assert data.sizes == {"train": 80, "validation": 0, "test": 20}
    assert server.requests == [f"/{split}_32x32.mat" for split in ("train", "extra", "test", "extra")]
