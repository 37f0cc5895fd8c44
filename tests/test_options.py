"""Errors that a user can correct."""

import pickle
from pathlib import Path

import pytest

from densenet_cli.config.trust import Refused
from densenet_cli.files.plain_file import UnreadableFile
from densenet_cli.options import OptionError, UserError


@pytest.mark.parametrize(
    "error",
    [
        UserError("one line"),
        OptionError("growth_rate", 0, "must be a whole number, 1 or more", 12).within("model"),
        UnreadableFile(Path("run.json"), "is empty"),
        Refused("model._target_=os.system: is not trusted", "os.system"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_can_go_from_one_process_to_another(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
