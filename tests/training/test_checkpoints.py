import errno
import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from densenet_cli.files import atomic_file
from densenet_cli.files.atomic_file import replace_by_link, replace_file
from densenet_cli.options import UserError
from densenet_cli.training import checkpoints
from densenet_cli.training.interruption import Interruption


class _Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-code-ran",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no checkpoint at all",
        pickle.dumps(_Hostile()),
        pickle.dumps({"state_dict": {}, "loops": _Hostile()}),
    ],
    ids=["empty", "text", "hostile", "hostile-within"],
)
def test_what_is_no_checkpoint_is_refused_and_never_run(content, tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.ckpt: cannot be read as a checkpoint"):
        checkpoints.load_checkpoint(path)
    assert not (tmp_path / "hostile-code-ran").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": nn.Linear(100, 100).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.load_checkpoint(path)


def test_other_data_and_no_file_are_refused(tmp_path):
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="contains no weights"):
        checkpoints.load_checkpoint(tmp_path / "other.pt")
    with pytest.raises(UserError, match="no such file"):
        checkpoints.load_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    "weights",
    [None, [1], {"weight": 3}, {1: torch.ones(2, 3)}, {"weight": torch.ones(2, 3), "bias": {}}],
)
def test_a_state_dict_of_another_shape_is_refused(weights, tmp_path):
    torch.save({"state_dict": weights}, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match="contains no weights"):
        checkpoints.load_checkpoint(tmp_path / "odd.ckpt")


def test_tensors_that_cannot_be_copied_are_refused(tmp_path):
    weights = {"weight": torch.ones(2, 3, device="meta"), "bias": torch.ones(2)}
    with pytest.raises(UserError, match=r"x\.ckpt: its weights cannot be used"):
        checkpoints.load_weights(nn.Linear(3, 2), {"state_dict": weights}, tmp_path / "x.ckpt")


@pytest.mark.parametrize("callbacks", [None, {}, {"Checkpoints": {}}, {"Checkpoints": {"position": 3}}])
def test_a_checkpoint_without_a_position_is_refused(callbacks):
    with pytest.raises(UserError, match="does not say how far training was"):
        checkpoints.position({"epoch": 3, "callbacks": callbacks})


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (nn.Linear(3, 5), r"weight is \(5, 3\) in the checkpoint and \(2, 3\) in the network"),
        (nn.Sequential(nn.Linear(3, 2)), "only the checkpoint has 0.bias"),
        (nn.Linear(3, 2, bias=False), "only the network has bias"),
    ],
)
def test_weights_of_another_network_say_where_they_differ(other, reason, tmp_path):
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    with pytest.raises(UserError, match=reason):
        checkpoints.load_weights(network, {"state_dict": other.state_dict()}, tmp_path / "x.ckpt")
    assert torch.equal(network.weight, before)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    replace_file(path, lambda file: torch.save({"state_dict": {}}, file))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_file.os, "fsync", full)
    with pytest.raises(UserError, match=r"last\.ckpt cannot be written: No space left on device"):
        replace_file(path, lambda file: torch.save({"state_dict": {"a": torch.ones(9)}}, file))
    assert torch.load(path, weights_only=True) == {"state_dict": {}}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_failing_writer_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file"
    replace_file(path, "old")

    def half(file):
        file.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, half)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_link_keeps_its_content_when_the_other_name_is_replaced(has_links, tmp_path, monkeypatch):
    if not has_links:

        def no_links(*_):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(atomic_file.os, "link", no_links)
    last, best = tmp_path / "last", tmp_path / "best"
    replace_file(last, "one")
    replace_by_link(last, best)
    replace_file(last, "two")
    assert (last.read_text(), best.read_text()) == ("two", "one")


@pytest.mark.parametrize(("step_s", "every"), [(0.01, 16), (0.39, 5), (30.0, 1)])
def test_several_processes_agree_to_stop_within_seconds(step_s, every, monkeypatch, tmp_path):
    exchanged, clock = [], [0.0]  # times
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: exchanged.append(clock[0]))
    strategy = SimpleNamespace(root_device="cpu")
    trainer = SimpleNamespace(world_size=2, strategy=strategy)
    interruption = Interruption()
    keeper = checkpoints.Checkpoints(tmp_path, "test/error", 1e9, interruption)
    for _ in range(49):
        clock[0] += step_s
        assert keeper._agreed_wish(trainer) == checkpoints.KEEP
    assert [round(time / step_s) for time in exchanged] == list(range(1, 50, every))
    interruption.signum = 15
    wishes = []
    for _ in range(every):
        clock[0] += step_s
        wishes.append(keeper._agreed_wish(trainer))
    assert wishes.count(checkpoints.STOP + 15) == 1
