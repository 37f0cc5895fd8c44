"""densenet-model evaluate, on image files made here."""

import json
import shutil

import torch
from colour_images import write_images

from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.inference import trained_network


def test_evaluate_gives_the_error_of_the_run_on_the_same_images(trained_run, densenet_model):
    folder, photos = trained_run
    results = json.loads((folder / "run.json").read_text())["results"]
    from densenet_cli.inference.evaluation import evaluate

    answers = evaluate(trained_network.load(folder, "cpu"), photos)
    assert answers.measured == {name: results[f"test_{name}"] for name in ("error", "loss")}
    status, out, _ = densenet_model("evaluate", folder, photos)
    assert status == 0
    assert f"{results['test_error']:.2f} %" in out


def test_a_missing_device_is_refused(trained_run, densenet_model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, message = densenet_model("evaluate", trained_run[0], trained_run[1], "--device", "cuda")
    assert status == 1
    assert "--device=cuda: torch finds no such device; for example --device=cpu" in message


def test_a_folder_for_the_data_of_the_run_is_refused_beside_other_images(trained_run, densenet_model):
    status, _, message = densenet_model("evaluate", *trained_run, "--data-root", "x")
    assert status == 1
    assert "--data-root=x: is for a table, or the test images of the run" in message


def test_unknown_classes_are_refused(trained_run, densenet_model, tmp_path):
    write_images(tmp_path / "more", 1, seed=2)
    (tmp_path / "more" / "sea").rename(tmp_path / "more" / "lake")
    status, _, message = densenet_model("evaluate", trained_run[0], tmp_path / "more")
    assert status == 1
    assert "classes that the network does not know: lake; it knows grass, sea, stone" in message


def test_classes_without_images_and_files_left_out_are_named(
    trained_run, densenet_model, tmp_path, caplog
):
    write_images(tmp_path / "more", 1, seed=2)
    (tmp_path / "more" / "sea" / "again").symlink_to("..")
    (tmp_path / "more" / "notes.txt").write_text("")
    status, out, _ = densenet_model("evaluate", trained_run[0], tmp_path / "more")
    assert (status, out.splitlines()[0].split()) == (0, ["images", "3"])
    assert f"{tmp_path}/more: left out: files of other kinds: 1 (.txt); links to folders" in caplog.text
    shutil.rmtree(tmp_path / "more" / "sea")
    (tmp_path / "more" / "sea").mkdir()
    (tmp_path / "more" / "sea" / "a.heic").write_text("")
    status, _, message = densenet_model("evaluate", trained_run[0], tmp_path / "more")
    assert status == 1
    assert (
        f"FOLDER={tmp_path}/more: has no image in {tmp_path}/more for 1 of 3 classes: sea (" in message
    )
    assert "(left out: files of other kinds: 2 (.txt, .heic))" in message


def test_links_between_splits_are_followed_as_in_training(trained_run, densenet_model, tmp_path):
    shutil.copytree(trained_run[1], tmp_path / "more")
    (tmp_path / "more" / "test" / "sea" / "x").symlink_to("../../train/sea")
    (tmp_path / "more" / "train" / "sea" / "y").symlink_to("../../test/sea")
    data = ImageFolder(str(tmp_path / "more"), batch_size=8, image_size=16)
    data.prepare()
    status, out, _ = densenet_model("evaluate", trained_run[0], tmp_path / "more")
    assert (status, out.splitlines()[0].split()) == (0, ["images", str(data.sizes["test"])])


def test_the_message_says_why_no_image_can_be_read(trained_run, densenet_model):
    folder = trained_run[1] / "test"
    for words in (
        ["evaluate", trained_run[0], folder],
        ["export", trained_run[0], "--format", "onnx", "--check", folder],
    ):
        status, _, message = densenet_model(*words, "--max-pixels", "9")
        assert status == 1
        assert f"{folder}/grass/0.jpg cannot be read: it has 720 pixels; --max-pixels 720" in message
