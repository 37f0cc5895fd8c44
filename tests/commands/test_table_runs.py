"""Runs on images whose labels stand in a table, by the commands as they are typed."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
OPTIONS = ["data=image_table", "data.image_size=16", "data.num_workers=0", "data.channels=1"]
WORDS = [*TINY, *OPTIONS, "data.table=xrays/labels.csv", "data.batch_size=16", "model.growth_rate=8"]
MULTI = [*WORDS, "data.labels=multi", "data.test_table=xrays/test_list.txt"]
FINDINGS = ("Edema", "Mass")  # a bright upper half, a bright middle


@pytest.fixture(autouse=True)
def _xrays(tmp_path):
    """16-bit X-rays of 30 patients in two folders, with none, one or both of two findings."""
    chance, rows = np.random.default_rng(0), []
    for patient in range(30):
        for number in range(1 + patient % 3):
            has = chance.random(2) < 0.5
            pixels = chance.integers(0, 6000, (18, 18)).astype(np.uint16)
            pixels[:9] += np.uint16(30_000 * has[0])
            pixels[:, 6:12] += np.uint16(20_000 * has[1])
            name = f"{patient:08d}_{number:03d}.png"
            (folder := tmp_path / "xrays" / f"images_{patient % 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name)
            found = "|".join(np.array(FINDINGS)[has]) or "No Finding"
            rows.append([name, found, patient])
    _write("xrays/labels.csv", rows)
    test = [row[0] for row in rows if row[2] % 3 == 2 and row[2] > 10]
    Path("xrays/test_list.txt").write_text("\n".join(test))


def _write(path, rows, columns=COLUMNS):
    with Path(path).open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def _rows(folder="xrays"):
    with Path(folder, "labels.csv").open() as stream:
        return list(csv.reader(stream))[1:]


def _text(name):
    Path(name).write_text("x")
    return name


def record(folder="run"):
    return json.loads(Path(folder, "run.json").read_text())


def test_several_labels_an_image(typed, results, densenet_model):
    status, said = typed(*MULTI, "recipe.optimizer.lr=0.05", "epochs=5", "hydra.run.dir=run")
    assert status == 0, said
    fields = record()
    data = fields["data"]
    assert (data["name"], data["class_names"]) == ("image_table", list(FINDINGS))
    assert (data["sizes"], data["several_labels"]) == ({"train": 39, "validation": 0, "test": 21}, True)
    assert fields["config"]["data"]["table"] == "xrays/labels.csv"
    assert fields["results"]["test_error"] < 25  # 100 % minus the AUROC; 50 by chance
    assert "AUROC" in results("table", "run")
    status, out, _ = densenet_model("evaluate", "run", "--format", "json")
    own = json.loads(out)
    assert own["error_percent"] == pytest.approx(fields["results"]["test_error"], abs=0.5)
    test = set(Path("xrays/test_list.txt").read_text().split())
    _write("xrays/other.csv", [row for row in _rows() if row[0] in test])
    status, out, _ = densenet_model("evaluate", "run", "xrays/other.csv", "--format", "json")
    assert (status, json.loads(out)) == (0, own)
    columns = [[name, *(int(one in label) for one in FINDINGS)] for name, label, _ in _rows()]
    _write("columns.csv", [row for row in columns if row[0] in test], ("image", *FINDINGS))
    words = ("evaluate", "run", "columns.csv", "--data-root", "xrays", "--format", "json")
    assert json.loads(densenet_model(*words)[1]) == own
    status, out, _ = densenet_model("predict", "run", "xrays/images_0", "--format", "json")
    assert {one["class"] for one in json.loads(out)[0]["classes"]} == set(FINDINGS)
    message = densenet_model("evaluate", "run", "columns.csv", "--data-root", "xrays/images_0")[2]
    assert "--data-root=xrays/images_0: 12 of 21 images of the column image are not there" in message
    message = densenet_model("evaluate", "run", "xrays")[2]
    assert "FOLDER=xrays: holds one class for each image, and images of this network" in message


def test_one_label_an_image(typed, densenet_model):
    rows = [
        [name.removesuffix(".png"), label.split("|")[0], patient] for name, label, patient in _rows()
    ]
    _write("labels.csv", rows)
    words = [*WORDS, "data.table=labels.csv", "data.images=xrays", "data.validation=6", "epochs=1"]
    assert typed(*words, "recipe.class_weights=balanced", "hydra.run.dir=run")[0] == 0
    fields = record()
    assert fields["data"]["class_names"] == ["Edema", "Mass", "No Finding"]
    assert fields["data"]["sizes"] == {"train": 42, "validation": 6, "test": 12}
    assert len(fields["class_weights"]) == 3
    assert "test_balanced_error_last" in fields["results"]
    _write("other.csv", [row for row in rows if row[1] != "Edema"], ("file", "label", "patient"))
    words = ("evaluate", "run", "other.csv", "--data-root", "xrays", "--format", "json")
    status, out, _ = densenet_model(*words)
    assert (status, json.loads(out)["images"]) == (0, len([row for row in rows if row[1] != "Edema"]))
    _write("other.csv", [[rows[0][0], "Hernia", 0], *rows[1:]])
    message = densenet_model(*words)[2]
    assert "other.csv: has classes that the network does not know: Hernia; it knows Edema" in message
    assert "TABLE=pyproject.txt" in densenet_model("evaluate", "run", _text("pyproject.txt"))[2]


@pytest.mark.slow
def test_a_run_is_not_resumed_when_images_are_gone_or_labels_have_changed(typed, interrupted):
    words = [*MULTI, "epochs=300", "hydra.run.dir=run"]
    assert interrupted(*words, once="run/checkpoints/last.ckpt", send=signal.SIGTERM)[0] == 143
    Path("xrays").rename("moved")
    status, said = typed("resume=run")
    assert status == 1
    assert "data.table=xrays/labels.csv: cannot be read" in said
    moved = ["data.table=moved/labels.csv", "data.test_table=moved/test_list.txt"]
    rows = _rows("moved")
    _write("other.csv", [[rows[0][0], "Pneumonia", rows[0][2]], *rows[1:]])
    status, said = typed("resume=run", *moved, "data.table=other.csv", "data.images=moved")
    assert status == 1
    assert "holds other images than the run began with: class 3 of 3, Pneumonia, is new" in said
    _write("other.csv", [[rows[0][0], "Edema|Mass", rows[0][2]], *rows[1:]])
    status, said = typed("resume=run", *moved, "data.table=other.csv", "data.images=moved")
    assert "the number of images is the same, but" in said


@pytest.mark.slow
def test_a_sweep_trains_again_when_labels_have_changed(typed):
    words = ["--multirun", *MULTI, "epochs=1", "seed=0,1", "sweep.name=sweep"]
    for again, sets in enumerate((1, 1, 2)):
        assert typed(*words)[0] == 0
        records = [json.loads(path.read_text()) for path in Path("outputs/sweep").glob("*/run.json")]
        assert len(records) == 2 * sets
        assert len({one["data"]["digest"] for one in records}) == sets
        if again:
            rows = _rows()
            _write("xrays/labels.csv", [[rows[0][0], "Edema|Mass", rows[0][2]], *rows[1:]])


def test_an_error_names_the_option_as_it_is_typed(typed):
    message = "densenet-run: data.table=null: must be a file; for example data.table=labels.csv\n"
    assert typed(*WORDS, "data.table=null") == (1, message)
    _write("xrays/labels.csv", [["x.png", "Mass", 1], ["y.png", "Edema", 2]])
    message = "densenet-run: data.images=xrays: 2 of 2 images of the column Image Index are not there: "
    assert typed(*MULTI) == (1, f"{message}x.png (row 2), y.png (row 3)\n")


def test_paths_with_spaces_and_signs(typed):
    Path("xrays").rename("my x-rays, (1)")
    folder = "my x-rays, (1)"
    words = [*MULTI, f"data.table={folder}/labels.csv", f"data.images={folder}"]
    status, said = typed(*words, f"data.test_table={folder}/test_list.txt", "epochs=1")
    assert status == 0, said
