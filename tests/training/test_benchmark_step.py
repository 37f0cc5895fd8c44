"""The steps that the benchmarks time on a GPU; see conftest.py for graphs on the CPU."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", ["reference", "fused"])
def test_recorded_steps_of_the_benchmark_give_the_losses_of_its_other_steps(
    name, graphs_made, monkeypatch
):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from contestants import CONTESTANTS
    from networks import TINY
    from training_step import Trainee

    one, other = (Trainee(each, TINY) for each in (CONTESTANTS[name], CONTESTANTS[name].replay()))
    assert one.prepare()["loss"] == other.prepare()["loss"]
    assert [one.step().item() for _ in range(3)] == [other.step().item() for _ in range(3)]
    (step,) = graphs_made
    assert step.replays >= 3
    assert other.timed_steps(2)["seconds"] >= other.timed_steps(2)["host_seconds"] * 0.1 > 0
