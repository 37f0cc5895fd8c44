"""A run on image files made here, and densenet-model run within this process."""

import subprocess
import sys

import pytest
from colour_images import write_images
from tiny_run import TINY

from densenet_cli.commands import model as cli
from densenet_cli.inference import image_batches


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The folder of a run in float32, and the folder of its images."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder / "photos" / "train", 12, seed=0)
    write_images(folder / "photos" / "test", 7, seed=1)
    words = [*TINY, "data=image_folder", "data.root=photos", "data.image_size=16", "data.num_workers=1"]
    answer = subprocess.run(
        [sys.executable, "-m", "densenet_cli.commands.run", *words, "trainer.precision=32-true",
         "recipe.batch_size=8", "epochs=1", "hydra.run.dir=run"],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return folder / "run", folder / "photos"


@pytest.fixture
def densenet_model(monkeypatch, capsys):
    """Run densenet-model within this process; gives exit status, standard output, messages."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["densenet-model", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        status = end.value.code
        return (1, out, err + status) if isinstance(status, str) else (status, out, err)

    yield run
    image_batches.limit(None)  # --max-pixels holds for the whole process
