"""The energy of a run: counters that overflow, parts that are summed, devices that are shared."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import types

import pytest
from example_record import fields, write
from tiny_run import TINY

from densenet_cli.config.compose import compose, composing, resolved
from densenet_cli.energy import counters, meter
from densenet_cli.energy.meter import EnergyMeter
from densenet_cli.energy.sharing import DeviceUse
from densenet_cli.record.run_record import RunRecord
from densenet_cli.results import plots
from densenet_cli.results.records import Run
from densenet_cli.results.settings import settings
from densenet_cli.results.table import rows, table
from densenet_cli.run.execute import execute
from densenet_cli.training.interruption import Interrupted

RANGE = 262_143_328_850  # of a Xeon, in microjoules


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """A machine of two packages, as Linux shows it: set(number, microjoules) sets a counter."""
    for name, kind in (
        ("intel-rapl", ""),  # the control type itself
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:2", "psys"),
    ):
        folder = tmp_path / "powercap" / name
        folder.mkdir(parents=True)
        if kind:
            for file, text in (("name", kind), ("energy_uj", "0"), ("max_energy_range_uj", str(RANGE))):
                (folder / file).write_text(f"{text}\n")
    monkeypatch.setattr(counters, "POWERCAP", tmp_path / "powercap")

    def set_to(number, microjoules):
        (tmp_path / f"powercap/intel-rapl:{number}/energy_uj").write_text(f"{microjoules}\n")

    return set_to


@pytest.fixture
def use(tmp_path):
    return lambda device: DeviceUse(device, tmp_path / "uses")


def test_packages_are_summed_and_nothing_within_or_around_them(powercap, use):
    powercap(0, 5_000_000)
    powercap(1, 7_000_000)
    powercap("0:0", 0)
    measured = EnergyMeter(counters.packages, {}, use)
    for number, microjoules in ((0, 6_500_000), (1, 7_250_000), ("0:0", 900), ("0:1", 900), (2, 900)):
        powercap(number, microjoules)
    assert measured.fields() == {
        "energy_joules": 1.75,
        "energy_devices": ["intel-rapl:0 (package-0)", "intel-rapl:1 (package-1)"],
        "energy_unknown": None,
    }
    measured.close()
    powercap(0, 9_000_000)
    assert measured.fields()["energy_joules"] == 1.75


def test_a_counter_that_starts_again_at_zero(powercap, use):
    powercap(0, RANGE - 2_000_000)
    measured = EnergyMeter(counters.packages, {}, use)
    powercap(0, 1_000_000)
    assert measured.fields()["energy_joules"] == 3
    measured.close()


def test_it_is_read_before_it_can_start_again_twice(powercap, use, monkeypatch):
    """Without anybody asking: 0.6 ranges, then 0.6 again, are more than one range."""
    monkeypatch.setattr(meter, "READ_EVERY_S", 0.01)
    read, reading = threading.Event(), counters.Package.used

    def watched(package):
        joules = reading(package)
        if joules:
            read.set()
        return joules

    monkeypatch.setattr(counters.Package, "used", watched)
    measured = EnergyMeter(counters.packages, {}, use)
    powercap(0, int(0.6 * RANGE))
    assert read.wait(20)
    powercap(0, int(0.2 * RANGE))  # 1.2 ranges
    assert measured.fields()["energy_joules"] == pytest.approx(1.2 * RANGE / 1e6)
    measured.close()


@pytest.mark.parametrize("fault", ["none", "unreadable", "text"])
def test_a_machine_that_does_not_tell(fault, powercap, use, tmp_path, monkeypatch):
    energy = tmp_path / "powercap/intel-rapl:1/energy_uj"
    if fault == "none":
        monkeypatch.setattr(counters, "POWERCAP", tmp_path / "nothing")
    elif fault == "unreadable":  # the tests may run as root, who may read everything
        energy.unlink()
        energy.mkdir()
    else:
        energy.write_text("many")
    found = EnergyMeter(counters.packages, {}, use).fields()
    assert found["energy_joules"] is None
    assert found["energy_devices"] == []
    reasons = {"none": "has no counter", "unreadable": "cannot be read", "text": "contains no number"}
    assert reasons[fault] in found["energy_unknown"]


@pytest.fixture
def nvml(monkeypatch):
    """A stand-in for cuda.bindings.nvml, with the millijoules of each GPU."""
    fake = types.ModuleType("cuda.bindings.nvml")
    fake.NvmlError = type("NvmlError", (Exception,), {})
    fake.millijoules = {"GPU-aa": 1000, "GPU-bb": 5000}
    fake.init_v2 = lambda: None

    def handle(uuid):
        if uuid not in fake.millijoules:
            raise fake.NvmlError("Not Found")
        return uuid

    fake.device_get_handle_by_uuid = handle
    fake.device_get_total_energy_consumption = lambda gpu: fake.millijoules[gpu]
    bindings = types.ModuleType("cuda.bindings")
    bindings.nvml = fake
    package = types.ModuleType("cuda")
    package.bindings = bindings
    for module in (package, bindings, fake):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return fake


def test_gpus(nvml, use):
    measured = EnergyMeter(lambda: counters.gpus(["aa", "bb"]), {}, use)
    nvml.millijoules |= {"GPU-aa": 3500, "GPU-bb": 5250}
    assert measured.fields() == {
        "energy_joules": 2.75,
        "energy_devices": ["GPU-aa", "GPU-bb"],
        "energy_unknown": None,
    }
    measured.close()
    other = EnergyMeter(lambda: counters.gpus(["aa", "cc"]), {}, use)
    assert other.fields()["energy_unknown"] == "NVML does not tell it of GPU-cc: Not Found"


@pytest.mark.parametrize("kind", ["RuntimeError", "NvmlError"])
def test_a_machine_without_a_driver(kind, nvml, use):
    def init():
        raise {"RuntimeError": RuntimeError, "NvmlError": nvml.NvmlError}[kind]("no driver")

    nvml.init_v2 = init
    measured = EnergyMeter(lambda: counters.gpus(["aa"]), {}, use)
    assert measured.fields()["energy_unknown"] == "NVML cannot be used: no driver"


def test_the_functions_that_are_used_are_in_nvidias_binding():
    nvml = pytest.importorskip("cuda.bindings.nvml")
    for name in ("init_v2", "device_get_handle_by_uuid", "device_get_total_energy_consumption"):
        assert callable(getattr(nvml, name))
    assert issubclass(nvml.NotSupportedError, nvml.NvmlError)


@pytest.mark.gpu
def test_a_gpu_tells_its_energy(use):
    import torch

    card = torch.cuda.get_device_properties(0)
    measured = EnergyMeter(lambda: counters.gpus([str(card.uuid)]), {}, use)
    matrix = torch.rand(8192, 8192, device="cuda")
    for _ in range(50):
        matrix = torch.nn.functional.normalize(matrix @ matrix)
    torch.cuda.synchronize()
    found = measured.fields()
    measured.close()
    assert found["energy_unknown"] is None
    assert found["energy_joules"] > 1


def test_a_device_that_two_runs_use_is_attributed_to_neither(nvml, use):
    def start(before=None):
        return EnergyMeter(lambda: counters.gpus(["aa"]), before or {}, use)

    first = start()
    assert first.fields()["energy_joules"] == 0
    second = start()
    second.close()  # it has ended before the first looks
    for one in (first, second):
        assert one.fields()["energy_joules"] is None
        assert "another run" in one.fields()["energy_unknown"]
    other = EnergyMeter(lambda: counters.gpus(["bb"]), {}, use)
    assert other.fields()["energy_joules"] == 0
    other.close()
    shared = {"epoch": 3, **first.fields()}
    first.close()
    alone = start()
    assert alone.fields()["energy_joules"] == 0
    alone.close()
    resumed = start(shared)  # a part of it was shared
    assert resumed.fields()["energy_joules"] is None
    resumed.close()


def test_marks_that_somebody_has_deleted_are_missed(use, tmp_path):
    mine = use("GPU-aa")
    mine.enter()
    assert not mine.was_shared
    shutil.rmtree(tmp_path / "uses")
    assert mine.was_shared
    mine.leave()


def test_a_run_that_was_killed_shares_no_device(use, tmp_path):
    code = """
