import numpy as np
import pytest
import scipy.io
import torch

from densenet_cli.data.svhn import Svhn
from densenet_cli.options import OptionError, UserError


def svhn(root, **options):
    data = Svhn(str(root), 16, **{"validation": 0, "download": False, **options})
    data.prepare()
    return data


def test_training_images_come_before_the_extra_ones(svhn_release):
    data = svhn(svhn_release)
    assert data.sizes == {"train": 80, "validation": 0, "test": 20}
    assert (data.num_classes, data.image_size) == (10, (32, 32))
    images, _ = data._contents.train[np.array([(row, 0) for row in range(80)])]
    assert images[:, 0, 0, 0].tolist() == [1] * 30 + [2] * 50
    assert images[:, 0, 0, 1].tolist() == [*range(30), *range(50)]
    assert (images[:, 2, 5, 2] == 77).all()  # row, column: not turned round


def test_label_ten_is_the_digit_zero(svhn_release):
    data = svhn(svhn_release)
    _, labels = data._contents.test[np.array([(row, 0) for row in range(20)])]
    assert labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    assert data.class_names[0] == "0"


def test_without_extra_images_their_file_is_not_needed(svhn_release):
    (svhn_release / "extra_32x32.mat").unlink()
    assert svhn(svhn_release, extra=False).sizes["train"] == 30
    with pytest.raises(OptionError, match=r"root=.*extra_32x32\.mat is missing"):
        svhn(svhn_release)


def test_the_papers_settings_are_the_defaults(svhn_release):
    data = Svhn(str(svhn_release), 16)
    assert (data.validation, data.normalise, data.augment, data.extra) == (6000, "scale", False, True)
    with pytest.raises(OptionError, match="validation=6000: must leave at least one of the 80"):
        data.prepare()


def test_images_are_only_divided_by_255(svhn_release):
    data = svhn(svhn_release, validation=8)
    assert data.sizes == {"train": 72, "validation": 8, "test": 20}
    raw, _ = data._contents.test[np.array([(row, 0) for row in range(16)])]
    batch = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    torch.testing.assert_close(batch[0], raw.permute(0, 3, 1, 2) / 255)


def test_digits_are_shifted_but_not_mirrored(svhn_release):
    rising = torch.ones(200, 32, 32, 3).cumsum(2).byte()
    draws = torch.randint(2**63 - 1, (200,), generator=torch.Generator().manual_seed(0))
    changed = svhn(svhn_release).augmented(rising, draws)
    assert (changed[:, 16, 20, 0] > changed[:, 16, 10, 0]).all()
    assert len(set(changed[:, 16, 16, 0].tolist())) == 9


@pytest.mark.parametrize("keep", [0, 50, 1000])
def test_a_truncated_file_is_refused(svhn_release, keep):
    path = svhn_release / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        svhn(svhn_release, verify=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Y": np.zeros(3)}, "X is not 32 x 32 x 3 x n"),
        ({"X": np.zeros((3, 32, 32, 5), np.uint8)}, "X is not 32 x 32 x 3 x n"),
        ({"X": np.zeros((32, 32, 3, 5), np.uint8)}, "'y'"),
        ({"X": np.zeros((32, 32, 3, 5)), "y": np.ones((5, 1))}, "X is not of type uint8"),
        ({"X": np.zeros((32, 32, 3, 5), np.uint8), "y": np.ones((4, 1))}, "one label per image"),
        ({"X": np.zeros((32, 32, 3, 5), np.uint8), "y": np.full((5, 1), 11)}, "from 1 to 10"),
    ],
)
def test_a_file_with_other_content_is_refused(svhn_release, content, message):
    path = svhn_release / "test_32x32.mat"
    scipy.io.savemat(path, content)
    with pytest.raises(UserError, match=rf"{path} cannot be read \(.*{message}"):
        svhn(svhn_release, verify=False)
