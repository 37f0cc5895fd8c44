"""What a run's record says of memory, and of its result."""

import subprocess
import sys

import pytest

from densenet_cli.record.run_record import reported

PROGRAM = "from densenet_cli.record.run_record import peak_memory_bytes; print(peak_memory_bytes())"


def test_a_process_is_not_charged_with_what_the_one_held_that_started_it():
    held = bytearray(300 << 20)
    child = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert 5 << 20 < int(child.stdout) < len(held)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "last"),
        ({"report": "best", "validation": 5000}, "best"),
        ({"report": "best", "validation": 5000, "results": {"best_epoch": 3}}, "best"),
        ({"report": "best", "validation": 5000, "results": {"best_epoch": None}}, "last"),
        ({"report": "best", "validation": 0, "results": {"best_epoch": 3}}, "last"),
        ({"report": "best", "validation": 5000, "results": {"reported": "last"}}, "last"),
        ({"report": "last", "validation": 0, "results": {"reported": "best"}}, "best"),
        ({"task": "test", "report": "best", "validation": 5000}, None),
    ],
)
def test_which_checkpoint_is_the_result_is_known_of_older_records_too(change, expected):
    fields = {
        "config": {"task": change.get("task", "train"), "recipe": {"report": change.get("report")}},
        "data": {"sizes": {"validation": change.get("validation", 0)}},
        "results": change.get("results", {}),
    }
    assert reported(fields) == expected
    if not change.get("validation"):
        assert reported({**fields, "data": None}) == expected  # the run ended before it knew its data
