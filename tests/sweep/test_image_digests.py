"""A sweep whose images have changed since its runs: those are kept, and the jobs are run again."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import TINY

from densenet_cli.config.compose import composing
from densenet_cli.options import UserError
from densenet_cli.record.run_record import RunRecord
from densenet_cli.sweep.folders import Folders
from densenet_cli.sweep.image_digests import ImageDigests
from densenet_cli.sweep.jobs import sweep_options

PHOTOS = ["data=image_folder", "data.root=photos", "data.image_size=16", "data.num_workers=0"]
FACTS = {
    "parameters": 9,
    "multiply_adds": 9,
    "device": "a CPU",
    "processes": 1,
    "precision": "32-true",
    "epochs": 1,
    "data": {
        "name": "image_folder",
        "num_classes": 2,
        "class_names": ["cat", "dog"],
        "image_size": [16, 16],
        "sizes": {"train": 12, "validation": 0, "test": 12},
        "statistics": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    },
}


@pytest.fixture
def photos():
    """Image files of two classes; returns a function that replaces one of the test images."""
    chance = np.random.default_rng(0)
    for path in (Path("photos", part, name) for part in ("train", "test") for name in ("cat", "dog")):
        path.mkdir(parents=True)
        for number in range(6):
            pixels = chance.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(path / f"{number}.png")
    return lambda: Image.new("RGB", (9, 9)).save("photos/test/cat/0.png")


def recorded(config, name, digest):
    """A finished run of a sweep on images with this digest; None: its record has no digest."""
    folder = Path("sweep", name)
    folder.mkdir(parents=True)
    data = FACTS["data"] | ({"digest": digest} if digest else {})
    RunRecord.create(folder, config, []).update(**FACTS | {"data": data}, state="done")
    return folder


def test_a_run_on_other_images_is_not_the_run_of_the_job(config, photos, capsys):
    one = config(*PHOTOS)
    now = ImageDigests().of(one["data"])
    other = recorded(one, "seed=0", "0123456789ab")
    folders = Folders(Path("sweep"))
    place = folders.find("seed=0", one)
    assert place == Path(f"sweep/seed=0~{now[:6]}")
    assert folders.find("seed=0", one) == place  # a search asks again
    folders.report_other_images()
    said = capsys.readouterr().err
    assert "the images have changed since 1 of the runs, such as sweep/seed=0; it is kept" in said
    recorded(one, place.name, now)
    assert Folders(Path("sweep")).find("seed=0", one) == place
    (other / "run.json").unlink()
    assert Folders(Path("sweep")).find("seed=0", one) == place


def test_a_run_on_unknown_images_counts_as_the_run_of_the_job(config, photos, capsys):
    one = config(*PHOTOS)
    folder = recorded(one, "seed=0", None)  # like the records of outputs/study
    folders = Folders(Path("sweep"))
    assert folders.find("seed=0", one) == folder
    folder = recorded(one, "known", ImageDigests().of(one["data"]))
    assert Folders(Path("sweep")).find("seed=0", one) == folder
    Path("photos").rename("moved")
    folders = Folders(Path("sweep"))
    assert folders.find("seed=0", one) == folder
    folders.report_other_images()
    said = capsys.readouterr().err
    assert "of the finished runs: data.root=photos: is not a folder" in said


def test_images_that_cannot_change_are_not_read(config, monkeypatch):
    def read(*_):
        raise AssertionError

    monkeypatch.setattr(ImageDigests, "of", read)
    for words in (["data=digits"], ["data=cifar10"], ["data=svhn"]):
        one = config(*words)
        folder = recorded(one, words[0], "0123456789ab")
        assert Folders(Path("sweep")).find("seed=0", one) == folder


def test_unverified_files_may_be_other_images(config, monkeypatch):
    monkeypatch.setattr(ImageDigests, "of", lambda *_: "cdef01234567")
    one = config("data=cifar10", "data.verify=false")
    recorded(config("data=cifar10"), "seed=0", "0123456789ab")  # the same run, except for its images
    assert Folders(Path("sweep")).find("seed=0", one).name == "seed=0~cdef01"


def test_the_images_of_all_seeds_are_read_once(config, monkeypatch):
    asked = []

    def compute(_, data):
        asked.append(data["root"])
        return "cdef01234567"

    monkeypatch.setattr(ImageDigests, "_compute", compute)
    one = config(*PHOTOS)
    jobs = [one | {"seed": seed, "data": one["data"] | {"seed": seed}} for seed in range(4)]
    for number, job in enumerate(jobs):
        recorded(job, f"seed={number}", "0123456789ab")
    folders = Folders(Path("sweep"))
    for number, job in enumerate(jobs):
        assert folders.find(f"seed={number}", job).name == f"seed={number}~cdef01"
    assert asked == ["photos"]


@pytest.mark.slow
def test_a_sweep_is_run_again_after_its_images_have_changed(command, photos):
    words = ["--multirun", *TINY, *PHOTOS, "epochs=1", "sweep.name=mine"]
    assert "1 done\n" in command(*words).stdout
    (before,) = Path("outputs/mine").glob("*/run.json")
    record = before.read_text()
    assert "1 done before\n" in command(*words).stdout
    photos()
    said = command(*words)
    assert said.returncode == 0, said.stderr
    assert "the images have changed since 1 of the runs" in said.stderr
    assert "1 run: 1 done\n" in said.stdout
    assert before.read_text() == record
    (again,) = set(Path("outputs/mine").glob("*/run.json")) - {before}
    assert again.parent.name.startswith(f"{before.parent.name}~")
    digests = [json.loads(path.read_text())["data"]["digest"] for path in (before, again)]
    assert digests[0] != digests[1]


def test_a_search_is_not_resumed_with_other_images(photos):
    pytest.importorskip("optuna")
    from densenet_cli.sweep.search import Search

    words = ["hydra/sweeper=optuna", *TINY, *PHOTOS, "data.validation=4", "model.growth_rate=4,6"]
    with composing():
        for _ in range(2):
            Search(*sweep_options(words), [])
        photos()
        with pytest.raises(UserError, match="contains a search on other images than there are now"):
            Search(*sweep_options(words), [])
