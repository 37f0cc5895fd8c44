"""What a run will cost: the sums are checked by hand, the measurements against a run's own record."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import TINY, TINY_PHOTOS

from densenet_cli.config.compose import composing
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.files.cache import cache_folder
from densenet_cli.sweep.jobs import compose_sweep
from densenet_cli.sweep.plan import benchmark_run, measurements
from densenet_cli.sweep.plan.benchmark_run import Stopwatch
from densenet_cli.sweep.plan.estimate import estimate
from densenet_cli.sweep.plan.measurement import Measurement
from densenet_cli.sweep.plan.measurements import Measurements, benchmark_config
from densenet_cli.sweep.plan.plan import show_plan

MEASURED = Measurement(
    parameters=2_666,
    multiply_adds=1_242_714,
    device="a CPU, 1 thread, 32-true",
    sizes={"train": 1000, "validation": 0, "test": 200},
    images_per_second=100.0,
    evaluation_images_per_second=400.0,
    start_seconds=3.0,
    epoch_end_seconds=0.5,
    peak_memory_bytes=10**9,
)
WITH_VALIDATION = Measurement(
    **{
        **vars(MEASURED),
        "sizes": {"train": 900, "validation": 100, "test": 200},
        "evaluation_split": "validation",
    }
)
NETWORK = """
import os, signal
from densenet_cli.models.densenet import DenseNet

