"""densenet-model pack, and packs in the other commands; on images made here."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from colour_images import write_images
from json_shape import check
from tiny_run import TINY

from densenet_cli.data.pack import Pack

WHOLE = ["--size", "whole"]


def test_a_pack_is_evaluated_as_its_folder_is(trained_run, densenet_model, tmp_path):
    run, photos = trained_run
    file = tmp_path / "a.pack"
    status, out, _ = densenet_model("pack", photos, *WHOLE, "--output", file, "--format", "json")
    assert status == 0
    made = json.loads(out)
    check("model pack", made)
    assert made["images"] == 57
    assert made["splits"] == {"train": 36, "test": 21}
    assert made["bytes"] == sum(path.stat().st_size for path in file.iterdir())
    status, text, _ = densenet_model("pack", photos, *WHOLE, "--output", file)
    assert status == 0
    assert text.startswith(f"{file}: 57 images, whole, files; ")
    assert text.endswith(f"densenet-run data=image_folder data.root={file}\n")
    for words in ([], ["--ten-crop"]):
        answers = [densenet_model("evaluate", run, one, *words)[:2] for one in (photos, file)]
        assert answers[0] == answers[1]
        assert answers[0][0] == 0
    status, out, _ = densenet_model("predict", run, file, "--format", "json")
    status_of_folder, expected, _ = densenet_model("predict", run, photos, "--format", "json")
    assert (status, status_of_folder) == (0, 0)
    by_file = {one["file"]: one["classes"] for one in json.loads(expected)}
    for one in json.loads(out):
        assert by_file[one["file"].replace(str(file), str(photos))] == one["classes"]


def test_messages_name_what_was_typed(trained_run, densenet_model, tmp_path):
    file = tmp_path / "a.pack"
    assert densenet_model("pack", trained_run[1], "--output", file)[0] == 0
    for words, message in (
        (["--size", "20"], "--size=20: "),
        (["--quality", "101"], "--quality=101: must be raw, or a whole number from 1 to 100"),
        (["--output", "/proc/a.pack"], "--output=/proc/a.pack: /proc/a.pack cannot be written"),
    ):
        status, _, found = densenet_model("pack", trained_run[1], "--output", file, *words)
        assert status == 1
        assert message in found
    status, _, found = densenet_model("pack", tmp_path / "nothing")
    assert (status, f"PHOTOS={tmp_path}/nothing: is not a folder" in found) == (1, True)
    other = write_images(tmp_path / "photos", 1, seed=3)
    assert other is None
    status, _, found = densenet_model("pack", tmp_path / "photos", "--output", file)
    assert status == 1
    assert f"--output={file}: holds other images than {tmp_path}/photos has now" in found


def test_a_pack_without_a_name_is_called_as_its_folder(densenet_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos-1.5", 2, seed=3)
    status, out, _ = densenet_model("pack", "photos-1.5")
    assert (status, out.partition(":")[0]) == (0, "photos-1.5.pack")


def test_broken_photos_are_refused_or_left_out(densenet_model, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 2, seed=3)
    (broken := sorted((tmp_path / "photos" / "sea").iterdir())[1]).write_bytes(b"no image")
    status, _, message = densenet_model("pack", "photos")
    assert status == 1
    assert (
        "1 of 6 images of photos are broken; repair or delete them, or type --skip-broken:" in message
    )
    status, _, message = densenet_model("pack", "photos", "--max-pixels", "9")
    assert "have more than --max-pixels 9; type --max-pixels 720 to read them:" in message
    status, out, _ = densenet_model("pack", "photos", "--skip-broken")
    assert status == 0
    assert "6 images (1 left out: broken), " in out
    assert out.endswith(" data.root=photos.pack data.skip_broken=true\n")
    assert f"photos/sea/{broken.name}: it has no image in a known format" in caplog.text


def test_the_images_of_a_table_are_packed(densenet_model, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 6, seed=0)
    names = sorted(path.relative_to(tmp_path / "photos") for path in tmp_path.glob("photos/*/*"))
    lines = [f"{name},{name.parent.name}" for name in names]
    (tmp_path / "my labels.csv").write_text("\n".join(["file,kind", *lines]))
    words = ["my labels.csv", "data.images=photos", "data.label_column=kind"]
    status, out, err = densenet_model("pack", *words, "--size", "16", "--quality", "raw")
    assert (status, len(Pack(tmp_path / "my labels.pack"))) == (0, len(names))
    command = out.splitlines()[-1].split(maxsplit=1)
    assert command[0] == "densenet-run"
    assert command[1].endswith(
        "'data.table=my labels.csv' data.images=photos data.label_column=kind "
        "'data.pack=my labels.pack' data.pack_size=16 data.pack_quality=raw"
    )
    image = ["data.image_size=16", "data.num_workers=0", "epochs=1"]
    assert typed(*TINY, *shlex.split(command[1]), *image, "hydra.run.dir=run") == (0, "")
    assert json.loads(Path("run/run.json").read_text())["data"]["pack"] == {
        "size": 16,
        "quality": "raw",
    }
    for word, message in (
        ("data.imags=photos", "data.imags=photos: there is no such option; did you mean data.images?"),
        ("model.depth=3", "model.depth=3: must be an option of the images"),
        ("data.images=nothing", "data.images=nothing: is not a folder"),
    ):
        status, _, err = densenet_model("pack", "my labels.csv", word)
        assert status == 1
        assert message in err


@pytest.mark.slow
@pytest.mark.parametrize("packed", [True, False], ids=["data.pack", "data.root"])
def test_a_killed_run_resumes_from_a_pack_bit_for_bit(packed, tmp_path):
    write_images(tmp_path / "photos" / "train", 60, seed=0)
    write_images(tmp_path / "photos" / "test", 5, seed=1)
    (tmp_path / "packs").mkdir()
    if not packed:
        subprocess.run(
            [sys.executable, "-m", "densenet_cli.commands.model", "pack", "photos", "--size", "20",
             "--output", "a.pack"],
            cwd=tmp_path, check=True,
        )  # fmt: skip

    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "densenet_cli.commands.run", *words],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def train(folder):
        data = (
            ["data.root=photos", "data.pack=packs", "data.pack_size=20", "data.pack_quality=raw"]
            if packed
            else ["data.root=a.pack"]
        )
        return start(
            *TINY, "data=image_folder", *data, "data.image_size=16", "data.num_workers=1",
            "trainer.precision=32-true", "epochs=4", "recipe.batch_size=4", "checkpoint_minutes=0.002",
            f"hydra.run.dir={folder}",
        )  # fmt: skip

    whole = train("whole")
    assert whole.wait() == 0, whole.stdout.read()
    killed, metrics = train("killed"), tmp_path / "killed" / "metrics.csv"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
        assert killed.poll() is None, killed.stdout.read()
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    place = []
    if packed:  # to another disk, for example
        (made,) = (tmp_path / "packs").iterdir()
        made.rename(tmp_path / "my pack (1).pack")
        place = ["data.pack=my pack (1).pack"]
        other = start("resume=killed", "data.pack=false")
        assert other.wait() == 1
        assert (
            "data.pack=false: would change the images of the run that is resumed" in other.stdout.read()
        )
    again = start("resume=killed", *place)
    assert again.wait() == 0, again.stdout.read()
    weights = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "killed")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("whole", "killed")]
    assert records[0]["results"] == records[1]["results"]
    assert records[0]["data"] == records[1]["data"]
    assert records[0]["data"]["pack"] == {"size": 20, "quality": "raw" if packed else 90}
