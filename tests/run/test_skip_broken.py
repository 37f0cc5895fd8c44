"""data.skip_broken=true: a run goes on without images that cannot be read, and records them."""

import json
from pathlib import Path

import pytest
import torch
from tiny_run import TINY_PHOTOS

from densenet_cli.data.skipped import NO_IMAGE
from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.inference.evaluation import evaluate
from densenet_cli.inference.trained_network import load
from densenet_cli.record import outcomes, skipped_images
from densenet_cli.record.identity import identity
from densenet_cli.training import metrics

WORDS = [*TINY_PHOTOS, "data.check=false", "epochs=2"]
LOST = {"train": "cat/3.png", "test": "dog/9.png"}


@pytest.fixture
def lost(photos):
    """Seven training and three test images of each class; the paths of one of each split, broken."""
    for name in ("cat", "dog"):
        for split, numbers in (("train", range(7)), ("test", range(7, 10))):
            (photos / split / name).mkdir(parents=True)
            for number in numbers:
                (photos / name / f"{number}.png").rename(photos / split / name / f"{number}.png")
        (photos / name).rmdir()
    paths = {split: f"photos/{split}/{name}" for split, name in LOST.items()}
    for path in map(Path, paths.values()):
        path.write_bytes(path.read_bytes()[:-200])
    return paths


def test_training_knows_the_label_of_a_skipped_image():
    assert metrics.SKIPPED == NO_IMAGE


def _record(name):
    return json.loads(Path("outputs", name, "run.json").read_text())


def _weights(name):
    path = Path("outputs", name, "checkpoints/last.ckpt")
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_that_met_a_broken_image_is_resumed_without_it(lost, typed):
    status, message = typed(*WORDS, "hydra.run.dir=outputs/first")
    assert status == 1
    assert message.endswith("; repair or delete it, or type data.skip_broken=true\n")
    status, message = typed("resume=outputs/first", "+data.skip_broken=true", "data.num_workers=0")
    assert status == 0, message
    assert [f"{lost[split]} is skipped" in message for split in LOST] == [True, True]
    assert typed(*WORDS, "data.skip_broken=true", "hydra.run.dir=outputs/whole")[0] == 0
    records = [_record(name) for name in ("first", "whole")]
    assert identity(records[0]["config"]) == identity(records[1]["config"])
    for name, record in zip(("first", "whole"), records, strict=True):
        assert record["skipped_images"] == {"train": 1, "validation": 0, "test": 1}
        found = skipped_images.read(Path("outputs", name))
        assert {split: list(names) for split, names in found.items()} == {
            split: [path] for split, path in lost.items()
        }
        kept = outcomes.read(Path("outputs", name))
        assert (len(kept.right), kept.skipped) == (6, (5,))
        assert kept.error == pytest.approx(record["results"]["test_error"], abs=1e-4)
        assert record["results"]["test_error"] * 5 == pytest.approx(
            100 * (5 - sum(kept.right)), abs=0.01
        )
    assert records[0]["results"] == records[1]["results"]
    for key, value in _weights("first").items():
        assert torch.equal(value, _weights("whole")[key]), key


@pytest.mark.parametrize("batch_size", [1, 4])
def test_evaluation_of_the_test_images_reports_what_the_run_skipped(lost, typed, batch_size):
    """With batches of 1, two batches have no image that can be read."""
    (second := Path("photos/test/cat/8.png")).write_bytes(b"no image")
    words = ["data.skip_broken=true", "hydra.run.dir=outputs/first", "epochs=1"]
    assert typed(*WORDS, *words)[0] == 0
    found = evaluate(load(Path("outputs/first"), "cpu"), None, batch_size)
    results = _record("first")["results"]
    assert found.measured["error"] == results["test_error"]
    assert found.measured["loss"] == pytest.approx(results["test_loss"], abs=2e-3)  # in bfloat16
    assert found.paths == ["1", "3", "4", "5"]  # numbers of test images
    assert [one.path for one in found.unreadable] == [str(second), lost["test"]]
    assert found.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.slow
def test_processes_of_a_run_stay_in_step(lost, command):
    words = ["trainer=ddp_cpu", "data.skip_broken=true", "hydra.run.dir=outputs/two"]
    answer = command(*WORDS, *words)
    assert answer.returncode == 0, answer.stderr
    record = _record("two")
    assert record["processes"] == 2
    assert record["skipped_images"] == {"train": 1, "validation": 0, "test": 1}
    for path in lost.values():  # whichever process met it
        assert answer.stderr.count(f"{path} is skipped: it cannot be read (") == 1
    kept = outcomes.read(Path("outputs/two"))
    assert (len(kept.right), kept.skipped) == (6, (5,))
    assert kept.error == pytest.approx(record["results"]["test_error"], abs=1e-4)


CONTENTS = [
    "[]",
    '{"format": 1}',
    '{"format": 1, "images": {"train": ["a"]}}',
    '{"format": 2, "images": {}}',
    "{",
]


@pytest.mark.parametrize("content", CONTENTS)
def test_a_damaged_list_is_refused(tmp_path, content):
    (tmp_path / "skipped.json").write_text(content)
    with pytest.raises(UnreadableFile):
        skipped_images.read(tmp_path)
