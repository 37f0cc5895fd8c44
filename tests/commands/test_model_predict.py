"""densenet-model predict, on image files made here."""

import csv
import io
import json
import os
import pickle
import shutil

import pytest
import torch

from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.photo import read_rgb, ten_crops
from densenet_cli.inference import export, trained_network


def test_predict_names_classes_with_their_probabilities(trained_run, densenet_model):
    folder, photos = trained_run
    status, out, _ = densenet_model(
        "predict", folder, photos / "test", "--format", "csv", "--batch-size", "5"
    )
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 21
    wrong = sum(row["file"].split("/")[-2] != row["class"] for row in rows)
    assert 100 * wrong / 21 == pytest.approx(
        json.loads((folder / "run.json").read_text())["results"]["test_error"], abs=1e-3
    )
    for row in rows:
        chances = [float(row[key]) for key in ("probability", "probability_2", "probability_3")]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert chances == sorted(chances, reverse=True)
    as_json = json.loads(densenet_model("predict", folder, photos / "test", "--format", "json")[1])
    assert [one["file"] for one in as_json] == [row["file"] for row in rows]
    assert [one["classes"][0]["class"] for one in as_json] == [row["class"] for row in rows]
    table = densenet_model("predict", folder, photos / "test" / "sea" / "1.png")[1]
    assert "1.png" in table


def test_probabilities_are_the_same_whatever_the_loss_was(trained_run, densenet_model, tmp_path):
    folder, photos = trained_run
    copy = shutil.copytree(folder, tmp_path / "run")
    record = json.loads((copy / "run.json").read_text())
    record["config"]["recipe"]["loss"] = "binary_cross_entropy"
    (copy / "run.json").write_text(json.dumps(record))
    words = (photos / "test" / "sea", "--format", "json")
    softmax, same = (json.loads(densenet_model("predict", one, *words)[1]) for one in (folder, copy))
    assert sum(one["probability"] for one in same[0]["classes"]) == pytest.approx(1, abs=1e-5)
    assert same == softmax
    assert export.metadata(trained_network.load(copy), "onnx")["output"] == (
        "logits (N, 3) float32; probabilities: their softmax"
    )


def test_ten_crops_give_the_mean_of_ten_logits(trained_run):
    folder, photos = trained_run
    network = trained_network.load(folder)
    path = photos / "test" / "sea" / "1.png"
    crops = ten_crops(path, 16, network.crop_fraction)
    whole = read_rgb(path)
    assert whole.shape == (30, 24, 3)
    assert torch.equal(crops[5:], crops[:5].flip(2))
    from densenet_cli.inference.predictions import predict

    (found,) = predict(network, [str(path)], top=3, ten_crop=True)
    expected = network.logits(crops).mean(0).softmax(0)
    names = [network.class_names[label] for label in expected.argsort(descending=True)]
    assert [name for name, _ in found.classes] == names
    assert [chance for _, chance in found.classes] == pytest.approx(sorted(expected.tolist())[::-1])


def test_unreadable_files_are_reported_and_skipped(trained_run, densenet_model, tmp_path):
    folder, photos = trained_run
    (tmp_path / "broken.png").write_bytes(b"no picture")
    status, out, message = densenet_model(
        "predict", folder, tmp_path / "broken.png", photos / "test" / "sea" / "1.png", "--format", "csv"
    )
    assert status == 1
    assert len(out.splitlines()) == 2
    assert "broken.png: cannot be read" in message
    assert "1 of 2 images are left out" in message


def test_file_names_that_are_not_utf8_are_written(trained_run, densenet_model, tmp_path):
    path = os.fsdecode(bytes(tmp_path / "names") + b"/caf\xe9.png")
    (tmp_path / "names").mkdir()
    shutil.copy(trained_run[1] / "test" / "sea" / "1.png", path)
    words = [trained_run[0], "--output", tmp_path / "answers.csv", "--format", "csv"]
    assert densenet_model("predict", *words, tmp_path / "names")[0] == 0
    assert r"/caf\xe9.png," in (tmp_path / "answers.csv").read_text()
    words = [trained_run[0], "--output", tmp_path, "--pictures", tmp_path / "names"]
    assert densenet_model("saliency", *words)[0] == 0
    assert "caf\ufffd.png" in (tmp_path / "saliency.csv").read_text()


def test_a_refused_option_does_not_change_the_output_file(
    densenet_model, tmp_path, monkeypatch, trained_run
):
    monkeypatch.setattr(ImageFolder, "crop_fraction", 1)
    (tmp_path / "old.csv").write_text("kept")
    picture = trained_run[1] / "test" / "sea" / "1.png"
    words = ["predict", trained_run[0], picture, "--ten-crop", "--output", tmp_path / "old.csv"]
    status, _, message = densenet_model(*words)
    assert status == 1
    assert "--ten-crop: this network takes images whole" in message
    assert (tmp_path / "old.csv").read_text() == "kept"


class _Harmful:
    def __reduce__(self):
        return open, ("harmed", "w")


def test_a_checkpoint_that_holds_code_is_refused(trained_run, densenet_model, tmp_path):
    folder, photos = trained_run
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text((folder / "run.json").read_text())
    hostile = tmp_path / "run" / "checkpoints" / "last.ckpt"
    hostile.write_bytes(pickle.dumps({"state_dict": _Harmful()}))
    status, _, message = densenet_model("predict", tmp_path / "run", photos)
    assert status == 1
    assert "more than plain data" in message
    assert not (tmp_path / "harmed").exists()


def test_pixels_are_the_inverse_of_inputs(trained_run):
    network = trained_network.load(trained_run[0], "cpu")
    images = torch.randint(256, (2, *network.image_size, 3), dtype=torch.uint8)
    shown = network.pixels(network.inputs(images))
    torch.testing.assert_close(255 * shown, images.float(), rtol=0, atol=1e-3)
