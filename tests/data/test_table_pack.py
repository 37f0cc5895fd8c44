"""Packs of the images that a table names."""

import numpy as np
import pytest
import torch
from image_tables import nih, read, simple
from training_batches import training_batches

from densenet_cli.data.pack import Pack
from densenet_cli.options import OptionError

RAW = {"pack_size": None, "pack_quality": "raw"}


def batches(data):
    """All batches of an epoch of training, and of the test: images, labels, draws."""
    return [*training_batches(data, 1), *data.test_dataloader()]


def test_several_labels_and_patients_are_as_without_a_pack(tmp_path):
    table, file = nih(tmp_path / "nih"), tmp_path / "a.pack"
    options = {"labels": "multi", "validation": 6}
    expected = batches(read(table, **options))
    for _ in range(2):  # made, then found
        data = read(table, pack=str(file), **RAW, **options)
        found = batches(data)
        assert len(found) == len(expected) > 2
        for one, other in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert len(Pack(file)) == 30


def test_a_pack_holds_no_labels_of_a_table(tmp_path):
    rows = [(f"{number}.png", "ab"[number % 2]) for number in range(8)]
    table, file = simple(tmp_path, rows), tmp_path / "a.pack"
    read(table, pack=str(file))
    simple(tmp_path, [(name, {"a": "b", "b": "c"}[label]) for name, label in reversed(rows)])
    data = read(table, pack=str(file))
    assert data.class_names == ["b", "c"]
    simple(tmp_path, rows[1:])
    with pytest.raises(OptionError, match=r"0\.png is missing"):
        read(table, pack=str(file))
    assert not (file / "labels.npy").exists()
    assert np.all(np.load(file / "index.npy")["length"] > 0)
