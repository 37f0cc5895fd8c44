"""densenet-results decide: the baseline, what can be compared, and what is printed."""

import csv
import io
import json
from pathlib import Path

import pytest
from example_record import RESNET, fields, write

from densenet_cli.options import OptionError, UserError
from densenet_cli.record import outcomes
from densenet_cli.record.outcomes import Outcomes
from densenet_cli.results import baseline, decide
from densenet_cli.results.decision_notes import notes_on_decisions
from densenet_cli.results.records import Run, read_runs
from densenet_cli.results.settings import settings

RESNET_20 = {**RESNET, "depth": 20}
DIGEST = "1b187c87aaae"


def run(error, /, **options):
    return Run(Path("outputs/run"), fields(error, **options))


def _runs(errors, **options):
    return [run(error, seed=seed, **options) for seed, error in enumerate(errors)]


def _sweep():
    """DenseNet-BC, ResNet-20 and ResNet-110, three seeds each."""
    return settings(
        [
            *_runs([4.5, 4.6, 4.4]),
            *_runs([6.5, 6.7, 6.3], model=RESNET_20, overrides=["model=resnet_20", "epochs=300"]),
            *_runs([6.0, 6.8, 6.5], model=RESNET, overrides=["model=resnet_110", "epochs=300"]),
        ]
    )


def _with_outcomes(folder, wrong, skipped=(), **options):
    """A run that got these of 1,000 images wrong, and skipped some, read from its folder."""
    right = [index not in {*wrong, *skipped} for index in range(1000)]
    kept = Outcomes(right, DIGEST, skipped)
    record = write(folder, kept.error, **options)
    path = folder / "run.json"
    content = json.loads(path.read_text())
    content["data"]["digest"] = DIGEST
    path.write_text(json.dumps(content))
    outcomes.write(folder, kept)
    return record


@pytest.mark.parametrize(
    "text",
    [
        "model=resnet_20",
        "model=resnet_20,epochs=300",
        "model.depth=20",
        "depth=20",
        "ResNet-20",
        "network=ResNet-20",
    ],
)
def test_the_baseline_is_named_as_its_runs_were_typed(text):
    assert baseline.find(_sweep(), text).network == "ResNet-20"


def test_a_baseline_that_is_not_there_is_one_message():
    with pytest.raises(OptionError) as error:
        baseline.find(_sweep(), "model=resnet_21")
    assert str(error.value) == (
        "--baseline=model=resnet_21: is none of the 3 settings: DenseNet-BC (L=100, k=12); ResNet-20; "
        "ResNet-110; for example --baseline=model=resnet_20"
    )


def test_a_baseline_that_matches_several_settings_is_one_message():
    found = _sweep()
    with pytest.raises(OptionError, match="matches 3 settings") as error:
        baseline.find(found, "epochs=300")
    example = str(error.value).rpartition("--baseline=")[2]
    assert baseline.find(found, example) is found[0]
    found = settings([*_runs([4.5]), *_runs([4.7], epochs=40)])
    with pytest.raises(OptionError, match="matches 2 settings") as error:
        baseline.find(found, "DenseNet-BC (L=100, k=12)")
    assert str(error.value).endswith("--baseline=DenseNet-BC (L=100, k=12),epochs=300")
    assert baseline.find(found, "DenseNet-BC (L=100, k=12),epochs=300") is found[0]


def test_a_baseline_means_the_setting_with_no_more_options_than_are_named():
    typed = ["recipe=modern_imagenet", "recipe.mixup=0", "recipe.cutmix=0"]
    counts = (1, 2, 3)
    found = settings([one for n in counts for one in _runs([4.0], epochs=n, overrides=typed[:n])])
    named = [baseline.find(found, ",".join(typed[:n])).runs[0].config["epochs"] for n in counts]
    assert named == [1, 2, 3]
    with pytest.raises(OptionError, match="matches 3 settings"):
        baseline.find(found, "model.depth=100")


def test_a_baseline_may_be_a_folder(tmp_path):
    write(tmp_path / "all/a", 4.5)
    write(tmp_path / "all/b", 5.5, model=RESNET)
    found = settings(read_runs([tmp_path / "all"])[0])
    assert baseline.find(found, str(tmp_path / "all/b")).network == "ResNet-110"


