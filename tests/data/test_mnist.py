"""MNIST and Fashion-MNIST: made files in the published format, and the published facts."""

import gzip
import struct

import numpy as np
import pytest
import torch
from idx_files import write_idx

from densenet_cli.data.mnist import FashionMnist, Mnist
from densenet_cli.options import OptionError, UserError


def mnist(root, make=Mnist, **options):
    data = make(str(root), 16, **options)
    data.prepare()
    return data


def test_files_are_downloaded_to_the_folders_of_torchvision(mnist_release, server, tmp_path):
    for make in (Mnist, FashionMnist):
        data = mnist(tmp_path / "root", make)
        raw = tmp_path / "root" / make.release.__name__ / "raw"
        assert len(list(raw.glob("*.gz"))) == 4
        assert data.sizes == {"train": 60, "validation": 0, "test": 20}
        assert (data.num_classes, data.image_size, data.channels) == (10, (28, 28), 1)
    assert len(server.requests) == 8
    again = make.release(str(tmp_path / "root"), download=True)  # torchvision's own class
    assert len(server.requests) == 8
    images, labels = data.some_test_images(20)
    test = make.release(str(tmp_path / "root"), train=False)
    assert torch.equal(images[..., 0], test.data)
    assert torch.equal(labels, test.targets)
    assert len(again) == 60


def test_the_published_files_are_those_of_their_publishers():
    # https://github.com/zalandoresearch/fashion-mnist, README; torchvision/datasets/mnist.py
    found = {file.path: file for file in FashionMnist("x").published_set().files}
    server = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    for name, md5 in {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }.items():
        file = found.pop(f"FashionMNIST/raw/{name}")
        assert (file.md5, file.url) == (md5, f"{server}/{name}")
    assert not found
    files = Mnist("x").published_set().files
    assert [file.md5 for file in files] == [
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ]
    assert files[0].path == "MNIST/raw/train-images-idx3-ubyte.gz"
    assert files[0].url.endswith("/mnist/train-images-idx3-ubyte.gz")


def test_a_margin_of_background_makes_images_of_32_pixels(mnist_release, tmp_path):
    plain, framed = (mnist(tmp_path / "root", image_size=size) for size in (28, 32))
    assert framed.image_size == (32, 32)
    images, with_border = plain.some_test_images(5)[0], framed.some_test_images(5)[0]
    assert torch.equal(with_border[:, 2:30, 2:30], images)
    assert with_border.sum() == images.sum()
    with pytest.raises(OptionError, match="image_size=30: must be one of 28, 32"):
        Mnist("x", image_size=30)


def test_batches_have_one_channel_of_mean_zero(mnist_release, tmp_path):
    data = mnist(tmp_path / "root", augment=False)
    batches = [data.complete(batch) for batch in data.train_dataloader()]
    images = torch.cat([images for images, _ in batches])
    assert images.shape == (60, 1, 28, 28)
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("make", "places", "mirrored"), [(Mnist, 5, False), (FashionMnist, 9, True)])
def test_digits_are_shifted_and_clothes_are_mirrored_too(
    mnist_release, tmp_path, make, places, mirrored
):
    rising = torch.arange(28, dtype=torch.uint8).expand(300, 28, 28)[..., None]
    draws = torch.randint(2**63 - 1, (300,), generator=torch.Generator().manual_seed(0))
    changed = mnist(tmp_path / "root", make, normalise="scale").augmented(rising, draws)
    assert changed.shape == (300, 28, 28, 1)
    falls = changed[:, 14, 16, 0] < changed[:, 14, 10, 0]
    assert falls.any().item() == mirrored
    assert len(set(changed[~falls, 14, 14, 0].tolist())) == places


@pytest.mark.parametrize("keep", [0, 9, 17, 40, 300])
def test_a_truncated_file_is_refused(mnist_release, tmp_path, keep):
    mnist(tmp_path)
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{path} cannot be read \(.+\); download the file again"):
        mnist(tmp_path, verify=False)
    assert mnist(tmp_path).sizes["test"] == 20  # verified, and downloaded again


def idx(values, *sizes, kind=8):
    return bytes([0, 0, kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(bytes(20), 20), "no IDX file of bytes in 3 dimensions"),
        (idx(bytes(4 * 28 * 28), 4, 28, 28, kind=13), "no IDX file of bytes in 3 dimensions"),
        (idx(bytes(20 * 27 * 28), 20, 27, 28), r"its sizes are \[20, 27, 28\], not"),
        (idx(b"", 0, 28, 28), r"its sizes are \[0, 28, 28\], not"),
        (idx(bytes(20 * 28 * 28 - 1), 20, 28, 28), "less than the 15,680 bytes"),
        (idx(bytes(20 * 28 * 28 + 1), 20, 28, 28), "more than the 15,680 bytes"),
        (idx(bytes(100), 2**32 - 1, 28, 28), "less than the 3,367,254,359,280 bytes"),
        (idx(b"", 20, 28, 28)[:10], "unpack requires a buffer of 12 bytes"),
    ],
)
def test_a_file_with_other_content_is_refused(mnist_release, tmp_path, content, message):
    mnist(tmp_path)
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=rf"{path} cannot be read \(.*{message}"):
        mnist(tmp_path, verify=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(19, np.uint8), "19 labels for 20 images"),
        (np.full(20, 10, np.uint8), "labels must be from 0 to 9"),
    ],
)
def test_labels_that_do_not_fit_are_refused(mnist_release, tmp_path, labels, message):
    mnist(tmp_path)
    path = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte.gz"
    write_idx(path, labels)
    with pytest.raises(UserError, match=rf"{path} cannot be read \(.*{message}"):
        mnist(tmp_path, verify=False)
