"""Folders of small random images, and the data set made of one."""

import os

import numpy as np
import pytest
from PIL import Image

from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.options import OptionError


def write(path, colour=0, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(colour).randint(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def fill(root, images, classes=("ant", "bee", "cat"), splits=("train", "test")):
    """`images` pictures for each class and split; split "" stands for no split folder."""
    number = 0
    for split in splits:
        for name in classes:
            for place in range(images):
                number += 1
                write(root / split / name / f"{place}.png", number, (20 + number % 7, 18))
    return root


def folder(root, **options):
    data = ImageFolder(str(root), **{"batch_size": 8, "image_size": 16, "num_workers": 0, **options})
    data.prepare()
    return data


def names(split):
    return [os.path.join(*split.source.name(i).split(os.sep)[-3:]) for i in range(len(split))]


def assert_refused(root, rule):
    with pytest.raises(OptionError, match=rule) as caught:
        folder(root)
    assert caught.value.key == "root"
