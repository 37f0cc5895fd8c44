"""Two processes train on photos as one does: each image once an epoch, metrics of all of them."""

import csv
from pathlib import Path

import pytest
import torch

# Without batch norm and dropout, which depend on how a batch is shared. 16 images train,
# by the table 12: no batch has an odd image that two processes leave out, and they mix the same pairs.
LENET = [
    *("model=history/lenet_5", "recipe=constant", "epochs=2", "trainer.precision=32-true"),
    *("recipe.optimizer.lr=0.1", "data.image_size=32", "data.batch_size=8", "data.channels=1"),
]
FOLDER = ["data=image_folder", "data.root=photos"]
TABLE = ["data=image_table", "data.table=labels.csv", "data.images=photos", "data.labels=multi"]
RAW = ["data.pack=true", "data.pack_quality=raw"]
MIXED = ["recipe.mixup=0.2", "recipe.class_weights=balanced", "recipe.ema_decay=0.5"]


@pytest.fixture
def labels(photos, tmp_path):
    """A table of the photos: each has one, two or none of three labels, or it is not known."""
    rows = [
        {"path": str(path.relative_to(photos)), "round": n % 2, "red": n // 2 % 2, "old": n % 3 // 2}
        for n, path in enumerate(sorted(photos.rglob("*.png")))
    ]
    rows[3]["red"] = rows[8]["old"] = -1
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.slow
@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param([*FOLDER, *RAW, *MIXED, "data.test_crops=10"], id="folder"),
        pytest.param([*TABLE, *RAW, "data.uncertain=ignore", "data.validation=4"], id="table"),
    ],
)
def test_two_processes_train_on_packs_as_one_does(words, command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("cpu", "ddp_cpu"):
        answer = command(*LENET, *words, f"trainer={name}", f"hydra.run.dir=outputs/{name}")
        assert answer.returncode == 0, answer.stderr
    one, two = (_metrics(Path("outputs", name)) for name in ("cpu", "ddp_cpu"))
    assert len(one) == len(two) == 2
    for alone, together in zip(one, two, strict=True):
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            assert together[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    weights = _weights(Path("outputs/ddp_cpu"))
    for name, value in _weights(Path("outputs/cpu")).items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)


def _metrics(run):
    """The metrics after each epoch, without what depends on the machine."""
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    timed = ("images_per_second", "seconds")
    return [{k: float(v) for k, v in row.items() if v and not k.endswith(timed)} for row in rows]


def _weights(run):
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
