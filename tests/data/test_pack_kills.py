"""Packs whose making is killed, or is asked for by several processes at once."""

import multiprocessing
import random
import time

import numpy as np
import pytest
from image_folders import fill

from densenet_cli.data import pack_shard, pack_writer
from densenet_cli.data.image_folder import ImageFolder
from densenet_cli.data.pack import Pack, is_pack

FORKED = multiprocessing.get_context("fork")
KILLS = 10


def make(root, file, decoded):
    """Make a pack, and count in `decoded` the images that this process encodes."""
    encode = pack_writer.entry

    def counted(path, *others):
        time.sleep(0.002)
        decoded.value += 1  # without a lock, which a killed process would keep
        return encode(path, *others)

    pack_writer.entry, pack_writer.SHARD_IMAGES, pack_writer.SAMPLE = counted, 35, 1
    pack_shard.NOTE_S = 0.01
    ImageFolder(str(root), 8, 16, num_workers=0, pack=str(file), pack_quality="raw").prepare()


def started(root, file):
    """A process that makes a pack, and the number of images that it has encoded."""
    decoded = FORKED.RawValue("i")
    process = FORKED.Process(target=make, args=(root, file, decoded))
    process.start()
    return process, decoded


def contents(file):
    return {path.name: path.read_bytes() for path in file.iterdir() if path.name != ".lock"}


@pytest.fixture
def whole(tmp_path):
    """A folder of 160 images, and their pack as one undisturbed process makes it."""
    root = fill(tmp_path / "photos", 40, classes=("ant", "bee"))
    process, _ = started(root, tmp_path / "whole.pack")
    process.join()
    assert process.exitcode == 0
    return root, contents(tmp_path / "whole.pack")


@pytest.mark.slow
def test_a_pack_is_the_same_after_kills_at_any_moment(whole, tmp_path):
    root, expected = whole
    file, chance, kept = tmp_path / "a.pack", random.Random(0), 0
    for _ in range(KILLS):
        (process, decoded), most = started(root, file), chance.randrange(30)
        while process.is_alive() and decoded.value < most:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.join()
        if is_pack(file):
            break
        noted = sum(len(np.load(path)) for path in file.glob("shard-*.npy"))
        assert noted >= kept  # nothing is lost
        kept = noted
    process, _ = started(root, file)
    process.join()
    assert process.exitcode == 0
    assert contents(file).items() >= expected.items()
    assert not list(file.glob(".*.partial*"))
    assert np.all(Pack(file).index["length"] > 0)


@pytest.mark.slow
def test_several_processes_make_a_pack_once(whole, tmp_path):
    root, expected = whole
    started_ones = [started(root, tmp_path / "a.pack") for _ in range(4)]
    for process, _ in started_ones:
        process.join()
    assert [process.exitcode for process, _ in started_ones] == [0] * 4
    numbers = [decoded.value for _, decoded in started_ones]
    assert sorted(numbers)[:3] == [0, 0, 0]
    assert contents(tmp_path / "a.pack") == expected
