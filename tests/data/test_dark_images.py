"""16-bit images whose values are of fewer bits, as X-rays of 12 bits."""

import re

import numpy as np
import pytest
from image_folders import write
from image_tables import read, write_table
from PIL import Image

from densenet_cli.data.image_folder import ImageFolder


def _images(folder, largest, ending="png"):
    rows = []
    for index in range(8):
        pixels = np.roll(np.linspace(0, largest, 400), index).reshape(20, 20).astype(np.uint16)
        Image.fromarray(pixels).save(folder / f"{index}.{ending}")
        rows.append([f"{index}.{ending}", "ab"[index % 2], "train" if index < 4 else "test"])
    return write_table(folder / "t.csv", ("image", "label", "split"), rows)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_images_of_12_bits_are_named_and_what_makes_them_bright(tmp_path, caplog, ending):
    read(_images(tmp_path, 4095, ending), channels=1, check="quick")
    (text,) = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert "4 images of 16 bits in a sample of 4 are dark: no value is above 4,095" in text
    assert re.search(rf"/[0-3]\.{ending}, and white is 65,535. If they hold 12 bits", text)
    factor = float(re.search(r"multiply (\S+) ", text)[1])
    assert round(4095 * factor) == 65535


def test_nothing_is_said_of_images_that_use_16_bits_or_8(tmp_path, caplog):
    read(_images(tmp_path, 40_000), channels=1, check="full")
    for index in range(4):
        for name in "ab":
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            write(tmp_path / "photos" / name / f"{index}.png", index)
    options = {"batch_size": 2, "image_size": 16, "num_workers": 0}
    ImageFolder(str(tmp_path / "photos"), **options).prepare()
    assert "dark" not in caplog.text


def test_a_pack_is_made_of_them_with_the_same_warning(tmp_path, caplog):
    options = {"pack": str(tmp_path / "p.pack"), "pack_size": 16}
    read(_images(tmp_path, 1000), channels=1, check="quick", **options)
    assert caplog.text.count("are dark: no value is above 1,000") == 1
    assert "10 bits" in caplog.text
