"""Each fault of a table is one message that names the option, the rule and the rows."""

import gzip
import sys
from pathlib import Path

import pytest
from image_folders import write
from image_tables import read, simple, table, write_table

from densenet_cli.data.image_table import ImageTable
from densenet_cli.options import OptionError, UserError

pytestmark = pytest.mark.usefixtures("cache")

ROWS = [[f"{i}.png", "ab"[i % 2]] for i in range(10)]


def refused(message, path, **options):
    with pytest.raises(OptionError, match=message):
        read(path, **options)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"table": "t.xlsx"}, r"table=t\.xlsx: must end in \.csv, .* or \.parquet"),
        ({"table": "t.csv"}, r"table=t\.csv: cannot be read \(No such file"),
        ({"images": "nowhere"}, "images=nowhere: is not a folder"),
        ({"labels": "several"}, "labels=several: must be one of single, multi"),
        ({"uncertain": "zeros"}, "uncertain=zeros: must be one of refuse, negative, positive, ignore"),
        ({"missing": "positive"}, "missing=positive: must be one of refuse, negative, ignore"),
        ({"separator": "|"}, r"separator=\|: must be one of bar, semicolon, comma, space"),
        ({"path_column": "f"}, r"path_column=f: labels\.csv has no such column; it has image, label"),
        ({"label_column": "lable"}, r"no such column; .*; for example label_column=label"),
        ({"label_column": []}, r"label_column=\[\]: must name each column once"),
        ({"group_column": "patient"}, "group_column=patient: labels.csv has no such column"),
        ({"split_column": "fold"}, "split_column=fold: labels.csv has no such column"),
        ({"split_column": "label"}, "split_column=label: has a, b; it must hold train, val and test"),
        ({"test_table": "t.txt"}, r"test_table=t\.txt: cannot be read"),
        ({"label_column": ["label", "image"]}, r"label_column=label: one of several columns of labels "
                                               r"must hold 0, 1, .* it has a in row 2, .* 5 more"),
    ],
)  # fmt: skip
def test_options(option, message):
    simple(".", ROWS)
    with pytest.raises(OptionError, match=message):
        read(**{"path": "labels.csv", **({"path": option["table"]} if "table" in option else option)})


def test_no_table():
    with pytest.raises(OptionError, match=r"table=null: must be a file; for example table=labels\.csv"):
        ImageTable(None)


def test_missing_images():
    path = simple(".", ROWS)
    write_table(path, ("image", "label"), [*ROWS, *([f"x{i}.png", "a"] for i in range(7))])
    message = r"images=\.: 7 of 17 images of the column image are not there: x0\.png .* and 2 more"
    refused(message, path)


def test_images_with_another_ending_are_named():
    path = write_table(simple(".", ROWS), ("image", "label"), [[f"{i}.jpg", "a"] for i in range(10)])
    refused(r"10 of 10 images .*; there is (\./)?0\.png, with another ending", path)


def test_an_image_is_never_taken_from_another_folder():
    rows = [[f"images/patient{i}/scan.png", "ab"[i % 2]] for i in range(6)]
    for i in range(5):  # that of patient5 is missing, and there is another one of its name
        write(Path("x") / f"patient{i}" / "scan.png", i)
    path = write_table("t.csv", ("path", "label"), rows)
    refused(
        r"1 of 6 images of the column path are not there: images/patient5/scan\.png", path, images="x"
    )


def test_a_name_of_two_files():
    for folder in ("one", "two"):
        for row in ROWS:
            write(Path("x") / folder / row[0], int(row[0][0]))
    path = write_table("t.csv", ("image", "label"), ROWS)
    message = r"10 of 10 names .* mean several files: 0\.png \(row 2\) is x/one/0\.png and x/two/0\.png"
    refused(message, path, images="x")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [*ROWS, ROWS[3]],
            r"1 image in several rows with the same labels; .* 3\.png \(row 5, row 12\)",
        ),
        ([*ROWS, ["3.png", "a"]], r"1 image in several rows with different labels: 3\.png"),
        ([["0.png", ""], *ROWS[1:]], "label_column=label: 1 of 10 rows have no label: row 2"),
        ([["0.png", "NaN"], *ROWS[1:]], "label_column=label: 1 of 10 rows have no label: row 2"),
        ([[name, "a"] for name, _ in ROWS], "label_column=label: has one class only, a"),
    ],
)
def test_rows(rows, message):
    refused(message, simple(".", rows))


def test_repeated_rows_with_labels_that_are_not_known():
    rows = [[f"{i}.png", i % 2, 1 - i % 2] for i in range(4)] + [["4.png", 1, ""]] * 2
    path = simple(".", rows, ("image", "A", "B"))
    refused("1 image in several rows with the same labels", path, labels="multi", missing="ignore")


