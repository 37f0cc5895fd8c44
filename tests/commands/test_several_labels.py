"""Images that can have several labels, from training by the real command to what is made of it."""

import csv
import io
import json
import subprocess
import sys

import findings
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score
from tiny_run import TINY

from densenet_cli.config.trust import Trust
from densenet_cli.inference import trained_network
from densenet_cli.inference.evaluation import evaluate

TRUST = ("--trust", "findings.Findings")


def _run(folder, module, *words):
    return subprocess.run(
        [sys.executable, "-m", f"densenet_cli.commands.{module}", *words],
        cwd=folder,
        env=findings.environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, and what the command printed."""
    folder = tmp_path_factory.mktemp("several")
    words = [*TINY, *findings.words_for(folder), "data.validation=60", "recipe.class_weights=balanced"]
    answer = _run(folder, "run", *words, "recipe.label_smoothing=0.1", "hydra.run.dir=run")
    assert answer.returncode == 0, answer.stderr
    return folder / "run", answer


@pytest.fixture
def network(trained):
    return trained_network.load(trained[0], "cpu", trust=Trust.of(["findings.Findings"], (), None))


def test_a_run_says_auroc_and_f1_and_which_labels_they_leave_out(trained):
    folder, answer = trained
    fields = json.loads((folder / "run.json").read_text())
    results = fields["results"]
    assert fields["data"]["several_labels"] is True
    auroc = f"{1 - results['test_error'] / 100:.4f} (F1: {results['test_f1']:.4f})"
    assert "labels: fluid, mass, node, rare\n" in answer.stdout
    assert f"test AUROC         {auroc}\n" in answer.stdout
    assert "error" not in answer.stdout
    assert answer.stderr.count("no test image or every one has the label rare: left out") == 1
    assert not (folder / "outcomes.json").exists()
    (row, *_) = csv.DictReader(io.StringIO((folder / "metrics.csv").read_text()))
    assert {"train_f1", "validation_f1", "train_error", "validation_error"} <= row.keys()
    data = findings.Findings(validation=60)
    data.prepare()
    counts, known = data.class_counts()
    assert fields["class_weights"] == pytest.approx(((known - counts) / counts).tolist(), rel=1e-5)


def test_evaluate_gives_the_results_of_the_run_and_of_each_label(trained, network, densenet_model):
    results = json.loads((trained[0] / "run.json").read_text())["results"]
    found = evaluate(network, None)
    assert found.measured == {name: results[f"test_{name}"] for name in ("loss", "error", "f1")}
    labels, scores = found.labels.numpy(), found.logits.double().sigmoid().numpy()
    aurocs = [roc_auc_score(labels[:, one], scores[:, one]) for one in range(3)]
    assert results["test_error"] == pytest.approx(100 - 100 * np.mean(aurocs), abs=1e-3)
    f1 = f1_score(labels[:, :3], scores[:, :3] > 0.5, average="macro", zero_division=0)
    assert results["test_f1"] == pytest.approx(f1, abs=1e-5)
    by_name = {one.name: one for one in found.classes()}
    for one, name in enumerate(("fluid", "mass", "node")):
        assert by_name[name].auroc == pytest.approx(aurocs[one], abs=1e-6)
        assert by_name[name].images == labels[:, one].sum()
    assert by_name["rare"] == ("rare", None, 0, None, None)
    status, out, _ = densenet_model("evaluate", trained[0], *TRUST)
    assert (status, out.split()[:4]) == (0, ["images", "200", "AUROC", f"{np.mean(aurocs):.4f}"])


def test_evaluate_refuses_a_folder_for_each_class(trained, densenet_model, tmp_path):
    status, _, message = densenet_model("evaluate", trained[0], tmp_path, *TRUST)
    assert status == 1
    assert f"FOLDER={tmp_path}: holds one class for each image" in message
    assert "leave it out to evaluate the test images of the run" in message


def test_predict_gives_the_sigmoid_of_each_label(trained, network, densenet_model, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 160, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    logits = network.logits(torch.from_numpy(pixels)[None])[0]
    words = ("predict", trained[0], tmp_path / "a.png", *TRUST, "--top", "4", "--format")
    status, out, _ = densenet_model(*words, "json")
    (found,) = json.loads(out)
    assert status == 0
    expected = dict(zip(network.class_names, logits.sigmoid().tolist(), strict=True))
    assert {one["class"]: one["probability"] for one in found["classes"]} == pytest.approx(
        expected, abs=1e-6
    )
    over = [name for name, probability in expected.items() if probability > 0.5]
    assert found["labels"] == over
    (row,) = csv.DictReader(io.StringIO(densenet_model(*words, "csv")[1]))
    assert row["labels"] == ";".join(over)
    assert (", ".join(over) or "none") in " ".join(densenet_model(*words, "table")[1].split())


def test_an_exported_file_says_what_its_logits_are(trained, densenet_model, tmp_path):
    path = tmp_path / "network.pt2"
    words = ("--format", "torch-export", "--output", path)
    assert densenet_model("export", trained[0], *TRUST, *words)[0] == 0
    program = torch.export.load(path, extra_files=(extra := {"metadata.json": ""}))
    known = json.loads(extra["metadata.json"])
    assert known["several_labels"] == "true"
    assert json.loads(known["class_names"]) == ["fluid", "mass", "node", "rare"]
    results = json.loads((trained[0] / "run.json").read_text())["results"]
    assert json.loads(known["test_auroc"]) == pytest.approx(1 - results["test_error"] / 100)
    assert json.loads(known["test_f1"]) == results["test_f1"]
    assert "test_error" not in known
    pixels = torch.randint(256, (2, 8, 8, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(json.loads(known[name])) for name in ("mean", "std"))
    found = program.module()(((pixels / 255 - mean) / std).permute(0, 3, 1, 2)).sigmoid()
    trust = Trust.of(["findings.Findings"], (), None)
    network = trained_network.load(trained[0], "cpu", "32-true", trust)
    expected = network.probabilities(network.logits(pixels))
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-4)
    assert known["output"] == (
        "logits (N, 4) float32; probabilities: the sigmoid of each, its class alone"
    )


@pytest.mark.parametrize("study", ["mistakes", "lesions", "reuse"])
def test_studies_of_right_and_wrong_images_say_that_they_need_one_label(study, trained, densenet_model):
    status, _, message = densenet_model(study, trained[0], *TRUST, "--images", 8, "--format", "json")
    assert status == 1
    assert "its images can have several labels" in message
    assert "needs images with one label each" in message


@pytest.mark.parametrize("study", ["gradients", "maps", "saliency"])
def test_other_studies_take_them(study, trained, densenet_model):
    status, out, message = densenet_model(study, trained[0], *TRUST, "--images", 4, "--format", "json")
    assert status == 0, message
    assert json.loads(out)["networks"]


@pytest.mark.slow
def test_a_loss_of_one_label_is_refused(command, tmp_path):
    words = [*TINY, *findings.words_for(tmp_path), "recipe.loss=cross_entropy"]
    answer = command(*words, PYTHONPATH=findings.environment()["PYTHONPATH"])
    assert answer.returncode == 1
    assert "recipe.loss=cross_entropy: takes images with one label each; these have" in answer.stderr
    assert "for example recipe.loss=binary_cross_entropy\n" in answer.stderr


@pytest.mark.slow
def test_a_sweep_is_compared_decided_and_reported(tmp_path):
    words = [*TINY, *findings.words_for(tmp_path), "epochs=1", "sweep.name=two"]
    grid = ("seed=0,1", "recipe.class_weights=null,balanced")
    answer = _run(tmp_path, "run", "--multirun", *words, *grid)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("done    AUROC 0.") == 4
    table = _run(tmp_path, "results", "table", "outputs/two", "--format", "json")
    assert [row["n"] for row in json.loads(table.stdout)] == [2, 2]
    assert all(0 < row["auroc_mean"] < 1 for row in json.loads(table.stdout))
    baseline = ("--baseline", "recipe.class_weights=null")
    decided = _run(tmp_path, "results", "decide", "outputs/two", *baseline)
    assert "No image is right or wrong as a whole" in decided.stdout
    report = _run(tmp_path, "results", "report", "outputs/two", "--output", "report.html")
    assert report.returncode == 0, report.stderr
    assert "Test AUROC on findings" in (tmp_path / "report.html").read_text()


SWEEP = ["--multirun", *TINY, "epochs=1", "data.validation=60", "sweep.name=mine"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [
                "hydra/sweeper=optuna",
                "hydra.sweeper.trials=2",
                "recipe.optimizer.lr=interval(0.01,0.1)",
            ],
            "validation AUROC: {:.4f}\n",
        ),
        (
            [
                *("model.growth_rate=4,6", "seeds=until_decided", "sweep.baseline=model.growth_rate=4"),
                *("sweep.first_seeds=2", "sweep.most_seeds=2"),
            ],
            "mean test error: 100 % minus the mean AUROC, since images can have several labels\n",
        ),
    ],
    ids=["search", "until_decided"],
)
def test_what_a_sweep_finds_is_said_as_auroc(words, said, tmp_path):
    answer = _run(tmp_path, "run", *SWEEP, *findings.words_for(tmp_path), *words)
    assert answer.returncode == 0, answer.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/mine/*/run.json")]
    best = min(record["results"]["validation_error_last"] for record in records)
    assert said.format(1 - best / 100) in answer.stdout
