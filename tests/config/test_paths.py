"""Unusual names of files and folders, in every option that is a path."""

import os
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tiny_run import TINY

from densenet_cli.config.compose import compose, composing
from densenet_cli.config.overrides import quoted, unquoted, value, with_quoted_paths
from densenet_cli.data.image_data import expanded_folder
from densenet_cli.options import UserError
from densenet_cli.plain_text import Parser
from densenet_cli.sweep import jobs
from densenet_cli.training.checkpoints import load_checkpoint

NAMES = [
    *("[final] run", "p(1)", "año", "a b", "a,b", "a=b", "it's", 'q"q', "#x", "$x", "${x}", "a${x}b"),
    *("{c}", "~t", "a\\b", "caf\udce9", "-x", "a:b", "*", "!x", "x%y", "1", "1e5", "true", " lead"),
    *("trail ", "a\\", "a\\'", "\\${x}", "'q'", "choice(a,b)", "\\", "a\\\\${x}", "tab\tx", "a;b&c"),
    *("new\nline", ".5", "inf"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_there_may_be_called_anything(name):
    os.makedirs(os.fsencode(name))
    for option in ("data.root", "checkpoint", "pretrained.weights", "hydra.run.dir", "resume"):
        (word,) = with_quoted_paths([f"{option}={name}"])
        composed = OverridesParser.create().parse_override(word).value()
        assert OmegaConf.create({"option": composed}).option == name
        assert value([word], option) == name
    assert unquoted(quoted(name)) == name


def test_what_has_a_meaning_in_hydras_grammar_keeps_it():
    os.makedirs("a b")
    os.makedirs("p(1)")
    with composing():
        cfg = compose(with_quoted_paths(["hydra.run.dir=out (2)/${seed}", "seed=7"]), with_hydra=True)
        assert cfg.hydra.run.dir == "out (2)/7"
        assert OmegaConf.select(compose(with_quoted_paths(["checkpoint=null"])), "checkpoint") is None
        sweep = jobs.compose_sweep(["data=image_folder", *with_quoted_paths(["data.root=a b,p(1)"])])
    assert [job.config["data"]["root"] for job in sweep.jobs] == ["a b", "p(1)"]
    meant = ["data.root=choice(a,b)", "model=a,b", "data.pack=true,False"]
    assert with_quoted_paths(meant) == meant
    assert with_quoted_paths(["data.pack=false,my photos (1).pack"]) == [
        "data.pack=false,'my photos (1).pack'"
    ]


@pytest.mark.parametrize("name", ["[final] run", "p(1)", "año", "a,b", "it's", "e\u0301", "#1", "true"])
def test_a_sweep_may_be_called_anything(name):
    with composing():
        sweep = jobs.compose_sweep(with_quoted_paths([*TINY, f"sweep.name={name}"]))
    assert sweep.folder == Path("outputs", name)


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "it's home"))
    with composing():
        words = with_quoted_paths(["hydra.run.dir=~/out", "checkpoint=~/last.ckpt", "data.root=~/a b"])
        cfg = compose(words, with_hydra=True)
    assert cfg.hydra.run.dir == str(tmp_path / "it's home/out")
    with pytest.raises(UserError, match=r"it's home/last\.ckpt: there is no such file"):
        load_checkpoint(Path(cfg.checkpoint))
    assert expanded_folder("root", cfg.data.root) == tmp_path / "it's home/a b"
    parser = Parser()
    parser.add_argument("--output", type=Path)
    assert parser.parse_args(["--output=~/a"]).output == tmp_path / "it's home/a"


def test_a_run_may_be_in_any_folder_and_a_terminal_may_show_ascii_only(typed, command):
    name = "[final] run, it's año=1 ${x} \udce9"
    words = [*TINY, "epochs=1"]
    Path(name).mkdir()  # else ${x} would be an interpolation, as in hydra.run.dir=outputs/${seed}
    assert typed(*words, f"hydra.run.dir={name}")[0] == 0
    assert Path(name, "run.json").exists()
    assert typed(f"resume={name}") == (0, "")
    answer = command(
        *("task=test", f"checkpoint={name}/checkpoints/last.ckpt", f"hydra.run.dir={name}/test"),
        PYTHONIOENCODING="ascii",
        LC_ALL="C",
    )
    assert answer.returncode == 0, answer.stderr
    assert "a\\xf1o" in answer.stdout
