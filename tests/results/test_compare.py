"""What differs between two runs."""

from __future__ import annotations

import pytest
from example_record import RESNET, fields, write

from densenet_cli.options import UserError
from densenet_cli.results.compare import show


@pytest.fixture
def compared(tmp_path, capsys):
    """What is shown for two records, as lines without spaces at their ends."""

    def run(a, b, metrics=()):
        for name, (error, options) in (("a", a), ("b", b)):
            write(tmp_path / name, error, **options)
        for name, text in zip("ab", metrics, strict=False):
            (tmp_path / name / "metrics.csv").write_text(text)
        show(tmp_path / "a", tmp_path / "b")
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return run


def test_runs_that_differ_only_in_the_seed(compared):
    lines = compared((4.5, {}), (4.8, {"seed": 1}))
    assert "Only the seed differs." in lines
    assert "seed 0 1" in lines
    assert "The environment is the same." in lines
    assert "test error, % 4.50 4.80 +0.30" in lines


def test_the_same_run_twice(compared):
    lines = compared((4.5, {}), (4.5, {"data__root": "elsewhere"}))
    assert "No option that affects the results differs." in lines
    assert "data.root (without effect) ~/.cache/densenet-cli elsewhere" in lines
    assert "test error, % 4.50 4.50 0.00" in lines


def test_options_that_differ_or_are_missing(compared):
    lines = compared((4.5, {}), (4.1, {"model": RESNET, "epochs": 5}))
    assert "epochs 300 5" in lines
    assert "model.growth_rate 12 –" in lines
    assert "model.shortcut – A" in lines
    assert "model.depth 100 110" in lines
    assert "test error, % 4.50 4.10 −0.40" in lines
    assert not any(line.startswith("recipe.optimizer.lr") for line in lines)
    assert not any("Nothing differs" in line for line in lines)


def test_environment_and_cost(compared):
    versions = {"python": "3.11.7", "torch": "2.15.0", "torchvision": "0.29.1"}
    other = {"device": "Xeon, 2 threads", "versions": versions, "seconds": 72000.0}
    lines = compared((4.5, {}), (4.5, other))
    assert "versions.torch 2.14.1 2.15.0" in lines
    assert "device NVIDIA H100 Xeon, 2 threads" in lines
    assert not any(line.startswith("versions.python") for line in lines)
    assert "time 10:00:00 h 20:00:00 h +10:00:00 h" in lines
    assert "The environment is the same." not in lines


def test_other_images_are_a_warning(compared):
    data = fields()["data"]
    data["sizes"] = {"train": 45000, "validation": 5000, "test": 10000}
    lines = compared((4.5, {}), (4.5, {"data": data}))
    assert "The images differ, so the errors cannot be compared." in lines
    assert "sizes.train 50000 45000" in lines


def test_images_are_compared_by_digest(compared):
    data = fields()["data"]
    one, other = ({"data": data | {"digest": digest}} for digest in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"))
    lines = compared((4.5, one), (4.5, other))
    assert "The images differ, so the errors cannot be compared." in lines
    assert "digest aaaaaaaaaaaa bbbbbbbbbbbb" in lines
    for same in ({"data": data}, one):  # the first is older, and tells no digest
        assert not any("differ," in line for line in compared((4.5, one), (4.5, same)))


def test_images_with_another_mean_are_other_images(compared):
    data = fields()["data"]
    other = {**data, "statistics": {"mean": [0.4915, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}}
    lines = compared((4.5, {"data": data}), (4.5, {"data": other, "seed": 1}))
    assert "The images differ, so the errors cannot be compared." in lines


def test_the_lowest_test_error_is_marked_as_not_to_be_reported(compared):
    lines = compared((4.5, {}), (4.8, {}))
    assert "lowest test error, not to be reported, % 4.30 4.60 +0.30" in lines


def test_an_unfinished_run_is_shown_as_such(compared):
    lines = compared((4.5, {}), (None, {"state": "failed", "error": "out of memory", "results": {}}))
    assert any(line.endswith("/b (failed: out of memory)") for line in lines)
    assert "test error, % 4.50 –" in lines


def test_the_errors_after_each_epoch(compared):
    a = "epoch,test_error\n1,80\n2,60.5\n3,50\n"
    b = "epoch,test_error\n1,70\n2,61\n"
    lines = compared((4.5, {}), (4.5, {}), metrics=(a, b))
    at = lines.index("Error after each epoch, %")
    assert lines[at + 4 : at + 6] == ["1 80.00 70.00 −10.00", "2 60.50 61.00 +0.50"]
    assert lines[at + 6 :] == [""]


def test_many_epochs_are_thinned_out_and_the_last_is_shown(compared):
    text = "epoch,test_error\n" + "".join(f"{epoch},{90 - epoch / 5}\n" for epoch in range(1, 301))
    lines = compared((4.5, {}), (4.5, {}), metrics=(text, text))
    epochs = [
        int(line.split()[0]) for line in lines[lines.index("Error after each epoch, %") + 4 :] if line
    ]
    assert epochs == list(range(15, 301, 15))


def test_a_folder_without_a_run_is_refused(tmp_path):
    write(tmp_path / "a")
    with pytest.raises(UserError, match=f"{tmp_path}/b contains no run"):
        show(tmp_path / "a", tmp_path / "b")