def test_each_setting_is_judged_and_explained():
    found = _sweep()
    chosen = baseline.find(found, "model=resnet_20")
    table = decide.as_table(baseline.judge(found, chosen))
    assert table.headings == [
        "network", "data", "error %", "n", "difference", "95 % interval", "p", "verdict", "more seeds",
    ]  # fmt: skip
    # by hand: differences -2, -2.1, -1.9 (t = -34.6, df 2) and -0.5, 0.1, 0.2
    assert table.rows == [
        ["ResNet-20", "C10+", "6.50 ± 0.20", "3", "", "", "", "baseline", ""],
        ["DenseNet-BC (L=100, k=12)", "C10+", "4.50 ± 0.10", "3",
         "−2.00", "−2.25 to −1.75", "0.0017", "better", ""],
        ["ResNet-110", "C10+", "6.43 ± 0.40", "3", "−0.07", "−1.01 to +0.87", "0.79", "undecided",
         table.rows[2][-1]],
    ]  # fmt: skip
    text = " ".join(table.notes)
    assert "paired by seed" in text
    assert "covers the noise of training with other seeds, not that of other test images." in text
    assert "corrected for 2 comparisons (Holm)" in text
    assert "--margin 0.3" in text


def test_no_common_seeds_are_said_to_be_unpaired():
    found = settings(
        [*_runs([4.5, 4.6, 4.4]), *[run(6.5 + s / 10, seed=s + 5, model=RESNET) for s in range(3)]]
    )
    judged = baseline.judge(found, found[1])
    assert not judged.verdicts[0].comparison.paired
    assert "unpaired (Welch), since few or no seeds are shared" in notes_on_decisions(judged)[0]


def test_with_one_seed_each_nothing_is_decided_and_the_reason_is_given():
    found = settings([run(4.5), run(6.5, model=RESNET)])
    table = decide.as_table(baseline.judge(found, found[1], 0.3))
    assert table.rows[1] == ["DenseNet-BC (L=100, k=12)", "C10+", "4.50", "1", "−2.00", "undecided"]
    assert table.notes == [
        "Undecided: DenseNet-BC (L=100, k=12): with one seed each, the spread over seeds is unknown; "
        "run 3 or more."
    ]


@pytest.mark.parametrize(
    ("other", "option"),
    [
        ({"data__validation": 5000}, "data.validation is 5000 in one and 0 in the other"),
        ({"data___target_": "densenet_cli.data.cifar.Cifar100"}, "data._target_ is densenet_cli.data"),
        ({"data__augment": False}, None),
        ({"data__batch_size": 128}, None),
    ],
)
def test_settings_with_other_images_are_refused_by_the_option(other, option, caplog):
    found = settings([*_runs([4.5, 4.6]), *_runs([5.5, 5.6], **other)])
    if option is None:
        assert baseline.judge(found, found[0]).verdicts
        return
    with pytest.raises(UserError, match="cannot be compared with") as error:
        baseline.judge(found, found[0])
    assert option in str(error.value)
    assert "\n" not in str(error.value)
    third = settings([*_runs([4.5, 4.6]), *_runs([5.5, 5.6], **other), *_runs([6, 6.1], model=RESNET)])
    assert len(baseline.judge(third, third[0]).verdicts) == 1
    assert option in caplog.text


def test_other_images_under_the_same_options_are_refused():
    data = [{**fields()["data"], "digest": digest} for digest in ("aaaa", "bbbb")]
    found = settings([run(4.5, data=data[0]), run(5.5, data=data[1])])
    with pytest.raises(UserError, match=r"data\.root held other images"):
        baseline.judge(found, found[0])


def test_a_baseline_alone_has_nothing_to_be_compared_with():
    found = settings(_runs([4.5, 4.6]))
    with pytest.raises(UserError, match="there is nothing to compare with DenseNet-BC"):
        baseline.judge(found, found[0])


def test_two_single_runs_are_compared_image_by_image(tmp_path):
    _with_outcomes(tmp_path / "a", set(range(9)))
    _with_outcomes(tmp_path / "b", {500, 501}, model=RESNET)
    found = settings(read_runs([tmp_path])[0])
    judged = baseline.judge(found, found[1])
    (verdict,) = judged.verdicts
    assert (verdict.discordance.only_ours, verdict.discordance.only_baseline) == (9, 2)
    assert verdict.discordance_p_holm == pytest.approx(0.06543, abs=5e-6)
    (note, _) = notes_on_decisions(judged)
    assert note.startswith("DenseNet-BC (L=100, k=12): 9 test images are wrong only in its run, 2 only")
    assert "p=0.065 by McNemar's exact test" in note


def test_images_that_one_run_skipped_count_for_neither(tmp_path):
    _with_outcomes(tmp_path / "a", set(range(2, 11)), skipped=(500, 700))
    _with_outcomes(tmp_path / "b", {500, 501}, skipped=(10, 11), model=RESNET)
    found = settings(read_runs([tmp_path])[0])
    (verdict,) = baseline.judge(found, found[1]).verdicts
    assert (verdict.discordance.only_ours, verdict.discordance.only_baseline) == (8, 1)


