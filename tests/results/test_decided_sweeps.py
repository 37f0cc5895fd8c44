"""Sweeps with seeds=until_decided, read from their records."""

import json
from pathlib import Path

import pytest
from example_record import RESNET, fields, write

from densenet_cli.record.identity import setting
from densenet_cli.record.sweep_file import SweepFile, UntilDecided, write_sweep
from densenet_cli.results import watch

ERRORS = {"densenet": [4.5, 4.6, 4.4], "resnet": [6.5, 6.6, 6.4]}
MODELS = {"densenet": fields()["config"]["model"], "resnet": RESNET}


def _sweep(folder, name="", digest=None, shift=0.0, started="2026-11-22T02:00:00+00:00"):
    """Three runs of each setting, and what sweep.yaml says of them."""
    digests = {}
    for model, errors in ERRORS.items():
        for seed, error in enumerate(errors):
            path = write(
                folder / f"{model},{seed}{name}",
                error + shift,
                model=MODELS[model],
                seed=seed,
                started=started,
            )
            content = json.loads((path / "run.json").read_text())
            content["data"]["digest"] = digest
            (path / "run.json").write_text(json.dumps(content))
        digests[model] = setting(content["config"])
    fixed = UntilDecided("resnet", digests, 0, [3, 4], 0.05, None)
    write_sweep(folder, SweepFile(until_decided=fixed))


def test_a_sweep_whose_images_have_changed_is_decided_on_the_last_ones(results):
    folder = Path("outputs/mine")
    _sweep(folder, digest="aaaaaaaaaaaa", shift=3.0)
    _sweep(folder, "~bbbbbb", "bbbbbbbbbbbb", started="2026-11-23T02:00:00+00:00")
    answer = json.loads(results("decide", "outputs/mine", "--format", "json"))
    assert answer["baseline"]["error_percent_mean"] == pytest.approx(6.5)
    (one,) = answer["comparisons"]
    assert (one["verdict"], one["n_used"]) == ("undecided", 3)  # the differences are all the same
    assert "there is no spread to judge them by" in one["reason"]
    assert "the sweep goes on, and looks at 4 seeds next" in one["reason"]


def test_a_sweep_without_a_run_of_its_baseline_is_one_message(results):
    folder = Path("outputs/mine")
    _sweep(folder)
    for path in folder.glob("resnet*/run.json"):
        path.unlink()
    assert "no run of the sweep's baseline yet, resnet" in results("decide", "outputs/mine")


def test_watch_waits_between_two_rounds_and_for_no_run_that_failed():
    """All three seeds are done; a look at four seeds is to come."""
    folder = Path("outputs/mine")
    _sweep(folder)
    assert watch._goes_on(folder, watch.read_progress(folder))
    write(folder / "resnet,1", 6.6, model=RESNET, seed=1, state="failed")
    assert not watch._goes_on(folder, watch.read_progress(folder))
    _sweep(folder)
    for name, model in MODELS.items():
        write(folder / f"{name},3", 5.0, model=model, seed=3)
    assert not watch._goes_on(folder, watch.read_progress(folder))
