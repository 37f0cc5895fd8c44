"""What a run's record says about memory, and about the reported checkpoint."""

import subprocess
import sys

import pytest

from densenet_cli.record.run_record import reported_checkpoint

PROGRAM = "from densenet_cli.record.environment import peak_memory_bytes; print(peak_memory_bytes())"


def test_peak_memory_does_not_include_that_of_the_parent_process():
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
def test_the_reported_checkpoint_is_also_known_of_records_without_that_field(change, expected):
    fields = {
        "config": {"task": change.get("task", "train"), "recipe": {"report": change.get("report")}},
        "data": {"sizes": {"validation": change.get("validation", 0)}},
        "results": change.get("results", {}),
    }
    assert reported_checkpoint(fields) == expected
    if not change.get("validation"):
        assert (
            reported_checkpoint({**fields, "data": None}) == expected
        )  # the run failed before it read its data
