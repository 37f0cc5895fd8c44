"""seeds=until_decided: which runs are made, resumed and shared, and what is said about them."""

import copy
import dataclasses
import functools
import json
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml
from tiny_run import TINY

from densenet_cli.commands import run as cli
from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.decisions.rounds import Design
from densenet_cli.decisions.rule import Rule
from densenet_cli.files.lock import BUSY, FolderInUse, lock_folder
from densenet_cli.record.identity import setting
from densenet_cli.record.run_record import RunRecord
from densenet_cli.record.sweep_file import SweepFile, read_sweep, write_sweep
from densenet_cli.results.watch import comparisons as comparisons_in_words
from densenet_cli.results.watch import read_progress
from densenet_cli.run.supervisor import Place, Worker
from densenet_cli.sweep import jobs, launchers
from densenet_cli.sweep.decide import runner as decide_runner
from densenet_cli.sweep.decide.comparisons import Comparisons
from densenet_cli.sweep.decide.runner import Decider, Rounds
from densenet_cli.sweep.jobs import Job, Sweep
from densenet_cli.sweep.plan import plan
from densenet_cli.sweep.plan.estimate import Estimate

ERRORS = {  # growth rate -> error of each seed: 5 is open until the end, 6 is decided at four seeds
    4: [10.0, 10.2, 9.8, 10.1, 10.0],
    5: [10.3, 9.9, 10.1, 9.8, 10.3],
    6: [9.0, 8.6, 8.8, 8.85, 1.0],
    12: [2.0, 2.1, 1.9, 1.0, 1.0],
}
NEEDED = {4: 5, 5: 5, 6: 4, 12: 3}  # seeds that each growth rate gets
ALL = {f"growth_rate={k},seed={seed}" for k, seeds in NEEDED.items() for seed in range(seeds)}
WORDS = ["seeds=until_decided", "sweep.baseline=model.growth_rate=4", "sweep.most_seeds=5"]
SWEEP = ["--multirun", *TINY, "model.growth_rate=4,5,6,12", *WORDS, "sweep.name=mine"]


@functools.cache  # composing takes a while, and no test changes what it is given
def _composed():
    """The configuration of a tiny run, and that of a sweep."""
    with composing():
        return resolved(compose(TINY)), jobs.sweep_options(["sweep.name=mine"])[0]


def _sweep(folder):
    return Sweep(folder, _composed()[1], [], [])


@pytest.fixture
def compared(tmp_path):
    """The comparisons of the four growth rates, composed by hand."""
    one, _ = _composed()

    def of(name, seed):
        own = copy.deepcopy(one)
        own["seed"] = own["data"]["seed"] = seed
        own["model"]["growth_rate"] = int(name.partition("=")[2])
        return Job([], own, tmp_path / f"{name},seed={seed}")

    names = tuple(f"growth_rate={k}" for k in ERRORS)
    design = Design(names[0], names, 0, (3, 4, 5), Rule(0.05, None, 3))
    runs = {(name, seed): of(name, seed) for name in names for seed in range(5)}
    return Comparisons(design, {name: name for name in names}, runs)


class Runs:
    """Stands in for the workers: writes the record that a run would leave, at once.

    Args:
        failing: the names of runs that fail.
        until: how many runs are finished before the sweep gets a signal.
    """

    def __init__(self, failing=(), until=None):
        self.made, self.failing, self.until = [], failing, until
        self.lock = threading.Lock()

    def run(self, folder, config, overrides, begin, goes_on=None):
        try:
            with lock_folder(folder):
                return self._run(folder, config, overrides)
        except FolderInUse:
            return BUSY

    def _run(self, folder, config, overrides):
        if (folder / "run.json").exists() and RunRecord.read(folder).fields["state"] == "done":
            return 0
        with self.lock:
            if self.until is not None and len(self.made) >= self.until:
                return 128 + signal.SIGTERM
            self.made.append(folder.name)
        k, seed = config["model"]["growth_rate"], config["seed"]
        time.sleep(0.001 * ((7 * k + 3 * seed) % 5))  # so that two workers get out of step
        record = RunRecord.create(folder, config, overrides)
        if folder.name in self.failing:
            record.update(state="failed", error="has had enough")
            return 1
        record.update(state="done", results={"test_error": ERRORS[k][seed]})
        return 0


