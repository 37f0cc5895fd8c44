"""densenet-model on a run of the real command, on pictures made here."""

import csv
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tiny_run import TINY

from densenet_cli.commands import model as cli
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.photo import read_rgb, ten_crops
from densenet_cli.inference import trained

COLOURS = {"grass": (40, 160, 40), "sea": (40, 60, 200), "stone": (120, 120, 120)}


def pictures(folder, count, seed):
    """Noisy pictures of a colour, in folders of their names; PNG and JPEG, wide and tall."""
    chance = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            size = (30, 24, 3) if number % 2 else (20, 36, 3)
            pixels = np.clip(np.array(colour) + chance.normal(0, 60, size), 0, 255).astype(np.uint8)
            kind = "png" if number % 3 else "jpg"
            Image.fromarray(pixels).save(folder / name / f"{number}.{kind}")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on photos in float32, and its folder of pictures."""
    folder = tmp_path_factory.mktemp("trained")
    pictures(folder / "photos" / "train", 12, seed=0)
    pictures(folder / "photos" / "test", 7, seed=1)
    words = [*TINY, "data=image_folder", "data.root=photos", "data.image_size=16", "data.num_workers=1"]
    answer = subprocess.run(
        [sys.executable, "-m", "densenet_cli.commands.run", *words, "trainer.precision=32-true",
         "recipe.batch_size=8", "epochs=1", "hydra.run.dir=run"],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return folder / "run", folder / "photos"


@pytest.fixture
def typed(monkeypatch, capsys):
    """Type densenet-model within this process: exit status, output, messages."""

    def type_(*words):
        monkeypatch.setattr(sys, "argv", ["densenet-model", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        status, message = end.value.code, said.err
        return (
            (1, said.out, message + status) if isinstance(status, str) else (status, said.out, message)
        )

    return type_


def test_evaluate_gives_what_the_run_measured_on_the_same_pictures(run, typed):
    folder, photos = run
    results = json.loads((folder / "run.json").read_text())["results"]
    from densenet_cli.inference.evaluation import evaluate

    answers = evaluate(trained.load(folder, "cpu"), photos)
    assert answers.measured == {name: results[f"test_{name}"] for name in ("error", "loss")}
    status, out, _ = typed("evaluate", folder, photos)
    assert status == 0
    assert f"{results['test_error']:.2f} %" in out


def test_predict_names_classes_with_their_probabilities(run, typed):
    folder, photos = run
    status, out, _ = typed("predict", folder, photos / "test", "--format", "csv", "--batch-size", "5")
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
    as_json = json.loads(typed("predict", folder, photos / "test", "--format", "json")[1])
    assert [one["file"] for one in as_json] == [row["file"] for row in rows]
    assert [one["classes"][0]["class"] for one in as_json] == [row["class"] for row in rows]
    table = typed("predict", folder, photos / "test" / "sea" / "1.png")[1]
    assert "1.png" in table


def test_ten_crops_are_the_mean_of_ten_answers(run):
    folder, photos = run
    network = trained.load(folder)
    path = photos / "test" / "sea" / "1.png"
    crops = ten_crops(path, 16, network.kept)
    whole = read_rgb(path)
    assert whole.shape == (30, 24, 3)
    assert torch.equal(crops[5:], crops[:5].flip(2))
    from densenet_cli.inference.predictions import predict

    (found,) = predict(network, [str(path)], top=3, ten_crop=True)
    expected = network.logits(crops).mean(0).softmax(0)
    names = [network.class_names[label] for label in expected.argsort(descending=True)]
    assert [name for name, _ in found.classes] == names
    assert [chance for _, chance in found.classes] == pytest.approx(sorted(expected.tolist())[::-1])


def test_files_that_are_no_pictures_are_named_and_the_rest_is_done(run, typed, tmp_path):
    folder, photos = run
    (tmp_path / "broken.png").write_bytes(b"no picture")
    status, out, message = typed(
        "predict", folder, tmp_path / "broken.png", photos / "test" / "sea" / "1.png", "--format", "csv"
    )
    assert status == 1
    assert len(out.splitlines()) == 2
    assert "broken.png: cannot be read" in message
    assert "1 of 2 pictures are left out" in message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "nowhere", "x.png"], "x.png: there is no such file or folder"),
        (["predict", "nowhere", "."], "there is no image in it"),
        (["evaluate", "nowhere", "."], "nowhere: there is no such run"),
        (["gradients", "nowhere", "--images", "1"], "--images=1: must be 2 or more"),
        (["summary", "model=densenet_bc_1000"], "did you mean model=densenet_bc_100"),
        (["summary", "model=densenet_bc", "model.depth=11"], "model.depth=11"),
        (
            ["summary", "model=densenet_121", "--image-size", "8"],
            "images of 8 × 8 pixels are too small",
        ),
        (["lesions", "nowhere"], "nowhere: there is no such run"),
        (["lesions", "nowhere", "--format", "jpg"], "--format=jpg: must be one of"),
        (["saliency", "nowhere", "--pictures", "x.png"], "x.png: there is no such file or folder"),
        (["depth", "model=resnte"], "did you mean model=resnet"),
        (["depth", "model=plain model.depth=9"], "model.depth=9: must be 6n + 2"),
    ],
)
def test_errors_are_one_message(typed, words, said):
    status, _, message = typed(*words)
    assert status == 1
    assert said in message
    assert message.startswith("densenet-model: ")
    assert len(message.splitlines()) == 1


def test_runs_of_one_network_are_told_apart_in_the_terminal(run, typed, tmp_path):
    folder, photos = run
    shutil.copytree(folder, tmp_path / "k=4,seed=1")
    words = [folder, tmp_path / "k=4,seed=1", "--output", tmp_path]
    assert "[k=4,seed=1], untrained" in " ".join(typed("reuse", *words)[1].split())
    more = ["--images", "9", "--most", "1", "--draws", "1", "--data-root", photos]
    assert "[k=4,seed=1]" in typed("lesions", *words, *more)[1]


def test_a_device_that_is_not_there_is_refused(run, typed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, message = typed("evaluate", run[0], run[1], "--device", "cuda")
    assert status == 1
    assert "--device=cuda: is not there, as far as torch can tell; for example --device=cpu" in message


def test_other_data_than_those_of_the_run_are_refused(run, typed, tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        pictures(tmp_path / "others" / part, count, seed=3)
    words = ["mistakes", run[0], "--data-root", tmp_path / "others", "--output", tmp_path]
    status, _, message = typed(*words)
    assert status == 1
    assert "there are 9 train images, and there were 36" in message
    for part in ("train", "test"):
        (tmp_path / "others" / part / "sea").rename(tmp_path / "others" / part / "lake")
    status, _, message = typed(*words)
    assert status == 1
    assert "class 2 was sea (of 3) and is lake now (of 3)" in message
    assert f"--data-root={tmp_path}/others: holds other images" in message
    status, _, message = typed("mistakes", run[0], "--output", tmp_path)
    assert (status, message.splitlines()[0]) == (
        1,
        "densenet-model: --data-root=photos: is no folder; for example --data-root=/path/to/images",
    )


def test_predictions_of_files_with_names_in_no_alphabet_are_written(run, typed, tmp_path):
    path = os.fsdecode(bytes(tmp_path / "names") + b"/caf\xe9.png")
    (tmp_path / "names").mkdir()
    shutil.copy(run[1] / "test" / "sea" / "1.png", path)
    words = [run[0], "--output", tmp_path / "answers.csv", "--format", "csv"]
    assert typed("predict", *words, tmp_path / "names")[0] == 0
    assert r"/caf\xe9.png," in (tmp_path / "answers.csv").read_text()
    words = [run[0], "--output", tmp_path, "--pictures", tmp_path / "names"]
    assert typed("saliency", *words)[0] == 0
    assert "caf\ufffd.png" in (tmp_path / "saliency.csv").read_text()


def test_an_option_that_cannot_be_followed_leaves_what_is_in_the_file(
    typed, tmp_path, monkeypatch, run
):
    monkeypatch.setattr(ImageFolder, "kept", 1)
    (tmp_path / "old.csv").write_text("kept")
    picture = run[1] / "test" / "sea" / "1.png"
    words = ["predict", run[0], picture, "--ten-crop", "--output", tmp_path / "old.csv"]
    status, _, message = typed(*words)
    assert status == 1
    assert "--ten-crop: this network takes pictures whole" in message
    assert (tmp_path / "old.csv").read_text() == "kept"


def test_unknown_classes_are_refused(run, typed, tmp_path):
    pictures(tmp_path / "more", 1, seed=2)
    (tmp_path / "more" / "sea").rename(tmp_path / "more" / "lake")
    status, _, message = typed("evaluate", run[0], tmp_path / "more")
    assert status == 1
    assert "classes that the network does not know: lake; it knows grass, sea, stone" in message


def test_a_class_without_pictures_and_what_is_left_out_are_named(run, typed, tmp_path, caplog):
    pictures(tmp_path / "more", 1, seed=2)
    (tmp_path / "more" / "sea" / "again").symlink_to("..")
    (tmp_path / "more" / "notes.txt").write_text("")
    status, said, _ = typed("evaluate", run[0], tmp_path / "more")
    assert (status, said.splitlines()[0].split()) == (0, ["pictures", "3"])
    assert f"{tmp_path}/more: left out: files of other kinds: 1 (.txt); links to folders" in caplog.text
    shutil.rmtree(tmp_path / "more" / "sea")
    (tmp_path / "more" / "sea").mkdir()
    (tmp_path / "more" / "sea" / "a.heic").write_text("")
    status, _, message = typed("evaluate", run[0], tmp_path / "more")
    assert status == 1
    assert (
        f"FOLDER={tmp_path}/more: has no image in {tmp_path}/more for 1 of 3 classes: sea (" in message
    )
    assert "(left out: files of other kinds: 2 (.txt, .heic))" in message


def test_links_between_splits_are_followed_as_in_training(run, typed, tmp_path):
    shutil.copytree(run[1], tmp_path / "more")
    (tmp_path / "more" / "test" / "sea" / "x").symlink_to("../../train/sea")
    (tmp_path / "more" / "train" / "sea" / "y").symlink_to("../../test/sea")
    data = ImageFolder(str(tmp_path / "more"), batch_size=8, image_size=16)
    data.prepare()
    status, said, _ = typed("evaluate", run[0], tmp_path / "more")
    assert (status, said.splitlines()[0].split()) == (0, ["pictures", str(data.sizes["test"])])


def test_it_is_said_why_no_picture_can_be_read(run, typed):
    folder = run[1] / "test"
    for words in (
        ["evaluate", run[0], folder],
        ["export", run[0], "--format", "onnx", "--check", folder],
    ):
        status, _, message = typed(*words, "--max-pixels", "9")
        assert status == 1
        assert f"{folder}/grass/0.jpg cannot be read: it has 720 pixels; --max-pixels 720" in message


class _Harmful:
    def __reduce__(self):
        return open, ("harmed", "w")


def test_a_checkpoint_that_holds_code_is_refused(run, typed, tmp_path):
    folder, photos = run
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text((folder / "run.json").read_text())
    hostile = tmp_path / "run" / "checkpoints" / "last.ckpt"
    hostile.write_bytes(pickle.dumps({"state_dict": _Harmful()}))
    status, _, message = typed("predict", tmp_path / "run", photos)
    assert status == 1
    assert "more than plain data" in message
    assert not (tmp_path / "harmed").exists()


def test_summary_counts_as_the_records_do(typed):
    status, out, _ = typed("summary", "model=densenet_bc", "model.depth=22", "model.growth_rate=12")
    assert status == 0
    assert "71,686 parameters" in out  # facts: DenseNet-BC (22, 12)
    assert "31,238,322 multiply-adds" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "24 x 32 x 32" in rows["conv0"]
    assert f"{3 * 24 * 9:,}" in rows["conv0"]
    assert f"{3 * 24 * 9 * 32 * 32:,}" in rows["conv0"]
    assert {"network", "denseblock1", "transition2", "norm5", "classifier"} <= rows.keys()


@pytest.mark.parametrize("form", ["onnx", "torch-export", "safetensors"])
def test_exported_files_answer_as_the_network_for_batches_of_any_size(
    run, typed, tmp_path, form, recwarn
):
    folder, photos = run
    pytest.importorskip({"onnx": "onnxruntime"}.get(form, "torch"))
    path = tmp_path / "network.file"
    status, out, message = typed(
        "export", folder, "--format", form, "--output", path, "--check", photos / "test"
    )
    assert status == 0, message
    assert "on 21 pictures" in out
    assert not [str(one.message) for one in recwarn if "complete tensor" in str(one.message)]
    network = trained.load(folder, "cpu")
    image = read_rgb(photos / "test" / "sea" / "1.png")[:16, :16][None]
    expected = network.logits(image)
    inputs = network.inputs(image)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        found = torch.from_numpy(session.run(None, {"images": inputs.contiguous().numpy()})[0])
        known = session.get_modelmeta().custom_metadata_map
    elif form == "torch-export":
        extra = {"metadata.json": ""}
        found = torch.export.load(path, extra_files=extra).module()(inputs).detach()
        known = json.loads(extra["metadata.json"])
    else:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            known = file.metadata()
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network.network.load_state_dict(weights)
        found = network.network(inputs).detach()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert json.loads(known["class_names"]) == ["grass", "sea", "stone"]
    assert json.loads(known["mean"]) == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("command", "options", "files"),
    [
        ("reuse", [], ["reuse"]),
        ("lesions", ["--images", "9", "--most", "1", "--draws", "1"], ["lesions"]),
        ("gradients", ["--images", "9"], ["gradients"]),
        ("maps", ["--images", "9"], ["maps"]),
        ("mistakes", [], ["calibration", "confusion", "mistakes"]),
        ("saliency", ["--images", "3"], ["saliency"]),
    ],
)
def test_analyses_leave_figures_and_their_numbers(run, typed, tmp_path, command, options, files):
    folder, photos = run
    moved = [] if command == "reuse" else ["--data-root", photos]
    status, out, message = typed(
        command, folder, *options, *moved, "--output", tmp_path / "figures", "--format", "svg"
    )
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
        assert all(row["class"] != row["taken_for"] for row in rows)


def test_a_run_that_is_of_no_densenet_is_named(run, typed, monkeypatch):
    def load(*asked):
        return replace(trained.load(*asked), network=torchvision.models.resnet18())

    monkeypatch.setattr("densenet_cli.analysis.runs.load", load)
    status, _, message = typed("reuse", run[0])
    assert status == 1
    reason = "ResNet is no DenseNet: it has no dense blocks"
    assert message == f"densenet-model: {run[0]}/checkpoints/last.ckpt: {reason}"


def test_saliency_of_ones_own_pictures_leaves_out_what_is_none(run, typed, tmp_path):
    folder, photos = run
    (tmp_path / "broken.png").write_bytes(b"no picture")
    words = ["--pictures", photos / "test" / "sea", tmp_path / "broken.png", "--class", "sea"]
    status, out, message = typed("saliency", folder, *words, "--format", "svg")
    assert status == 1
    assert "broken.png: cannot be read" in message
    assert "1 of 8 pictures are left out" in message
    with open("figures/saliency.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["looked_for"]) for row in rows] == 7 * [("sea", "sea")]
    assert "Grad-CAM: " in out


def test_pixels_are_those_that_became_inputs(run):
    network = trained.load(run[0], "cpu")
    images = torch.randint(256, (2, *network.image_size, 3), dtype=torch.uint8)
    shown = network.pixels(network.inputs(images))
    torch.testing.assert_close(255 * shown, images.float(), rtol=0, atol=1e-3)
