"""Lists of very many files."""

import itertools
import os
import threading
import time

import numpy as np
import pytest

from densenet_cli.data import file_list
from densenet_cli.data.file_list import NONE, Paths, in_chunks, stamps

NAMES = ["a/b.png", "", "\N{SNOWMAN} ü.jpg", os.fsdecode(b"caf\xe9\n.jpg"), "x" * 300]


def test_paths_are_those_of_a_list_of_strings():
    paths = Paths(NAMES)
    assert list(paths) == NAMES == [paths[index] for index in range(len(NAMES))]
    assert len(paths) == 5
    assert paths[-1] == NAMES[-1]
    assert list(paths[1:3]) == NAMES[1:3]
    chosen = paths.chosen(np.array([3, 0, 3]))
    assert list(chosen) == [NAMES[3], NAMES[0], NAMES[3]]
    joined = Paths.joined([paths, Paths(), chosen.chosen(np.array([1])), Paths(NAMES[:1])])
    assert list(joined) == [*NAMES, NAMES[0], NAMES[0]]
    assert list(Paths()) == list(Paths.joined([])) == []
    assert paths == Paths(NAMES)
    assert paths != Paths(NAMES[:2])
    with pytest.raises(IndexError):
        paths[5]


def test_stamps_are_sizes_and_times(tmp_path):
    for size in (0, 7):
        (tmp_path / str(size)).write_bytes(b"x" * size)
        os.utime(tmp_path / str(size), ns=(1, 10**18 + size))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    paths = Paths([str(tmp_path / name) for name in ("7", "dangling", "0")])
    assert stamps(paths).tolist() == [[7, 10**18 + 7], [NONE, NONE], [0, 10**18]]
    assert stamps(Paths()).shape == (0, 2)


@pytest.mark.parametrize("seconds", [0, 0.002])
def test_files_that_are_slow_to_reach_are_requested_many_at_a_time(monkeypatch, seconds):
    monkeypatch.setattr(file_list, "CHUNK", 10)
    own, others = threading.get_ident(), set()

    def work(part):
        time.sleep(seconds)
        if threading.get_ident() != own:
            others.add(part)
        return list(part)

    parts = list(in_chunks(95, work))
    assert list(itertools.chain(*parts)) == list(range(95))
    assert len(parts[-1]) == 5
    if seconds:  # without, a busy machine can look slow too
        assert len(others) == 9