@pytest.fixture
def decide(compared, monkeypatch, tmp_path):
    """Run the comparisons with stand-ins for the workers: the runs made, and the rounds."""
    monkeypatch.setattr(Decider, "_pause", lambda _: time.sleep(0.001))

    def run(workers=1, **options):
        runs = Runs(**options)
        monkeypatch.setattr(Worker, "run", lambda _, *arguments: runs.run(*arguments))
        rounds = Rounds(compared)
        rounds.needed()
        Decider(rounds, _sweep(tmp_path), [Place()] * workers).run()
        return runs.made, rounds

    return run


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_open_comparisons_get_seeds_and_settled_ones_do_not(workers, decide, tmp_path):
    made, rounds = decide(workers)
    assert set(made) == ALL
    assert len(made) == len(ALL)
    words = {name: (one.decision.word, one.decision.seeds) for name, one in rounds.standing.items()}
    assert words == {
        "growth_rate=5": ("undecided", 5),
        "growth_rate=6": ("better", 4),
        "growth_rate=12": ("better", 3),
    }
    assert {*read_sweep(tmp_path).jobs} == {name for name in ALL if int(name[-1]) > 2}  # as they came
    assert rounds.status.exit_status() == 0
    assert not any(map(rounds.obstacle, rounds.standing))


@pytest.mark.parametrize("until", [0, 4, 12, 14])
def test_a_sweep_that_was_broken_off_makes_the_same_runs(until, decide):
    before, rounds = decide(2, until=until)
    assert len(before) == until
    assert rounds.status.exit_status() == 130
    after, rounds = decide(2)
    assert len(before) + len(after) == len(ALL)
    assert {*before, *after} == ALL
    assert rounds.standing["growth_rate=6"].decision.seeds == 4
    assert decide()[0] == []


def test_a_run_that_fails_stops_its_own_comparison_only(decide):
    made, rounds = decide(2, failing=["growth_rate=6,seed=1"])
    assert set(made) == ALL - {"growth_rate=6,seed=3"}
    assert rounds.obstacle("growth_rate=6") == "seed 1 of growth_rate=6 failed"
    assert rounds.standing["growth_rate=12"].decision.word == "better"
    assert rounds.status.exit_status() == 1
    made, rounds = decide(2)
    assert set(made) == {"growth_rate=6,seed=1", "growth_rate=6,seed=3"}
    assert rounds.standing["growth_rate=6"].decision.word == "better"


def test_a_run_of_the_baseline_that_fails_stops_all_that_need_it(decide):
    made, rounds = decide(failing=["growth_rate=4,seed=3"])
    assert set(made) == {name for name in ALL if int(name[-1]) < 4}
    for name in ("growth_rate=5", "growth_rate=6"):
        assert rounds.obstacle(name) == "seed 3 of growth_rate=4 failed"
    assert rounds.obstacle("growth_rate=12") == ""


def test_a_run_without_a_test_error_is_no_run_to_wait_for(decide, monkeypatch):
    monkeypatch.setitem(ERRORS, 6, [9.0, None, 8.8, 8.85, 1.0])  # it diverged
    _, rounds = decide()
    assert rounds.obstacle("growth_rate=6") == "seed 1 of growth_rate=6 has no test error"
    assert rounds.standing["growth_rate=5"].ended


