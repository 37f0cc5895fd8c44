"""Tables as they are published: which images, labels and splits they give."""

import gzip
import math

import pytest
import torch
from image_folders import write
from image_tables import chexpert, ham, nih, read, simple, split_of, table, write_table

from densenet_cli.options import OptionError

pytestmark = pytest.mark.usefixtures("cache")


def patients(data, split):
    return {name.partition("_")[0] for name in split_of(data, split)}


def test_chest_x_rays_of_the_nih(tmp_path):
    path = nih(tmp_path)
    data = read(path, labels="multi", test_table=str(tmp_path / "test_list.txt"), validation=6)
    assert data.class_names == ["Edema", "Mass"]  # No Finding is no label
    assert data.sizes == {"train": 18, "validation": 6, "test": 6}
    assert patients(data, "test") == {"00000005", "00000010"}
    assert not patients(data, "train") & patients(data, "validation")
    test = split_of(data, "test")
    assert [test[f"00000005_00{place}"] for place in range(3)] == [[0, 0], [1, 0], [1, 1]]
    assert data.several_labels
    images, labels = next(iter(data.test_dataloader()))
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.float32)


def test_chest_x_rays_of_stanford(tmp_path):
    path = chexpert(tmp_path)
    valid = str(tmp_path / "valid.csv")
    data = read(path, labels="multi", uncertain="ignore", missing="negative", test_table=valid)
    assert data.class_names == ["No Finding", "Edema", "Fracture"]
    assert data.sizes == {"train": 16, "validation": 0, "test": 16}
    labels = data._contents.train.labels
    nan = math.nan
    expected = torch.tensor([[1, 0, 0], [0, nan, 1], [0, 1, 0], [1, 0, 0]])
    torch.testing.assert_close(labels[:4], expected, equal_nan=True)
    positive = read(path, labels="multi", uncertain="positive", missing="ignore", test_table=valid)
    expected = torch.tensor([[1, nan, nan], [nan, 1, 1], [0, 1, nan], [1, 0, nan]])
    torch.testing.assert_close(positive._contents.train.labels[:4], expected, equal_nan=True)
    two = read(path, labels="multi", label_column=["Edema", "No Finding"], uncertain="negative",
               missing="negative", validation=4)  # fmt: skip
    assert two.class_names == ["Edema", "No Finding"]
    folders = {
        split: {getattr(two._contents, split).source.name(i).split("/")[-3] for i in range(size)}
        for split, size in two.sizes.items()
    }
    assert two.sizes["validation"] == 4
    assert not folders["train"] & folders["validation"] | folders["train"] & folders["test"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            {},
            r"uncertain=refuse: 4 of 48 labels are uncertain \(-1\), in row 3, row 7, .* \(Edema\): "
            "type data.uncertain=negative, positive or ignore",
        ),
        (
            {"uncertain": "ignore"},
            r"missing=refuse: 20 of 48 labels are missing, in row 2, .* and 11 more \(No Finding, "
            r"Edema, Fracture\): type data.missing=negative or ignore",
        ),
    ],
)
def test_uncertain_and_missing_labels_are_refused_until_it_is_said_what_they_mean(
    tmp_path, typed, message
):
    with pytest.raises(OptionError, match=message):
        read(chexpert(tmp_path), labels="multi", **typed)


