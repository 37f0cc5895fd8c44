"""outcomes.json: what is written, and what is refused."""

import json

import pytest

from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.record import outcomes
from densenet_cli.record.outcomes import Outcomes


def test_one_bit_for_each_image_the_first_one_highest(tmp_path):
    right = [True, False, True, True, False, False, False, False, True]
    outcomes.write(tmp_path, Outcomes(right, "1b187c87aaae"))
    assert json.loads((tmp_path / "outcomes.json").read_text()) == {
        "format": 1,
        "images": 9,
        "digest": "1b187c87aaae",
        "right": "sIA=",  # 0b10110000, 0b10000000
    }
    assert outcomes.read(tmp_path) == Outcomes(right, "1b187c87aaae")
    assert outcomes.read(tmp_path).error == pytest.approx(500 / 9)


def test_ten_thousand_images_take_two_kilobytes(tmp_path):
    right = [index % 7 != 0 for index in range(10_000)]
    outcomes.write(tmp_path, Outcomes(right, None))
    assert (tmp_path / "outcomes.json").stat().st_size < 2_000
    assert outcomes.read(tmp_path) == Outcomes(right, None)


def test_skipped_images_do_not_count(tmp_path):
    kept = outcomes.of([1, 0, -1, 0, 1, -1], None)
    assert kept == Outcomes([True, False, False, False, True, False], None, (2, 5))
    assert kept.error == 50
    outcomes.write(tmp_path, kept)
    assert outcomes.read(tmp_path) == kept


def test_a_run_without_outcomes(tmp_path):
    assert outcomes.read(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "does not hold outcomes of densenet-run"),
        ({"images": 17}, "has images=17"),
        ({"images": 0}, "has images=0"),
        ({"images": "9"}, "has images=9"),
        ({"right": "§"}, "has images=9"),
        ({"right": None}, "has images=9"),
        ({"digest": 5}, "has a digest that is not text"),
        ({"skipped": [0]}, "has skipped images that are none of its wrong ones"),
        ({"skipped": [9]}, "has skipped images that are none of its wrong ones"),
        ({"skipped": 1}, "has skipped images that are none of its wrong ones"),
        ({"right": "AAA=", "skipped": list(range(9))}, "has no image that was not skipped"),
    ],
)
def test_damaged_outcomes_are_refused(change, message, tmp_path):
    content = {"format": 1, "images": 9, "digest": None, "right": "sIA="} | change
    (tmp_path / "outcomes.json").write_text(json.dumps(content))
    with pytest.raises(UnreadableFile, match=message):
        outcomes.read(tmp_path)