def test_the_noise_of_the_test_images_is_told_beside_that_of_seeds(tmp_path):
    for seed in range(2):
        _with_outcomes(tmp_path / f"a{seed}", set(range(100 + seed)), seed=seed)
        _with_outcomes(tmp_path / f"b{seed}", set(range(50)), seed=seed, model=RESNET)
    found = settings(read_runs([tmp_path])[0])
    judged = baseline.judge(found, found[1])
    (verdict,) = judged.verdicts
    # about 50 of 1,000 images differ: 1.96 · √(0.05 · 0.95 / 1000)
    assert verdict.images == pytest.approx(100 * 1.96 * (0.0505 * 0.9495 / 1000) ** 0.5, rel=0.01)
    assert f"which alone is ±{verdict.images:.2f}" in notes_on_decisions(judged)[1]


def test_outcomes_of_other_images_or_other_weights_are_not_used(tmp_path, caplog):
    _with_outcomes(tmp_path / "a", set(range(9)))
    _with_outcomes(tmp_path / "b", {500, 501}, model=RESNET)

    def discordance():
        found = settings(read_runs([tmp_path])[0])
        return baseline.judge(found, found[1]).verdicts[0].discordance

    assert discordance()
    for right, digest in (([True] * 1000, DIGEST), ([i > 8 for i in range(1000)], "other")):
        outcomes.write(tmp_path / "a", Outcomes(right, digest))
        assert discordance() is None
    (tmp_path / "a/outcomes.json").write_text("{")
    assert discordance() is None
    assert f"left out: {tmp_path / 'a/outcomes.json'}" in caplog.text


COMPARISON = {
    "title", "network", "data", "n", "seeds", "error_percent_mean", "error_percent_std", "options",
    "verdict", "paired", "n_used", "n_baseline_used", "difference_points", "low_points", "high_points",
    "p", "p_holm", "p_equal_holm", "reason", "further_seeds", "further_seeds_at_least",
    "test_images_points", "mcnemar",
}  # fmt: skip


def test_the_shape_of_the_json():
    found = _sweep()
    content = json.loads(decide.as_json(baseline.judge(found, found[1], 0.3)))
    assert {name: content[name] for name in content if name not in ("baseline", "comparisons")} == {
        "format": 1, "level": 0.05, "correction": "holm", "confidence": 0.95, "margin_points": 0.3,
        "covers": "seeds", "sequential": None,
    }  # fmt: skip
    first, second = content["comparisons"]
    assert first.keys() == second.keys() == COMPARISON
    assert (first["verdict"], first["n"], first["seeds"]) == ("better", 3, [0, 1, 2])
    assert first["difference_points"] == pytest.approx(-2.0)
    assert first["reason"] is None
    assert second["verdict"] == "undecided"
    assert second["further_seeds_at_least"] >= 1
    assert content["baseline"]["title"] == "ResNet-20"


def test_the_columns_of_the_csv():
    found = _sweep()
    (first, second) = csv.DictReader(io.StringIO(decide.as_csv(baseline.judge(found, found[1]))))
    assert first.keys() >= (COMPARISON - {"mcnemar", "options"}) | {"baseline", "mcnemar_p_holm"}
    assert (first["baseline"], first["verdict"], first["seeds"]) == ("ResNet-20", "better", "0;1;2")
    assert (first["model.growth_rate"], second["model.depth"]) == ("12", "110")


def test_two_folders_or_two_settings(tmp_path):
    write(tmp_path / "a/0", 4.5)
    write(tmp_path / "b/0", 5.5, model=RESNET)
    write(tmp_path / "c/0", 4.4)  # the same setting as a, of another day

    def read(folders):
        return read_runs(folders)[0]

    found, chosen = decide.two([str(tmp_path / "a"), str(tmp_path / "b")], read)
    assert [one.network for one in found] == ["DenseNet-BC (L=100, k=12)", "ResNet-110"]
    assert chosen is found[1]
    found, chosen = decide.two([str(tmp_path / "a"), str(tmp_path / "c")], read)
    assert [one.mean("error") for one in found] == [4.5, 4.4]
    found, chosen = decide.two([str(tmp_path), "network=ResNet-110", "model.growth_rate=12"], read)
    assert chosen.network == "DenseNet-BC (L=100, k=12)"
    with pytest.raises(UserError, match="name the same setting"):
        decide.two([str(tmp_path), "ResNet-110", "network=ResNet-110"], read)
    with pytest.raises(UserError, match="name two folders or two settings"):
        decide.two([str(tmp_path)], read)
    with pytest.raises(UserError, match="holds 2 settings, and one is needed"):
        decide.two([str(tmp_path), str(tmp_path / "a")], read)
