"""Which runs are the same run."""

from densenet_cli.identity import identity


def test_an_option_added_later_leaves_earlier_runs_what_they_were():
    before = {"model": {"depth": 40}}
    assert identity({"model": {"depth": 40, "implementation": "auto"}}) == identity(before)
    assert identity({"model": {"depth": 40, "implementation": "reference"}}) != identity(before)