def test_two_processes_share_the_runs(decide, compared, monkeypatch):
    """Here two threads with states of their own; they meet in the records and locks only."""
    _, _ = decide(until=0)
    runs = Runs()
    monkeypatch.setattr(Worker, "run", lambda _, *arguments: runs.run(*arguments))
    both = [Rounds(compared) for _ in range(2)]
    deciders = [Decider(rounds, _sweep(Path()), [Place()]) for rounds in both]
    threads = [threading.Thread(target=one._work, args=(one.workers[0],)) for one in deciders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(runs.made) == ALL
    assert both[0].standing == both[1].standing
    assert both[0].errors == both[1].errors


def test_a_launcher_plugin_gets_rounds(compared, monkeypatch, tmp_path):
    runs, batches = Runs(), []

    def launch(sweep, needed):
        batches.append({job.folder.name for job in needed})
        for job in needed:
            job.folder.mkdir(exist_ok=True)
            runs.run(job.folder, job.config, [], "either")
        return 0

    monkeypatch.setattr(launchers, "launch", launch)
    rounds = Rounds(compared)
    assert decide_runner._launch(_sweep(tmp_path), rounds) == 0
    assert batches == [
        {name for name in ALL if int(name[-1]) < 3},
        {name for name in ALL if name.endswith("3")},
        {name for name in ALL if name.endswith("4")},
    ]
    assert rounds.standing["growth_rate=5"].ended


@pytest.fixture
def said(monkeypatch, capsys):
    """Type densenet-run in this process, with stand-ins for the workers: exit status and output."""

    def run(*words, **options):
        runs = Runs(**options)
        monkeypatch.setattr(Worker, "run", lambda _, *arguments: runs.run(*arguments))
        monkeypatch.setattr("sys.argv", ["densenet-run", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output, code = "".join(capsys.readouterr()), end.value.code
        return (1, output + code, runs.made) if isinstance(code, str) else (code, output, runs.made)

    return run


def test_the_command_says_what_is_decided_and_fixes_how(said):
    words = [word.replace("4,5,6,12", "4,12") for word in SWEEP]
    words += ["sweep.first_seeds=2", "sweep.most_seeds=2"]
    status, output, made = said(*words)
    assert status == 0
    assert len(made) == 4
    assert "comparing 1 setting with growth_rate=4, 2 to 2 seeds each, in outputs/mine" in output
    assert "growth_rate=12: better after 2 seeds: −8.05 (" in output
    (row,) = (line for line in output.splitlines() if line.strip().endswith("better"))
    assert row.split()[:4] == ["growth_rate=12", "2", "2.05", "%"]
    fixed = yaml.safe_load(Path("outputs/mine/sweep.yaml").read_text())["until_decided"]
    assert (fixed["baseline"], fixed["looks"]) == ("growth_rate=4", [2])
    lines = comparisons_in_words(Path("outputs/mine"), read_progress(Path("outputs/mine")))
    assert lines[0] == "compared with growth_rate=4: 0 open, 1 ended"
    assert lines[1].startswith("  growth_rate=12: better after 2 seeds: −8.05 (")
    status, again, made = said("resume=outputs/mine")
    assert (status, made) == (0, [])
    assert row in again
    status, output, made = said(*words, "sweep.margin=0.5")
    assert (status, made) == (1, [])
    assert "outputs/mine: was begun with other margin (null) by seeds=until_decided" in output


def _record(compared, folder):
    """Write what the sweep would have written before its first run."""
    identities = {name: setting(compared.jobs[name, 0].config) for name in compared.design.settings}
    fixed = dataclasses.replace(compared.as_recorded(), settings=identities)
    write_sweep(folder, SweepFile(until_decided=fixed))


@pytest.mark.parametrize("until", [0, 10])
def test_watch_shows_the_comparisons_as_the_sweep_sees_them(until, decide, compared, tmp_path):
    """At ten runs, the first look at growth rates 5 and 6 is over, and 12 is still to be looked at."""
    _record(compared, tmp_path)
    _, rounds = decide(until=until)
    lines = comparisons_in_words(tmp_path, read_progress(tmp_path))
    assert lines[0] == "compared with growth_rate=4: 3 open, 0 ended"
    assert lines[1:] == [f"  {name}: {standing}" for name, standing in rounds.standing.items()]
    assert lines[3].endswith("open; first look at 3 seeds")
    assert lines[1].endswith("open; first look at 3 seeds" if until == 0 else "next look at 4 seeds")


def test_a_plan_counts_the_runs_needed_at_least_and_at_most(compared, decide, monkeypatch, capsys):
    decide(until=11)
    cost = Estimate(1, 1, 1, seconds=100.0, seconds_per_epoch=1.0, epochs=None, device="", error=None)
    monkeypatch.setattr(plan, "estimate", lambda configs, _: [cost] * len(configs))
    monkeypatch.setattr(plan, "_recorded_cost", lambda _: cost)
    rounds = Rounds(compared)
    assert decide_runner._show_plan(_sweep(Path("outputs/mine")), rounds) == 0
    said = capsys.readouterr().out
    # 5 and 6 were looked at with three seeds, and go on; 12 still needs its third
    assert "15 runs in outputs/mine, 11 done" in said
    assert "25:00 min in total, 6:40 min left" in said
    assert "at most 20 runs: 33:20 min in total, 15:00 min left" in said
    decide()
    assert decide_runner._show_plan(_sweep(Path("outputs/mine")), Rounds(compared)) == 0
    assert "at most 17 runs: 28:20 min in total, 0.0 s left" in capsys.readouterr().out


@pytest.mark.parametrize("until", [11, None])
def test_decide_says_what_the_sweep_says(until, decide, compared, results, tmp_path, monkeypatch):
    """Before the end, too, and although there are more seeds than the sweep has used."""
    _record(compared, tmp_path)
    _, rounds = decide(until=until)
    runs = Runs()
    monkeypatch.setitem(ERRORS, 12, [2.0, 2.1, 1.9, 50.0, 60.0])
    for seed in (3, 4):
        job = compared.jobs["growth_rate=12", seed]
        job.folder.mkdir(exist_ok=True)
        runs.run(job.folder, job.config, [], "either")
    answer = json.loads(results("decide", str(tmp_path), "--format", "json"))
    assert answer["sequential"]["looks"] == [3, 4, 5]
    found = {one["options"]["model.growth_rate"]: one for one in answer["comparisons"]}
    assert len(found) == 3
    for name, standing in rounds.standing.items():
        one, decision = found[int(name.partition("=")[2])], standing.decision
        if decision is None:
            assert (one["verdict"], one["n_used"]) == ("undecided", 0)
            continue
        assert (one["verdict"], one["n_used"]) == (decision.word, decision.seeds)
        assert one["difference_points"] == pytest.approx(decision.difference)
        assert one["low_points"] == pytest.approx(decision.low)
        assert one["p_holm"] is None
    said = results("decide", str(tmp_path))
    assert "was run by seeds=until_decided: decided by a sequential t-test at 3, 4, 5 seeds" in said
    assert "Holm" not in said
    table = results("table", str(tmp_path), "--baseline", "growth_rate=4", "--format", "json")
    verdicts = {row["verdict"] for row in json.loads(table) if not row["is_baseline"]}
    assert verdicts == {one["verdict"] for one in found.values()}
    message = results("decide", str(tmp_path), "--margin", "0.5")
    assert "was decided with sweep.margin=null, fixed before its runs; leave it out" in message


def test_another_baseline_is_tested_after_holm(decide, compared, results, tmp_path, caplog):
    _record(compared, tmp_path)
    decide()
    words = ["decide", str(tmp_path), "--baseline", "growth_rate=12", "--format", "json"]
    answer = json.loads(results(*words))
    assert answer["sequential"] is None
    assert all(one["p_holm"] is not None for one in answer["comparisons"])
    assert "p-values of others are not exact" in caplog.text


@pytest.mark.slow
def test_runs_of_a_grid_in_the_same_folder_count(said):
    words = ["--multirun", *TINY, "model.growth_rate=4,12", "sweep.name=mine"]
    assert len(said(*words, "seeds=2")[2]) == 4
    status, output, made = said(*words, *WORDS)
    assert set(made) == {"growth_rate=4,seed=2", "growth_rate=12,seed=2"}
    assert "seeds each, in outputs/mine, 4 runs already done" in output
    assert len(read_sweep(Path("outputs/mine")).commands) == 2
    for path in Path("outputs/mine").glob("*seed=1/run.json"):
        path.unlink()
    assert len(said(*words, "seeds=1")[2]) == 0
    assert read_sweep(Path("outputs/mine")).until_decided is not None  # kept by the grid's command
    status, output, made = said("resume=outputs/mine")
    assert (status, len(made)) == (0, 2)
    assert "6 runs: 2 done, 4 done before" in output
    assert "growth_rate=12: better after 3 seeds" in output