def test_skin_lesions(tmp_path):
    path = ham(tmp_path / "table")
    data = read(path, images=str(tmp_path / "table"), validation=4, test_fraction=0.25)
    assert data.class_names == ["bkl", "mel", "nv"]
    assert data.sizes == {"train": 14, "validation": 4, "test": 6}
    lesions = {
        split: {(int(name.removeprefix("ISIC_")) - 24306) // 2 for name in split_of(data, split)}
        for split in data.sizes
    }
    assert sum(map(len, lesions.values())) == 12 == len(set.union(*lesions.values()))


def test_several_columns_of_one_class_each(tmp_path):
    rows = [[f"ISIC_{i}.png", *(float(i % 3 == k) for k in range(3))] for i in range(12)]
    path = simple(tmp_path, rows, ("image", "MEL", "NV", "BCC"))
    data = read(path)
    assert data.class_names == ["MEL", "NV", "BCC"]
    assert split_of(data, "train")["ISIC_4"] == 1
    rows[4][1:] = [1.0, 1.0, 0.0]
    with pytest.raises(
        OptionError, match=r"1 of 12 rows differ: row 6; several labels: data.labels=multi"
    ):
        read(simple(tmp_path, rows, ("image", "MEL", "NV", "BCC")))


def test_numbers_are_class_names_in_the_order_of_their_values(tmp_path):
    rows = [[f"{i:x}9a.png", i % 11] for i in range(33)]
    path = simple(tmp_path / "train_images", rows, ("id_code", "diagnosis"), "../train.csv")
    data = read(path, images=str(tmp_path / "train_images"))
    assert data.class_names == [str(number) for number in range(11)]
    names = [[row[0].removesuffix(".png"), row[1]] for row in rows]  # as APTOS has them
    write_table(path, ("id_code", "diagnosis"), names)
    assert read(path, images=str(tmp_path / "train_images")).class_names == data.class_names


def test_whole_numbers_and_fractions_of_zero_are_the_same_classes(tmp_path):
    rows = [[f"{i}.png", ["1.0", "1", "0", "0.0"][i % 4]] for i in range(8)]
    data = read(simple(tmp_path, rows))
    assert data.class_names == ["0", "1"]
    write_table(tmp_path / "labels.csv", ("image", "label"), [*rows[:-1], [rows[-1][0], "0.5"]])
    assert read(tmp_path / "labels.csv").class_names == ["0", "0.0", "0.5", "1", "1.0"]


def test_classes_that_differ_in_capitals_are_named(tmp_path, caplog):
    rows = [[f"{i}.png", ["True", "FALSE", "False"][i % 3]] for i in range(9)]
    assert read(simple(tmp_path, rows)).class_names == ["FALSE", "False", "True"]
    assert "label: FALSE and False differ only in capitals" in caplog.text


SPLITS = ["training", "Val", "test", "train", "valid", "testing"]


def test_the_split_of_a_table_counts(tmp_path):
    rows = [[f"{i}.png", "ab"[i % 2], SPLITS[i // 2 % 6]] for i in range(24)]
    path = simple(tmp_path, rows, ("file", "label", "partition"))
    assert table(path).has_validation_images
    data = read(path)
    assert data.sizes == {"train": 8, "validation": 8, "test": 8}
    assert set(split_of(data, "validation")) == {"2", "3", "8", "9", "14", "15", "20", "21"}
    with pytest.raises(OptionError, match="validation=4: must be 0: the table says"):
        read(path, validation=4)
    plain = read(path, split_column=None, test_fraction=0.5)
    assert plain.sizes == {"train": 12, "validation": 0, "test": 12}


def test_validation_images_are_the_test_images_if_there_are_no_others(tmp_path):
    rows = [[f"{i}.png", "ab"[i % 2], ("train", "val")[i // 4 % 2]] for i in range(16)]
    path = simple(tmp_path, rows, ("file", "label", "split"))
    assert not table(path).has_validation_images
    data = read(path, validation=2)
    assert data.sizes == {"train": 6, "validation": 2, "test": 8}
    assert set(split_of(data, "test")) == {"4", "5", "6", "7", "12", "13", "14", "15"}


def test_a_split_that_breaks_a_group_is_refused(tmp_path):
    rows = [[f"{i}.png", "ab"[i % 2], f"p{i // 4}", ("train", "test")[i // 6 % 2]] for i in range(24)]
    path = simple(tmp_path, rows, ("file", "label", "patient_id", "split"))
    message = (
        r"group_column=patient_id: 2 of 6 groups stand in several splits: p1 \(test, train\), "
        r"p4 \(test, train\); .* for example group_column=null"
    )
    with pytest.raises(OptionError, match=message):
        read(path)
    assert read(path, group_column=None).sizes["test"] == 12


def test_a_pattern_finds_the_group_in_the_names(tmp_path):
    rows = [[f"{i // 2}_{('left', 'right')[i % 2]}.png", i // 2 % 2] for i in range(40)]
    path = simple(tmp_path, rows, ("image", "level"))
    data = read(path, group_pattern=r"^\d+", validation=8)
    eyes = [patients(data, split) for split in ("train", "validation", "test")]
    assert list(map(len, eyes)) == [12, 4, 4]
    assert len(set.union(*eyes)) == 20
    with pytest.raises(OptionError, match=r"group_pattern=\[: is not a regular expression"):
        read(path, group_pattern="[")
    with pytest.raises(OptionError, match=r"group_pattern=x: is not found in 40 of 40 rows: row 2, "):
        read(path, group_pattern="x")


def test_images_without_a_group_stand_for_themselves(tmp_path):
    rows = [[f"{i}.png", "ab"[i % 2], "" if i < 30 else "p"] for i in range(40)]
    data = read(simple(tmp_path, rows, ("file", "label", "patient")))
    assert data.sizes["test"] == 8


def test_the_same_table_in_every_form(tmp_path):
    rows = [[f"ü {i}.png", f"{'ab'[i % 2]}, {i % 2}", i // 2] for i in range(12)]
    columns = ("image", "label", "patient id")
    path = simple(tmp_path, rows, columns)
    digest = table(path).digest()
    text = path.read_text()
    (tmp_path / "bom.csv").write_text(text, "utf-8-sig")
    write_table(tmp_path / "excel.csv", columns, rows, ";")
    write_table(tmp_path / "tabs.tsv", columns, rows[::-1], "\t")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(text.encode()))
    _write_parquet(tmp_path / "labels.parquet", columns, rows)
    for name in ("bom.csv", "excel.csv", "tabs.tsv", "packed.csv.gz", "labels.parquet"):
        assert table(tmp_path / name).digest() == digest, name
    rows[3][1] = "b, 2"
    assert table(write_table(path, columns, rows)).digest() != digest


def _write_parquet(path, columns, rows):
    import pyarrow
    from pyarrow import parquet

    cells = dict(zip(columns, zip(*rows, strict=True), strict=True))
    arrays = {name: pyarrow.array(values) for name, values in cells.items()}
    arrays["pixels"] = pyarrow.array([b"\x89PNG"] * len(rows))
    parquet.write_table(pyarrow.table(arrays), path)


def test_lists_and_truth_values_in_parquet(tmp_path):
    names = [f"{i}.png" for i in range(8)]
    for number, name in enumerate(names):
        write(tmp_path / name, number)
    tags = [["a", "b"], ["a"], ["b"], []] * 2
    _write_parquet(tmp_path / "lists.parquet", ("image", "tags"), list(zip(names, tags, strict=True)))
    data = read(tmp_path / "lists.parquet", labels="multi", missing="negative", test_fraction=0.5)
    assert sorted(split_of(data, "train").values()) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    flags = [(name, i % 2 == 0, i % 4 < 2, None) for i, name in enumerate(names)]
    _write_parquet(tmp_path / "flags.parquet", ("image", "x", "y", "z"), flags)
    data = read(tmp_path / "flags.parquet", labels="multi", test_fraction=0.5)
    assert data.class_names == ["x", "y"]


def test_a_folder_may_move_and_its_files_must_not_change(tmp_path):
    path = nih(tmp_path / "a")
    digest = table(path, labels="multi").digest()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = tmp_path / "b" / path.name
    assert table(moved, labels="multi").digest() == digest
    write(tmp_path / "b" / "images_002" / "images" / "00000001_000.png", 99, (40, 40))
    assert table(moved, labels="multi").digest() != digest
    assert table(moved).digest() != digest


def test_windows_paths_and_paths_beside_the_table(tmp_path):
    rows = [[f"photos\\x\\{i}.png", "ab"[i % 2]] for i in range(10)]
    for i in range(10):
        write(tmp_path / "photos" / "x" / f"{i}.png", i)
    path = write_table(tmp_path / "tables" / "t.csv", ("path", "label"), rows)
    assert read(path, images=str(tmp_path)).sizes["train"] == 8
    beside = [[f"../photos/x/{i}.png", "ab"[i % 2]] for i in range(10)]
    assert read(write_table(path, ("path", "label"), beside)).sizes["train"] == 8


def test_the_ending_16_bit_grey_images(tmp_path):
    import numpy as np
    from PIL import Image

    for i in range(8):
        pixels = np.full((20, 20), 257 * (10 + 30 * i), np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"{i}.{('png', 'tiff')[i % 2]}")
    rows = [[str(i), "ab"[i // 2 % 2], "train" if i < 4 else "test"] for i in range(8)]
    path = write_table(tmp_path / "t.csv", ("image", "label", "split"), rows)
    data = read(path, channels=1, check=True)
    images, _ = next(iter(data.test_dataloader()))
    assert images.shape == (4, 16, 16, 1)
    assert images[:, 8, 8, 0].tolist() == [130, 160, 190, 220]
