"""Tables on which a trained network is to be tested: labels by its classes, whatever the columns."""

import math

import pytest
from image_tables import ham, nih, simple

from densenet_cli.data.table_for_network import files_to_test
from densenet_cli.options import OptionError

TRAINED = {"label_column": "kind", "uncertain": "refuse", "batch_size": 8}


def labels(path, names, several=False, trained=TRAINED):
    files = files_to_test(path, None, trained, names, several)
    return dict(
        zip([one.rpartition("/")[2] for one in files.paths], files.labels.tolist(), strict=True)
    )


def test_classes_have_the_numbers_of_the_network(tmp_path):
    found = labels(ham(tmp_path, lesions=4), ["akiec", "bkl", "mel", "nv"], trained={})
    assert list(found.values()) == [3, 3, 2, 2, 3, 3, 1, 1]
    with pytest.raises(OptionError, match="does not know: nv; it knows bkl, mel"):
        labels(tmp_path / "HAM10000_metadata.csv", ["bkl", "mel"])


def test_the_column_is_that_of_training_if_the_table_has_it(tmp_path):
    rows = [["a.png", "x", "y"], ["b.png", "x", "z"]]
    path = simple(tmp_path, rows, ("image", "label", "kind"))
    assert labels(path, ["y", "z"]) == {"a.png": 0, "b.png": 1}


@pytest.mark.parametrize("split", ["test", "val"])
def test_test_images_alone(tmp_path, split):
    rows = [[f"{i}.png", "ab"[i % 2], ("train", split)[i // 2]] for i in range(4)]
    path = simple(tmp_path, rows, ("image", "label", "split"))
    assert set(labels(path, ["a", "b"])) == {"2.png", "3.png"}
    alone = simple(tmp_path, rows[2:], ("image", "label", "split"))
    assert set(labels(alone, ["a", "b"])) == {"2.png", "3.png"}


def test_several_labels_in_one_column_or_many(tmp_path):
    names = ["Edema", "Hernia", "Mass"]
    found = labels(nih(tmp_path / "nih"), names, several=True, trained={"no_label": "No Finding"})
    assert found["00000001_000.png"] == [1, 0, 0]
    rows = [["a.png", "1.0", "-1.0", "7"], ["b.png", "", "0.0", "8"]]
    path = simple(tmp_path, rows, ("image", "Mass", "Edema", "age"))
    found = labels(path, names, several=True)
    assert all(map(math.isnan, (found["a.png"][0], found["b.png"][2], found["a.png"][1])))
    assert (found["a.png"][2], found["b.png"][0]) == (1, 0)
    found = labels(path, names, several=True, trained={"uncertain": "positive", "missing": "negative"})
    assert (found["a.png"][0], found["b.png"][2]) == (1, 0)
