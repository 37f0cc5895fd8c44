"""A data set of a user's own: one class and two lines of YAML, without touching the package."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY

from densenet_cli.data.in_memory import InMemoryData, Labelled
from densenet_cli.options import OptionError, UserError

MODULE = """\
import numpy as np
import torch
from densenet_cli.data.in_memory import InMemoryData, Labelled

class Mine(InMemoryData):
    name = "mine"

    def arrays(self):
        images, labels = (torch.from_numpy(np.load(f"{name}.npy")) for name in ("images", "labels"))
        return Labelled(images[50:], labels[50:]), Labelled(images[:50], labels[:50]), ["cat", "dog"]
"""
CHOICE = "defaults: [digits, _self_]\n_target_: mine.Mine\n"
WORDS = [*TINY, "--config-dir=conf", "data=mine", "data.batch_size=25"]


@pytest.fixture
def _mine(monkeypatch, tmp_path):
    (tmp_path / "python").mkdir()
    (tmp_path / "python/mine.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "python"))
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/mine.yaml").write_text(CHOICE)
    _save_images(seed=0)


def _save_images(seed):
    np.save("images.npy", np.random.default_rng(seed).integers(0, 256, (200, 16, 16, 3), np.uint8))
    np.save("labels.npy", np.arange(200) % 2)


def _record(folder):
    return json.loads(Path(folder, "run.json").read_text())


@pytest.mark.usefixtures("_mine")
def test_it_runs_in_a_sweep_with_workers_and_again_when_its_images_change(command):
    words = ["--multirun", *WORDS, "epochs=1", "seed=0,1", "hydra/launcher=parallel", "sweep.name=own"]
    answer = command(*words)
    assert answer.returncode == 0, answer.stderr
    records = [_record(f"outputs/own/seed={seed}") for seed in (0, 1)]
    assert [record["config"]["data"]["seed"] for record in records] == [0, 1]
    assert records[0]["data"]["digest"] == records[1]["data"]["digest"]
    assert records[0]["data"]["sizes"] == {"train": 150, "validation": 0, "test": 50}
    assert "2 done before\n" in command(*words).stdout
    _save_images(seed=1)
    answer = command(*words)
    assert "the images have changed since 2 of the runs" in answer.stderr
    assert answer.returncode == 0, answer.stderr
    assert len(list(Path("outputs/own").glob("*/run.json"))) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("_mine")
def test_it_is_resumed_only_on_the_same_images(command, interrupted):
    status, hint = interrupted(
        *WORDS,
        *("epochs=20", "hydra.run.dir=outputs/run"),
        once="outputs/run/checkpoints/last.ckpt",
        send=signal.SIGINT,
    )
    assert status == 130
    resume = "resume=outputs/run", "trust=mine.Mine"
    assert " ".join(["densenet-run", *resume]) in hint
    _save_images(seed=1)
    answer = command(*resume)
    assert answer.returncode == 1
    assert "other images than the run began with" in answer.stderr
    _save_images(seed=0)
    answer = command(*resume)
    assert answer.returncode == 0, answer.stderr
    assert _record("outputs/run")["state"] == "done"


class Blank(InMemoryData):
    name = "blank"

    def __init__(self, images, labels, **options):
        super().__init__(**options)
        self.train = Labelled(images, labels)

    def arrays(self):
        test = Labelled(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.arange(2))
        return self.train, test, ["a", "b"]


IMAGES, LABELS = torch.zeros(4, 8, 8, 3, dtype=torch.uint8), torch.arange(4) % 2


@pytest.mark.parametrize(
    ("images", "labels", "fault"),
    [
        (IMAGES.float(), LABELS, "images: must be a tensor of uint8, .*; are 4 x 8 x 8 x 3 of"),
        (IMAGES[..., 0], LABELS, "images: must be a tensor of uint8, .*; are 4 x 8 x 8 of"),
        (IMAGES.numpy(), LABELS, "images: must be a tensor of uint8"),
        (IMAGES[:0], LABELS[:0], "images: there are none"),
        (IMAGES, LABELS.int(), "labels: must be .* one label of int64 .*; they are 4 of torch.int32"),
        (IMAGES, LABELS[:3], "labels: must be .* one label of int64 .*; they are 3 of"),
        (IMAGES, LABELS + 1, "labels: must be from 0 to 1, .* 2 class names; one is 2"),
        (IMAGES, LABELS - 1, "labels: must be from 0 to 1, .* 2 class names; one is -1"),
        (IMAGES[..., :2], LABELS, "images: must be a tensor of uint8, .*; are 4 x 8 x 8 x 2 of"),
        (IMAGES[:, :7], LABELS, "test images: must be 7 x 8 pixels, 3 channels; are 8 x 8"),
        (IMAGES[..., :1], LABELS, "test images: must be .*, 1 channels; are 8 x 8 pixels, 3"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused_with_the_reason(images, labels, fault):
    with pytest.raises(UserError, match=f"data set blank: .*{fault}"):
        Blank(images, labels).prepare()


def test_images_smaller_than_their_shift_cannot_be_reflected():
    data = Blank(IMAGES, LABELS, border="reflect")
    data.padding = 8
    with pytest.raises(OptionError, match=r"border=reflect: needs images larger .* 8 pixels"):
        data.prepare()


def test_a_digest_stands_for_pixels_labels_and_class_names():
    digest = Blank(IMAGES, LABELS).digest()
    assert Blank(IMAGES.clone(), LABELS.clone(), seed=3, augment=False, validation=2).digest() == digest
    assert len(digest) == 12
    others = [Blank(IMAGES + 1, LABELS), Blank(IMAGES, 1 - LABELS), Blank(IMAGES[1:], LABELS[1:])]
    assert len({digest, *(other.digest() for other in others)}) == 4


class Findings(Blank):
    several_labels = True

    def arrays(self):
        return self.train, Labelled(IMAGES[:2], torch.ones(2, 2)), ["a", "b"]


SEVERAL = torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 0]])


def test_images_may_have_several_labels_or_none():
    data = Findings(IMAGES, SEVERAL, batch_size=3, validation=1)
    data.prepare()
    counts, known = data.class_counts()
    assert counts.tolist() == [2, 1]  # an image with the first label alone is held out
    assert known.tolist() == [3, 3]
    _, labels = data.complete(next(iter(data.test_dataloader())))
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 1], [1, 1]]
    one = Blank(IMAGES, torch.tensor([0, 1, 1, 1]))
    one.prepare()
    assert [counts.tolist() for counts in one.class_counts()] == [[1, 3], [4, 4]]


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (LABELS, "must be a tensor of float32, 4 x 2: images x class names; they are 4 of torch.int64"),
        (SEVERAL[:, :1], "must be .*; they are 4 x 1 of torch.float32"),
        (SEVERAL * 2, "must be 0, 1, or NaN"),
    ],
)
def test_several_labels_that_cannot_be_used_are_refused_with_the_reason(labels, fault):
    with pytest.raises(UserError, match=f"data set blank: training labels: {fault}"):
        Findings(IMAGES, labels).prepare()
