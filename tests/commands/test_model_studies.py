"""The studies of densenet-model: figures and their numbers, of a run made here."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import torchvision
from colour_images import write_images

from densenet_cli.inference import trained_network


def test_runs_of_one_network_have_different_names_in_the_terminal(
    trained_run, densenet_model, tmp_path
):
    folder, photos = trained_run
    shutil.copytree(folder, tmp_path / "k=4,seed=1")
    words = [folder, tmp_path / "k=4,seed=1", "--output", tmp_path]
    found = densenet_model("reuse", *words, "--images", "0")[1]
    assert "[k=4,seed=1], untrained" in " ".join(found.split())
    more = ["--images", "9", "--most", "1", "--draws", "1", "--data-root", photos]
    assert "[k=4,seed=1]" in densenet_model("lesions", *words, *more)[1]


def test_other_data_than_those_of_the_run_are_refused(trained_run, densenet_model, tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        write_images(tmp_path / "others" / part, count, seed=3)
    words = ["mistakes", trained_run[0], "--data-root", tmp_path / "others", "--output", tmp_path]
    status, _, message = densenet_model(*words)
    assert status == 1
    assert "there are 9 train images now; there were 36" in message
    for part in ("train", "test"):
        (tmp_path / "others" / part / "sea").rename(tmp_path / "others" / part / "lake")
    status, _, message = densenet_model(*words)
    assert status == 1
    assert "class 2 was sea (of 3) and is lake now (of 3)" in message
    assert f"--data-root={tmp_path}/others: holds other images" in message
    status, _, message = densenet_model("mistakes", trained_run[0], "--output", tmp_path)
    assert (status, message.splitlines()[0]) == (
        1,
        "densenet-model: --data-root=photos: is not a folder; for example --data-root=/path/to/images",
    )


@pytest.mark.parametrize(
    ("command", "options", "files"),
    [
        ("reuse", ["--images", "9"], ["reuse"]),
        ("lesions", ["--images", "9", "--most", "1", "--draws", "1"], ["lesions"]),
        ("gradients", ["--images", "9"], ["gradients"]),
        ("maps", ["--images", "9"], ["maps"]),
        ("mistakes", [], ["calibration", "confusion", "mistakes"]),
        ("saliency", ["--images", "3"], ["saliency"]),
    ],
)
def test_studies_write_figures_and_their_numbers(
    trained_run, densenet_model, tmp_path, command, options, files
):
    folder, photos = trained_run
    where = ["--data-root", photos, "--output", tmp_path / "figures"]
    status, out, message = densenet_model(command, folder, *options, *where, "--format", "svg")
    assert status == 0, message
    for name in files:
        assert (tmp_path / "figures" / f"{name}.svg").stat().st_size > 1000
        with (tmp_path / "figures" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert rows
        assert f"{name}.csv" in out
    if command == "lesions":
        intact = next(row for row in rows if row["experiment"] == "intact")
        assert sum(row["experiment"] == "delete_one" for row in rows) == 3  # depth 10: a layer a block
        assert 0 <= float(intact["error"]) <= 100
    if command == "mistakes":
        error = json.loads((folder / "run.json").read_text())["results"]["test_error"]
        assert f"error {error:.2f} %" in out
        assert len(rows) == round(error / 100 * 21)  # of the 21 test images fewer than fit are wrong
        assert all(row["class"] != row["predicted"] for row in rows)


def test_reuse_refuses_a_run_of_another_network(trained_run, densenet_model, monkeypatch):
    def load(*asked):
        return replace(trained_network.load(*asked), network=torchvision.models.resnet18())

    monkeypatch.setattr("densenet_cli.analysis.runs.load", load)
    status, _, message = densenet_model("reuse", trained_run[0])
    assert status == 1
    reason = "ResNet is not a DenseNet: it has no dense blocks"
    assert message == f"densenet-model: {trained_run[0]}/checkpoints/last.ckpt: {reason}"


def test_saliency_of_image_files_skips_unreadable_ones(trained_run, densenet_model, tmp_path):
    folder, photos = trained_run
    (tmp_path / "broken.png").write_bytes(b"no picture")
    words = ["--pictures", photos / "test" / "sea", tmp_path / "broken.png", "--class", "sea"]
    status, out, message = densenet_model("saliency", folder, *words, "--format", "svg")
    assert status == 1
    assert "broken.png: cannot be read" in message
    assert "1 of 8 images are left out" in message
    with open("figures/saliency.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["explained"]) for row in rows] == 7 * [("sea", "sea")]
    assert "Grad-CAM: " in out


def test_data_root_is_refused_for_data_that_are_not_in_a_folder(trained_run, densenet_model, tmp_path):
    shutil.copytree(trained_run[0], tmp_path / "digits")
    record = json.loads((tmp_path / "digits" / "run.json").read_text())
    record["config"]["data"] = {"_target_": "densenet_cli.data.digits.Digits", "batch_size": 8}
    (tmp_path / "digits" / "run.json").write_text(json.dumps(record))
    status, _, message = densenet_model("maps", tmp_path / "digits", "--data-root", "photos")
    assert status == 1
    rule = "the data of this run, densenet_cli.data.digits.Digits, are not read from a folder"
    assert f"--data-root=photos: {rule}; leave it out" in message
