"""The digest that identifies the images of a data set."""

import os
import re
import shutil
from pathlib import Path

import pytest

from densenet_cli.data.cifar import Cifar10
from densenet_cli.data.digits import Digits
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.svhn import Svhn
from densenet_cli.options import OptionError


def folder(root):
    return ImageFolder(str(root), batch_size=4, image_size=8, check=False)


@pytest.fixture
def photos():
    """Files with the names of images, which the digest does not open."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                path = Path("photos", part, name, "more" if number else "", f"{number}.jpg")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(10 + number))
    return folder("photos").digest()


def test_the_digest_of_a_folder_does_not_depend_on_its_location(photos, tmp_path, monkeypatch):
    assert re.fullmatch("[0-9a-f]{12}", photos)
    shutil.copytree("photos", tmp_path / "elsewhere/p")
    for path in Path("elsewhere").rglob("*.jpg"):
        os.utime(path, (1, 1))
    assert folder("elsewhere/p").digest() == folder(tmp_path / "elsewhere/p").digest() == photos
    monkeypatch.chdir("photos")
    assert folder(".").digest() == photos


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "train/cat/0.jpg").rename(root / "train/cat/9.jpg"),
        lambda root: (root / "train/cat/0.jpg").rename(root / "train/dog/9.jpg"),
        lambda root: (root / "train/cat/0.jpg").rename(root / "test/cat/9.jpg"),
        lambda root: (root / "train/cat/0.jpg").write_bytes(b""),
        lambda root: (root / "train/cat/0.jpg").unlink(),
        lambda root: [(root / part / "cat").rename(root / part / "puma") for part in ("train", "test")],
        lambda root: (root / "train").rename(root / "val"),
    ],
    ids=["name", "class", "split", "size", "fewer", "name of a class", "name of a split"],
)
def test_another_folder_has_another_digest(photos, change):
    if change(Path("photos")) == Path("photos/val"):
        Path("photos/test").rename("photos/train")
    assert folder("photos").digest() != photos


def test_seed_and_augmentation_do_not_change_the_digest(photos):
    options = {"batch_size": 9, "image_size": 8, "seed": 5, "augment": False, "validation": 2}
    assert ImageFolder("photos", **options, check=False).digest() == photos


def test_official_files_have_a_digest_without_being_read(cifar_release, cifar_root):
    known = Cifar10(str(cifar_root / "nowhere"), batch_size=4).digest()
    assert Cifar10(str(cifar_root), batch_size=4, verify=False).digest() == known
    batch = cifar_root / "cifar-10-batches-py/data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1] + b"!")
    assert Cifar10(str(cifar_root), batch_size=4, verify=False).digest() != known
    with pytest.raises(OptionError, match="data_batch_1 is missing"):
        Cifar10(str(cifar_root / "nowhere"), batch_size=4, verify=False).digest()


def test_the_extra_images_of_svhn_count(svhn_release):
    root = str(svhn_release)
    known = [Svhn(root, batch_size=4, extra=extra).digest() for extra in (True, False)]
    assert known[0] != known[1]
    assert Svhn(root, batch_size=4, extra=False, verify=False).digest() == known[1]


def test_digits_have_a_digest():
    assert re.fullmatch("[0-9a-f]{12}", Digits(batch_size=4).digest())
