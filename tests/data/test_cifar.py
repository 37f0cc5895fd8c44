import logging
import os
import pickle

import numpy as np
import pytest
import torch

from densenet_cli.data.cifar import Cifar10, Cifar100, read_pickle
from densenet_cli.options import OptionError, UserError


def cifar(root, **options):
    data = Cifar10(str(root), 16, **{"download": False, "verify": False, **options})
    data.prepare()
    return data


def rewrite(root, name, **changes):
    path = root / "cifar-10-batches-py" / name
    content = {**pickle.loads(path.read_bytes()), **changes}
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


def test_images_and_labels_are_read_in_the_order_of_the_files(cifar_root):
    data = cifar(cifar_root, augment=False, normalise="scale")
    assert data.class_names == [f"class{label}" for label in range(10)]
    assert (data.name, data.num_classes, data.image_size) == ("cifar10", 10, (32, 32))
    assert data.sizes == {"train": 100, "validation": 0, "test": 10}
    second = pickle.loads((cifar_root / "cifar-10-batches-py" / "data_batch_2").read_bytes())
    images, labels = data._contents.train[np.array([(20, 0), (23, 0)])]
    assert torch.equal(
        images[0].permute(2, 0, 1), torch.from_numpy(second["data"][0].reshape(3, 32, 32))
    )
    assert torch.equal(
        images[1].permute(2, 0, 1), torch.from_numpy(second["data"][3].reshape(3, 32, 32))
    )
    assert labels.tolist() == [0, 3]


def test_cifar100_uses_the_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, images in (("train", 200), ("test", 100)):
        content = {
            "data": np.zeros((images, 3072), np.uint8),
            "fine_labels": [row % 100 for row in range(images)],
            "coarse_labels": [0] * images,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": [f"fine{label}" for label in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names))
    data = Cifar100(str(tmp_path), 16, download=False, verify=False)
    data.prepare()
    assert data.num_classes == 100
    assert [data._contents.test[np.array([[row, 0]])][1].item() for row in (0, 57, 99)] == [0, 57, 99]


def test_images_are_flipped_and_shifted(cifar_root):
    data = cifar(cifar_root)
    mirrored = torch.ones(4, 32, 32, 3).cumsum(2).byte()
    changed = data.augmented(mirrored, torch.tensor([0, 1, 2, 3]))
    rising = [bool(image[10, 20, 0] > image[10, 10, 0]) for image in changed]
    assert rising == [True, False, True, False]


@pytest.mark.parametrize(("protocol", "form"), [(2, list), (3, np.array), (5, np.array)])
def test_files_of_other_pickle_protocols_can_be_read(cifar_root, protocol, form):
    path = cifar_root / "cifar-10-batches-py" / "test_batch"
    content = pickle.loads(path.read_bytes())
    content["labels"] = form(content["labels"])
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert cifar(cifar_root)._contents.test[np.array([[7, 0]])][1].item() == 7


class Thief:
    def __reduce__(self):
        return os.mkdir, ("stolen",)


def test_a_file_that_would_run_code_is_refused(cifar_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = rewrite(cifar_root, "data_batch_3", data=Thief())
    with pytest.raises(UserError, match=rf"{path} cannot be read .*mkdir, which is not data"):
        cifar(cifar_root)
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 40_000])
def test_a_truncated_file_is_refused(cifar_root, keep):
    path = cifar_root / "cifar-10-batches-py" / "data_batch_4"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        cifar(cifar_root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "`data` must have rows of 3,072 bytes"),
        ({"data": np.zeros((20, 3072))}, "`data` must have rows of 3,072 bytes"),
        ({"data": np.zeros((20, 3071), np.uint8)}, "`data` must have rows of 3,072 bytes"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "`data` must have rows"),
        ({"labels": [0] * 19}, "`labels` must have one whole number per image"),
        ({"labels": ["cat"] * 20}, "`labels` must have one whole number per image"),
        ({"labels": [10] * 20}, "labels must be from 0 to 9"),
        ({"labels": [-1] * 20}, "labels must be from 0 to 9"),
    ],
)
def test_a_file_with_other_content_is_refused(cifar_root, changes, message):
    path = rewrite(cifar_root, "data_batch_2", **changes)
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        cifar(cifar_root)


def test_there_must_be_ten_class_names(cifar_root):
    path = rewrite(cifar_root, "batches.meta", label_names=["cat", "dog"])
    with pytest.raises(UserError, match=f"{path} does not name the 10 classes"):
        cifar(cifar_root)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="must contain a dictionary"):
        read_pickle(path)


def test_one_warning_about_colours_unlike_the_published_ones(cifar_root, caplog):
    for name in [f"data_batch_{part}" for part in range(1, 6)]:
        rewrite(cifar_root, name, data=np.full((20, 3072), 250, np.uint8))
    with caplog.at_level(logging.WARNING):
        cifar(cifar_root)
    (mean, std) = [record.getMessage() for record in caplog.records]
    assert "mean of the training images is [0.9804, 0.9804, 0.9804]" in mean
    assert "published data set has [0.4914, 0.4822, 0.4465]" in mean
    assert "std" in std
    caplog.clear()
    cifar(cifar_root, normalise="scale")
    assert not caplog.records


def test_no_warning_about_colours_near_the_published_ones(cifar_root, caplog):
    with caplog.at_level(logging.WARNING):
        cifar(cifar_root)  # random bytes: mean .5, std .29; 100 images allow .1
    assert not caplog.records


@pytest.mark.parametrize("root", [None, "", "  ", 3])
def test_a_root_that_is_no_folder_is_refused(root):
    with pytest.raises(OptionError, match=r"root=.*must be a folder; for example root="):
        Cifar10(root, 16)


@pytest.mark.parametrize("key", ["download", "verify"])
def test_switches_are_checked(key, tmp_path):
    with pytest.raises(OptionError, match=f"{key}=maybe: must be true or false"):
        Cifar10(str(tmp_path), 16, **{key: "maybe"})


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch, cifar_root):
    monkeypatch.setenv("HOME", str(cifar_root.parent))
    assert cifar("~/root").sizes["train"] == 100
