"""A checkpoint is used with its own images, with others of its classes, and with other classes."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

from densenet_cli.commands import model as model_cli
from densenet_cli.record.trained_on import other_classes, other_images

CLASSES = ("grass", "sea", "stone")
LAST = Path("run/checkpoints/last.ckpt")


def photos(root="photos"):
    """Pictures of three classes in train/ and test/."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for label, name in enumerate(CLASSES):
            folder = Path(root, part, name)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(60 * label + chance.normal(60, 60, (20, 20, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")


def rename_a_class(root="photos"):
    for part in ("train", "test"):
        Path(root, part, "grass").rename(Path(root, part, "tree"))


def leave_pictures_out():
    for path in Path("photos").glob("train/*/[4-7].png"):
        path.unlink()


def put_in_other_pictures():
    for path in Path("photos/train").glob("*/*.png"):
        Image.new("RGB", (9, 9)).save(path)


@pytest.fixture
def run(typed):
    """A run on the images in photos/ whose record has the state interrupted."""
    photos()
    words = ["data=image_folder", "data.root=photos", "data.image_size=16", "data.num_workers=0"]
    assert typed(*TINY, *words, "epochs=1", "hydra.run.dir=run") == (0, "")
    record = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    return record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename_a_class, "class 1 was grass (of 3) and is sea now (of 3)"),
        (leave_pictures_out, "there are 12 train images now; there were 24"),
        (put_in_other_pictures, "the number of images is the same, but file names or contents are not"),
    ],
)
def test_a_run_is_resumed_with_its_own_images_only(run, typed, change, said):
    shutil.copytree("photos", "before")
    weights = LAST.read_bytes()
    change()
    status, message = typed("resume=run")
    assert status == 1
    assert message.startswith("densenet-run: data.root=photos: holds other images than the run began")
    assert said in message
    assert len(message.splitlines()) == 1
    record = json.loads(Path("run/run.json").read_text())
    assert (record["data"], record["results"]) == (run["data"], run["results"])
    assert LAST.read_bytes() == weights
    assert typed("resume=run", "data.root=before") == (0, "")  # they may have moved
    assert json.loads(Path("run/run.json").read_text())["results"] == run["results"]


@pytest.mark.parametrize("path", [LAST, Path("moved.ckpt")])
def test_a_network_is_not_tested_on_other_classes(run, typed, path):
    config = []  # that of the run
    if path != LAST:
        shutil.copy(LAST, path)
        config = ["data=image_folder", "data.image_size=16", "data.num_workers=0", *TINY]
    photos("others")
    words = [*config, "task=test", f"checkpoint={path}", "data.root=others"]
    for image in Path("others").glob("*/*/0.png"):
        image.unlink()
    assert typed(*words, "hydra.run.dir=tested") == (0, "")  # other images of the same classes
    rename_a_class("others")
    status, message = typed(*words, "hydra.run.dir=refused")
    assert status == 1
    assert "data.root=others: has other classes than checkpoint=" in message
    assert "class 1 was grass (of 3) and is sea now (of 3)" in message


def test_a_network_is_tested_with_the_normalisation_it_was_trained_with(typed):
    photos()
    words = ["data=image_folder", "data.root=photos", "data.image_size=16", "data.num_workers=0"]
    words += ["data.normalise=mean_std", "epochs=1", "hydra.run.dir=run"]
    assert typed(*TINY, *words) == (0, "")
    photos("others")
    for path in Path("others/train").glob("*/*.png"):
        Image.new("RGB", (9, 9)).save(path)  # the test images are those of the run
    words = ["task=test", f"checkpoint={LAST}", "data.root=others"]
    assert typed(*words, "hydra.run.dir=tested") == (0, "")
    status, message = typed(*words, "data.image_size=24", "hydra.run.dir=larger")
    assert status == 0
    assert message == "densenet-run: trained on images of 16 x 16 pixels, tested on images of 24 x 24\n"
    trained, tested = (json.loads(Path(name, "run.json").read_text()) for name in ("run", "tested"))
    assert tested["data"]["statistics"] == trained["data"]["statistics"]
    assert tested["data"]["digest"] != trained["data"]["digest"]
    assert tested["results"]["test_loss"] == trained["results"]["test_loss"]


def test_a_checkpoint_in_the_folder_of_another_run_is_refused(run, monkeypatch):
    record = json.loads(Path("run/run.json").read_text())
    record["data"]["class_names"][1] = "lake"
    Path("run/run.json").write_text(json.dumps(record))
    monkeypatch.setattr(sys, "argv", ["densenet-model", "predict", "run", "photos/test"])
    with pytest.raises(SystemExit, match=r"class 2 was sea \(of 3\) and is lake now \(of 3\)"):
        model_cli.main()


def test_analyses_use_the_runs_own_images_only(run, monkeypatch):
    put_in_other_pictures()
    monkeypatch.setattr(sys, "argv", ["densenet-model", "mistakes", "run"])
    with pytest.raises(SystemExit, match=r"--data-root=photos: holds other images than the run"):
        model_cli.main()


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (["a", "b"], ["a", "b"], None),
        (None, ["a", "b"], None),
        (["a", "b"], ["b", "a"], "class 1 was a (of 2) and is b now (of 2)"),
        (["a", "b"], ["a", "b", "c"], "class 3 of 3, c, is new"),
        (["a", "b", "c"], ["a", "b"], "class 3 of 3, c, is missing"),
    ],
)
def test_the_first_difference_between_classes_is_named(before, now, said):
    assert other_classes({"class_names": before} if before else {}, {"class_names": now}) == said


def test_facts_that_a_record_lacks_are_not_compared():
    now = {"class_names": ["a", "b"], "sizes": {"train": 9, "test": 3}, "digest": "1234"}
    assert other_images({}, now) is None
    assert other_images({"class_names": ["a", "b"], "sizes": {"train": 9}}, now) is None
    assert other_images({**now, "digest": None}, now) is None