import os, sys
from pathlib import Path
from densenet_cli.energy.sharing import DeviceUse
DeviceUse("GPU-aa", Path(sys.argv[1])).enter()
os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "uses")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    mine = use("GPU-aa")
    assert len(list(tmp_path.glob("uses/*/*.use"))) == 1
    mine.enter()
    assert not mine.was_shared
    assert len(list(tmp_path.glob("uses/*/*.use"))) == 1
    mine.leave()


def test_a_part_that_was_not_measured_makes_the_sum_unknown(nvml, use):
    measured = EnergyMeter(lambda: counters.gpus(["aa"]), {"epoch": 2}, use)
    assert measured.fields()["energy_unknown"] == "a part of the run was not measured"


class _Steady:
    """A counter by which 5 J are used from each reading to the next."""

    name, overflows = "steady", False

    def used(self):
        return 5.0


def test_a_record_has_the_sum_over_the_parts_of_the_run(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(counters, "packages", lambda: [_Steady()])
    with composing():
        config = resolved(compose([*TINY, "+trainer.limit_train_batches=1", "data.validation=20"]))
    folder = tmp_path / "run"
    folder.mkdir()

    def interrupt(_):
        raise Interrupted(signal.SIGINT)

    assert execute(folder, config, [], "new", interrupt) == 130
    part = RunRecord.read(folder).fields
    # read before training, after the first epoch, and at the end
    assert (part["state"], part["epoch"], part["energy_joules"]) == ("interrupted", 1, 15)
    assert execute(folder, config, [], "resume") == 0
    whole = json.loads((folder / "run.json").read_text())
    assert (whole["state"], whole["energy_joules"]) == ("done", 15 + 10)  # none for the last tests
    assert whole["energy_devices"] == ["steady"]
    assert "energy             25 J of training" in capfd.readouterr().out
    assert not list(tmp_path.glob(f"densenet-cli-energy-{os.getuid()}/steady/*.use"))


def test_the_table_shows_energy_when_asked(tmp_path):
    runs = [Run(tmp_path, fields(4.5, energy_joules=2e6, seed=0))]
    runs.append(Run(tmp_path, fields(4.6, energy_joules=3e6, seed=1)))
    assert "energy" not in table(rows(settings(runs))).headings
    for shown in (rows(settings(runs), energy=True), rows(settings(runs), sort="energy")):
        found = table(shown)
        assert found.rows[0][found.headings.index("energy")] == "2.5 MJ"
        assert any(note.startswith("energy: of the GPUs") for note in found.notes)


def test_the_table_says_why_energy_is_unknown(tmp_path):
    why = "another run used the same device at the same time"
    run = Run(tmp_path, fields(4.5, energy_joules=None, energy_unknown=why))
    found = table(rows(settings([run, Run(tmp_path, fields(4.5, seed=1))]), energy=True))
    assert "energy" not in found.headings
    assert f"Energy is unknown of 2 runs: {why}; not recorded." in found.notes


def test_error_against_energy(tmp_path):
    runs = [
        Run(tmp_path, fields(4.5 + k, model__growth_rate=12 * k, energy_joules=1e6 / k)) for k in (1, 2)
    ]
    drawing = plots.draw(settings(runs), "error_energy")
    assert [point["energy_joules"] for point in drawing.points] == [1e6, 5e5]
    assert plots.draw(settings([Run(tmp_path, fields(4.5))]), "error_energy") is None


def test_a_record_with_a_negative_energy_is_refused(tmp_path):
    with pytest.raises(Exception, match="energy_joules"):
        RunRecord.read(write(tmp_path / "run", energy_joules=-1.0))