class Network(DenseNet):
    def forward(self, images):
        if self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The file of the cached measurements; kernels are not compiled for each test."""
    monkeypatch.setenv("DENSENET_KERNELS", str(cache_folder("kernels")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/densenet-cli/measured_steps.json"


@pytest.fixture
def benchmarks(monkeypatch):
    """The configurations of benchmark runs, none of which really runs; `.result` is what each gives."""

    class Runs(list):
        result = MEASURED

    runs = Runs()

    def run(config):
        runs.append(config)
        return runs.result

    monkeypatch.setattr(measurements, "_run_benchmark", run)
    return runs


def silent(text):
    pass


@pytest.mark.parametrize(
    ("words", "seconds", "seconds_per_epoch"),
    [  # an epoch: 1000 images at 100/s, 200 at 400/s, 0.5 s; a run: 3 s, its epochs, 200 at 400/s
        (["epochs=1"], 3 + 11 + 0.5, 11),
        (["epochs=30"], 3 + 30 * 11 + 0.5, 11),
        (["epochs=10", "++trainer.limit_train_batches=2"], 3 + 10 * 2.28 + 0.5, 2.28),  # 128 images
        (["epochs=10", "++trainer.limit_train_batches=0.1"], 3 + 10 * 2 + 0.5, 2),
        (["epochs=10", "++trainer.limit_train_batches=99"], 3 + 10 * 11 + 0.5, 11),
        (["epochs=10", "++trainer.limit_val_batches=0"], 3 + 10 * 10.5 + 0.5, 10.5),
        (["epochs=10", "++trainer.limit_test_batches=0.5"], 3 + 10 * 11 + 0.25, 11),
        (["epochs=10", "++trainer.check_val_every_n_epoch=5"], 3 + 10 * 10.6 + 0.5, 10.6),
        (["epochs=10", "++trainer.max_steps=25"], 3 + 1.6 * 11 + 0.5, 11),  # 1600 images
        (["epochs=10", "++trainer.max_steps=9999"], 3 + 10 * 11 + 0.5, 11),
        (["recipe.steps=40", "epochs=null"], 3 + 2.5 * 11 + 0.5, 11),  # 16 in an epoch
        (["epochs=10", "data.drop_last=true"], 3 + 10 * 10.6 + 0.5, 10.6),  # 960 images
        (["recipe.steps=30", "epochs=null", "data.drop_last=true"], 3 + 2 * 10.6 + 0.5, 10.6),
        (["budget=2epochs", "data.drop_last=true"], 3 + 2 * 10.6 + 0.5, 10.6),
        # evaluations of 0.5 s: 3 in an epoch, and every 4 of all its 16 steps
        (["epochs=10", "++trainer.val_check_interval=5"], 3 + 10 * 12 + 0.5, 12),
        (["epochs=10", "++trainer.val_check_interval=0.5"], 3 + 10 * 11.5 + 0.5, 11.5),
        (
            ["epochs=10", "++trainer.val_check_interval=4", "++trainer.check_val_every_n_epoch=null"],
            3 + 10 * 12.5 + 0.5,
            12.5,
        ),
        (["task=test", "checkpoint=last.ckpt"], 3 + 0.5, 11),
        (["budget=5epochs"], 3 + 5 * 11 + 0.5, 11),
        (["budget=7.456284e9"], 3 + 2 * 11 + 0.5, 11),  # 3 x 1,242,714 x 2000
        (["budget=1min"], 3 + 93 / 16 * 11 + 0.5, 11),  # 93 steps of 0.64 s, 16 in an epoch
        (["budget=2epochs", "++trainer.limit_train_batches=2"], 3 + 2 * 2.28 + 0.5, 2.28),
    ],
)
def test_the_time_includes_all_images(words, seconds, seconds_per_epoch, config, benchmarks):
    (found,) = estimate([config("data=digits", *words)], silent)
    assert found.seconds_per_epoch == pytest.approx(seconds_per_epoch)
    assert found.seconds == pytest.approx(seconds)
    assert (found.parameters, found.multiply_adds) == (2_666, 1_242_714)
    assert (found.peak_memory_bytes, found.error) == (10**9, None)


def test_ten_crops_take_ten_times_as_long_in_the_test_only(config, benchmarks):
    words = ["data=image_folder", "data.root=photos", "data.test_crops=10", "epochs=10"]
    found = estimate([config(*words), config(*words, "++trainer.limit_test_batches=0.5")], silent)
    assert [one.seconds for one in found] == [3 + 10 * 11 + 5, 3 + 10 * 11 + 2.5]


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        *[(["epochs=7"], 7), (["budget=1min"], 5.8125), (["budget=7.5e9"], 2)],
        *[(["budget=2.5epochs"], 2.5), (["recipe.steps=93", "epochs=null"], 5.8125)],
    ],
)
def test_an_estimate_says_how_many_epochs_a_run_has(words, epochs, config, benchmarks):
    (found,) = estimate([config("data=digits", *words)], silent)
    assert found.epochs == epochs


def test_a_budget_too_small_for_one_epoch_is_named(config, benchmarks):
    (found,) = estimate([config("data=digits", "budget=1e9")], silent)
    assert found.error.startswith("budget=1e9: is too small for one epoch (16 steps, 1,000 images)")
    assert found.seconds is None


def test_validation_images_are_evaluated_and_two_checkpoints_are_tested(config, benchmarks):
    benchmarks.result = WITH_VALIDATION
    (found,) = estimate([config("data=digits", "epochs=10", "data.validation=100")], silent)
    assert found.seconds == pytest.approx(3 + 10 * (9 + 0.25 + 0.5) + 2 * 0.5)


@pytest.mark.parametrize(
    "word",
    [
        "seed=1",
        "epochs=3",
        "recipe.steps=3",
        "recipe.warm_up={rate:0.01,steps:4}",
        "recipe.reset_momentum_at_drops=true",
        "++trainer.val_check_interval=4",
        "budget=3epochs",
        "recipe.optimizer.lr=0.01",
        "recipe.schedule.divisor=5",
        "data.num_workers=null",
        "++trainer.max_steps=5",
        "++trainer.limit_train_batches=5",
        "checkpoint_minutes=1",
        "logger=tensorboard",
    ],
)
def test_options_that_change_no_step_share_a_measurement(word, config, benchmarks):
    told = []
    estimate([config("data=digits"), config("data=digits", word)], told.append)
    assert len(benchmarks) == 1
    assert len(told) == 1
    assert "DenseNet" in told[0]


@pytest.mark.parametrize(
    "word",
    [
        "model.depth=40",
        "data.validation=100",
        "data.augment=false",
        "recipe.batch_size=32",
        "recipe.optimizer._target_=torch.optim.Adagrad",
        "recipe.ema_decay=0.9",
        "trainer.precision=32-true",
        "trainer=cpu",
    ],
)
def test_options_that_change_a_step_are_measured_separately(word, config, benchmarks):
    estimate([config("data=digits"), config("data=digits", word)], silent)
    assert len(benchmarks) == 2


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("epochs=0", "epochs=0"),
        ("epochs=many", "epochs=many"),
        ("recipe.optimizer.lr=-1", "recipe.optimizer.lr=-1"),
        ("++trainer.max_steps=few", "trainer.max_steps=few"),
        ("++trainer.val_check_interval=often", "trainer.val_check_interval=often"),
        ("recipe.steps=many", "recipe.steps=many"),
        ("++trainer.limit_train_batches=1.5", "trainer.limit_train_batches=1.5"),
        ("++trainer.limit_val_batches=-1", "trainer.limit_val_batches=-1"),
    ],
)
def test_impossible_amounts_are_named(word, key, config, benchmarks):
    good, bad = estimate([config("data=digits"), config("data=digits", word)], silent)
    assert good.error is None
    assert bad.error.startswith(f"{key}: must be ")
    assert bad.seconds is None


def test_measurements_are_cached(cache, config, benchmarks):
    first = estimate([config("data=digits")], silent)
    assert estimate([config("data=digits")], silent) == first
    assert len(benchmarks) == 1
    assert len(json.loads(cache.read_text())) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"x": 5}', "entry"])
def test_a_damaged_file_of_measurements_is_replaced(damage, cache, config, benchmarks):
    first = estimate([config("data=digits")], silent)
    if damage == "entry":
        damage = cache.read_text().replace('"images_per_second": 100.0', '"images_per_second": "fast"')
    cache.write_text(damage)
    assert estimate([config("data=digits")], silent) == first
    assert len(benchmarks) == 2
    assert Measurements().get(benchmark_config(config("data=digits"))) == MEASURED


def test_failures_are_not_cached(cache, config, benchmarks):
    benchmarks.result = Measurement(error="no memory")
    assert estimate([config("data=digits")], silent)[0].error == "no memory"
    benchmarks.result = MEASURED
    assert estimate([config("data=digits")], silent)[0].error is None


def test_new_folders_of_images_are_noticed(config, benchmarks, tmp_path):
    (tmp_path / "photos/cats").mkdir(parents=True)
    words = "data=image_folder", "data.root=photos"
    estimate([config(*words)], silent)
    estimate([config(*words)], silent)
    assert len(benchmarks) == 1
    (tmp_path / "photos/dogs").mkdir()
    estimate([config(*words)], silent)
    assert len(benchmarks) == 2


@pytest.mark.parametrize("name", ["a.csv", "test.csv"])
def test_a_table_that_was_written_again_is_noticed(config, benchmarks, tmp_path, name):
    for table in ("a.csv", "test.csv"):
        (tmp_path / table).write_text("")
    words = "data=image_table", "data.table=a.csv", "data.test_table=test.csv"
    for _ in range(2):
        estimate([config(*words)], silent)
    assert len(benchmarks) == 1
    os.utime(tmp_path / name, (1, 1))
    estimate([config(*words)], silent)
    assert len(benchmarks) == 2


def test_the_number_of_threads_is_part_of_the_machine(config, benchmarks, monkeypatch):
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        estimate([config("data=digits")], silent)
    assert len(benchmarks) == 2


@pytest.mark.parametrize(
    ("marks", "speed"),
    [
        ([(0, 0), (10, 64)], 6.4),  # a single batch counts
        ([(0, 0), (10, 64), (11, 64), (13, 32)], 32.0),  # otherwise the first does not count
        ([(0, 0), (8, 64), (15, 64), (16, 64), (17, 64), (18, 64)], 64.0),  # nor does the first third
    ],
)
def test_speed_leaves_out_the_first_batches(marks, speed, monkeypatch):
    times = iter(time for time, _ in marks)
    monkeypatch.setattr("densenet_cli.sweep.plan.benchmark_run.time.monotonic", lambda: next(times))
    watch = Stopwatch()
    for _, images in marks:
        watch.mark(images)
    assert watch.images_per_second == speed


@pytest.mark.slow  # the times depend on what else the machine does
def test_estimates_agree_with_a_run(command, config, tmp_path):
    words = [*TINY, "model.growth_rate=8", "epochs=10", "data.validation=200"]
    answer = command(*words, "hydra.run.dir=outputs/run")
    assert answer.returncode == 0, answer.stderr
    record = json.loads((tmp_path / "outputs/run/run.json").read_text())
    (found,) = estimate([config(*words)], silent)
    assert found.error is None
    assert found.parameters == record["parameters"]
    assert found.multiply_adds == record["multiply_adds"]
    assert found.device == f"{record['device']}, {record['precision']}"
    assert found.peak_memory_bytes == pytest.approx(record["peak_memory_bytes"], rel=0.2)
    assert record["seconds"] / 3 < found.seconds < record["seconds"] * 3  # machines may be busy


def test_a_run_that_fails_says_why_and_does_not_stop_the_others(config, tmp_path, monkeypatch):
    (tmp_path / "dying_network.py").write_text(NETWORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = (
        ["model._target_=dying_network.Network"],
        ["model.depth=11"],
        ["trainer=ddp_cpu", "recipe.batch_size=63"],
    )
    killed, refused, odd = estimate([config(*TINY, *more) for more in words], silent)
    assert "SIGKILL" in killed.error
    assert (killed.parameters, killed.seconds) == (2_666, None)  # counted before the steps
    assert refused.error.startswith("model.depth=11: ")
    assert refused.parameters is None
    assert odd.error.startswith("data.batch_size=63: is shared by 2 devices")


PACKED = [
    "data=image_folder",
    "data.pack=true",
    "model=densenet_121",
    "recipe=one_cycle",
    "trainer=cpu",
]


def test_images_are_not_packed_for_an_estimate(config, benchmarks, photos):
    """Packing takes hours. Until the pack is there, the files are read, and the plan says so."""
    words = [*PACKED, f"data.root={photos}"]
    configs = [config(*words, f"seed={seed}") for seed in (0, 1)]
    found = estimate([*configs, config(*words, "data.pack=false")], silent)
    assert [one.unpacked for one in found] == [True, True, False]
    assert [run["data"]["pack"] for run in benchmarks] == [False]
    ImageFolder(str(photos), pack=True, num_workers=0).prepare()
    found = estimate(configs, silent)
    assert [one.unpacked for one in found] == [False, False]
    assert [run["data"]["pack"] for run in benchmarks] == [False, True]


def test_images_that_are_missing_are_reported_by_the_benchmark(config, benchmarks):
    (found,) = estimate([config(*PACKED, "data.root=nowhere")], silent)
    assert not found.unpacked
    assert [run["data"]["pack"] for run in benchmarks] == [True]


@pytest.mark.usefixtures("photos")
def test_what_is_done_once_for_all_runs_is_not_part_of_their_start(monkeypatch, tmp_path, config):
    """Downloads, checks and statistics, which later runs find done."""
    reads, before = [], []
    read, train = ImageFolder.read, benchmark_run.train
    monkeypatch.setattr(ImageFolder, "read", lambda data: reads.append(data.check) or read(data))

    def clocked(*words, **options):
        before.extend(reads)
        train(*words, **options)

    monkeypatch.setattr(benchmark_run, "train", clocked)
    short = benchmark_config(config(*TINY_PHOTOS, "data.num_workers=0", "data.check=full"))
    (tmp_path / "config.json").write_text(json.dumps(short))
    benchmark_run.main([str(tmp_path)])
    assert json.loads((tmp_path / "measurement.json").read_text())["error"] is None
    assert (before, reads) == (["quick"], ["quick", "quick"])


def test_the_estimate_loads_no_torch():
    code = "import sys, densenet_cli.sweep.plan.estimate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path.cwd(), check=False).returncode == 0


def test_a_plan_shows_the_epochs_of_runs_that_differ_in_them(benchmarks, capsys):
    with composing():
        sweeps = [compose_sweep([*TINY, "data=digits", f"epochs={epochs}"]) for epochs in ("3,12", "3")]
    differing, equal = (_shown_plan(sweep, capsys) for sweep in sweeps)
    heading, _, *rows = differing.splitlines()[1:5]
    assert heading.split()[:4] == ["run", "state", "epochs", "parameters"]
    assert [row.split()[:4] for row in rows] == [
        ["epochs=3", "to", "do", "3"],
        ["epochs=12", "to", "do", "12"],
    ]
    assert "epochs" not in equal.splitlines()[1]


def _shown_plan(sweep, capsys):
    assert show_plan(sweep) == 0
    return capsys.readouterr().out