def test_columns_that_could_be_meant():
    path = simple(".", [[*row, *row] for row in ROWS], ("image", "label", "file", "class"))
    refused(r"path_column=auto: .* has several columns that name files in \.: image, file", path)
    refused(
        "label_column=auto: .* several columns that may be it: label, class", path, path_column="file"
    )
    plain = simple(".", ROWS, ("image", "kind"))
    refused(
        "has no column called label, labels, class, classname or the like; it has image, kind; "
        "for example label_column=kind$",
        plain,
    )
    other = write_table("other.csv", ("name", "label"), [["x", "a"], ["y", "b"]])
    refused(r"no column of other\.csv names files in \.; .* name \(x\), label \(a\)", other)


def test_dicom_files_are_to_be_converted():
    path = write_table("t.csv", ("image", "label"), [["a.dcm", 0], ["b.dcm", 1]])
    refused("names DICOM files, which are not read: convert them to 16-bit PNG", path)


def test_classes_that_cannot_be_learnt():
    rows = [[*row, "train"] for row in ROWS] + [["10.png", "c", "test"]]
    path = simple(".", rows, ("image", "label", "split"))
    refused("table=labels.csv: no training image has c, but test images have", path)
    only = [[name, label, "test"] for name, label, _ in rows]
    refused(
        "has no training images, only test images", write_table(path, ("image", "label", "split"), only)
    )


def test_one_label_alone():
    rows = [[f"{i}.png", i % 2] for i in range(10)]
    path = simple(".", rows, ("image", "Pneumonia"))
    message = "is the column of one label; name several, or type data.labels=single"
    refused(message, path, labels="multi", label_column="Pneumonia")
    assert read(path, label_column="Pneumonia").class_names == ["0", "1"]


def test_separators():
    rows = [[f"{i}.png", ("haze primary", "haze", "primary", "road")[i % 4]] for i in range(12)]
    path = simple(".", rows, ("image", "tags"))
    refused("no label in tags has a bar, semicolon or comma .* separator=space", path, labels="multi")
    assert read(path, labels="multi", separator="space").class_names == ["haze", "primary", "road"]
    rows[0][1], rows[1][1] = "haze, primary", "haze; road"
    path = simple(".", rows, ("image", "tags"))
    refused("several that may be it: semicolon, comma", path, labels="multi")


def test_no_finding_and_a_finding():
    rows = [[f"{i}.png", ("No Finding", "A|B", "B", "No Finding|A")[i % 4]] for i in range(12)]
    path = simple(".", rows, ("image", "labels"))
    refused("row 5 has No Finding.A: No Finding and other labels", path, labels="multi")
    data = read(path, labels="multi", no_label=None)
    assert data.class_names == ["A", "B", "No Finding"]


def test_two_files_with_test_images(tmp_path):
    rows = [[f"{i}.png", "ab"[i % 2], ("train", "test")[i // 5]] for i in range(10)]
    path = simple(tmp_path, rows, ("image", "label", "split"))
    (tmp_path / "test.txt").write_text("2.png\n")
    test = str(tmp_path / "test.txt")
    refused(
        "split_column=split: and data.test_table both name test images: row 7", path, test_table=test
    )
    assert read(path, test_table=test, split_column=None).sizes["test"] == 1
    (tmp_path / "test.txt").write_text("x.png\n")
    refused("names no image of .*; its lines are as x.png", path, test_table=test, split_column=None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "has no names of columns in its first row"),
        ("t.csv", b"image,label\n", "has no rows below the names of its columns"),
        ("t.csv", b"image,label\na.png\n", "has 2 columns in its first row and 1 in row 2"),
        ("t.csv", b"image,label\r\n\r\na.png,b\r\n", "has nothing in row 2; delete such rows"),
        ("t.csv", b"image,label,image\na,b,c\n", "has two columns called image"),
        ("t.csv", b"image,label\na.png,\xe4\n", r"is not in UTF-8 \(line 2\); save it as CSV UTF-8"),
        ("t.csv.gz", gzip.compress(b"image,label\n" * 99, mtime=0)[:20], "is not a whole gzip file"),
        ("t.csv.gz", b"image,label\n", "is not a whole gzip file"),
        ("t.parquet", b"image,label\n", "is not a Parquet file"),
    ],
)
def test_files_that_are_no_tables(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    refused(message, tmp_path / name)


def test_parquet_needs_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"needs the package pyarrow, .* pip install 'densenet-cli\[table\]'"
    ):
        table(tmp_path / "t.parquet").digest()
