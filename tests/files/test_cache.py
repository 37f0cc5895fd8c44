"""A user whose home folder is missing or read-only loses speed only."""

import os
import pwd
import shutil
from pathlib import Path

import pytest
import torch
from tiny_run import TINY

from densenet_cli.data import image_check, image_data
from densenet_cli.files.cache import cache_folder
from densenet_cli.kernels.cpu import compilation
from densenet_cli.kernels.triton import kept
from densenet_cli.models import pretrained
from densenet_cli.options import OptionError
from densenet_cli.run import worker
from densenet_cli.sweep.plan import measurements
from densenet_cli.sweep.plan.measurement import Measurement
from densenet_cli.sweep.plan.measurements import Measurements


@pytest.fixture(params=["none", "unwritable"])
def home(request, tmp_path, monkeypatch):
    """No home folder; or one in which not even root can create a folder."""
    for name in ("XDG_CACHE_HOME", "DENSENET_KERNELS", "TORCH_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if request.param == "unwritable":
        (tmp_path / "home").write_text("a file")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        return request.param

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    return request.param


@pytest.fixture
def compiles(monkeypatch):
    """Kernels are copied instead of compiled; returns the paths to which they were copied."""
    name = "kernels.so"
    typed = compilation.kernels_folder()
    built = next(typed.glob("*.so"), None)
    if built is None:
        compilation.load()
        built = next(typed.glob("*.so"))
    places = []

    def copy(compiler, path):
        places.append(path.parent)
        shutil.copy(built, path)

    monkeypatch.setattr(compilation, "_compile", copy)
    monkeypatch.setattr(compilation, "_key", lambda compiler: name.removesuffix(".so"))
    return places


@pytest.fixture
def triton(monkeypatch):
    """A process that has not chosen yet where Triton keeps its kernels."""
    for name in kept.CHOSEN_BY_USER:
        monkeypatch.setenv(name, "")  # so that it is unset again after the test
        monkeypatch.delenv(name)
    kept._folder.cache_clear()
    kept._lasting.cache_clear()
    yield
    kept._folder.cache_clear()
    kept._lasting.cache_clear()


def test_kernels_that_cannot_be_cached_are_compiled_for_one_process(compiles, home, caplog, tmp_path):
    assert compilation.load.__wrapped__().densenet_start()
    assert compiles
    assert not any(place.exists() for place in compiles)
    assert "the compiled kernels cannot be kept" in caplog.text
    assert sorted(os.listdir(tmp_path)) == (["home"] if home == "unwritable" else [])


def test_kernels_for_a_gpu_that_cannot_be_cached_last_as_long_as_the_process(
    home, triton, caplog, tmp_path
):
    kept.keep_compiled()
    folder = Path(os.environ.pop("TRITON_CACHE_DIR"))
    assert "the compiled kernels cannot be kept" in caplog.text
    assert folder.is_dir()
    assert not folder.is_relative_to(tmp_path)
    kept.keep_compiled()  # the next run in this process
    assert os.environ["TRITON_CACHE_DIR"] == str(folder)
    kept._lasting().cleanup()
    assert not folder.exists()


def test_kernels_for_a_gpu_are_kept_beside_the_others_or_where_the_user_says(
    triton, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("DENSENET_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setenv("TRITON_HOME", "somewhere")
    kept.keep_compiled()
    assert "TRITON_CACHE_DIR" not in os.environ
    monkeypatch.delenv("TRITON_HOME")
    kept.keep_compiled()
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "kernels/triton")
    assert caplog.messages == ["compiling the kernels for this GPU, which takes up to a minute"]
    (tmp_path / "kernels/triton/one").mkdir()
    del os.environ["TRITON_CACHE_DIR"]
    kept._folder.cache_clear()  # as in the next process
    kept.keep_compiled()
    assert len(caplog.messages) == 1


def test_a_worker_keeps_the_place_of_kernels_from_run_to_run(monkeypatch):
    monkeypatch.setattr(os, "environ", {"SEED": "1", "TRITON_CACHE_DIR": "kernels"})
    worker._reset({"HOME": "here"})
    assert os.environ == {"HOME": "here", "TRITON_CACHE_DIR": "kernels"}


def test_partly_compiled_kernels_are_removed(compiles, tmp_path, monkeypatch):
    monkeypatch.setenv("DENSENET_KERNELS", str(tmp_path / "kernels"))
    compilation.load.__wrapped__()
    (scratch,) = compiles
    (tmp_path / "kernels/kernels.so").unlink()
    scratch.mkdir()
    (scratch / "half.s").write_text("killed here")
    compilation.load.__wrapped__()
    left = {path.name for path in (tmp_path / "kernels").iterdir()}
    assert left == {"kernels.so", f"{scratch.name}.lock"}


def test_measurements_and_checks_are_not_cached(home, monkeypatch):
    monkeypatch.setattr(measurements, "_run_benchmark", lambda config: Measurement(parameters=7))
    monkeypatch.setattr(measurements, "_key", lambda config: "key")
    known = Measurements()
    assert known.measure({}).parameters == 7
    assert known.get({}).parameters == 7
    assert image_check._cache_file(Path("photos"), "") is None
    assert (cache_folder("kernels") is None) == (home == "none")


def test_images_in_a_missing_home_folder_are_one_message(home):
    if home == "none":
        with pytest.raises(OptionError, match=r"root=~/images: names a home folder"):
            image_data.expanded_folder("root", "~/images")


def test_downloaded_weights_that_cannot_be_cached_are_used(home, monkeypatch, tmp_path):
    places = []

    def fetched(url, model_dir, **_):
        places.append(Path(model_dir))
        assert places[-1].is_dir()
        return {"weights": torch.ones(1)}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetched)
    assert pretrained._fetched("torchvision", "densenet121").keys() == {"weights"}
    assert not places[0].exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.slow
def test_a_sweep_runs_without_a_home(command, tmp_path):
    (tmp_path / "home").write_text("a file")
    environment = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}
    said = command("--multirun", *TINY, "epochs=1", "seed=0,1", "sweep.name=mine", **environment)
    assert said.returncode == 0, said.stderr
    assert "2 runs: 2 done" in said.stdout
    said = command("--multirun", *TINY, "epochs=1", "seed=2", "plan=true", **environment)
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
