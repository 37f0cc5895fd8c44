"""What densenet-run --help and --cfg print."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import Container, OmegaConf, open_dict

from densenet_cli.commands.json_shapes import described
from densenet_cli.commands.option_comments import commented, comments
from densenet_cli.config.compose import CONF, compose
from densenet_cli.config.known_keys import SECTIONS
from densenet_cli.options import UserError

COLUMNS = 100
OF_HYDRA = ("hydra/launcher", "hydra/sweeper")  # of sweeps
TEXT = """\
densenet-run: train and test DenseNet, or a network that it is compared with.

Examples
  densenet-run                                             the paper's main experiment
  densenet-run experiment=quickstart                       two minutes on a laptop, no download
  densenet-run model=resnet_110 data=cifar100              another network, another data set
  densenet-run model.growth_rate=24 epochs=100 seed=1      options as overrides
  densenet-run recipe=one_cycle epochs=10                  a short training
  densenet-run recipe=one_cycle budget=1e15                as many multiply-adds for every network
  densenet-run trainer=ddp                                 all GPUs of this machine
  densenet-run --multirun model.growth_rate=12,24,40 model.compression=0.5,1.0
  densenet-run -m model=resnet_20,densenet_bc_40 seeds=until_decided sweep.baseline=model=resnet_20
  densenet-run sweep=small_figure4 plan=true               what a sweep would run, and its cost
  densenet-run resume=outputs/DATE/TIME                    resume an interrupted run or sweep
  densenet-run task=test checkpoint=outputs/DATE/TIME/checkpoints/last.ckpt

Choices (group=name)

{choices}

Sweeps (sweep=name)

{sweeps}

Options (key=value), here with their values

{options}
More
  --cfg job            print the configuration of a run, and do not start it
  --config-dir=FOLDER  add configuration files of your own
  --version            print the version of densenet-cli
  --info, --hydra-help, --shell-completion   print what Hydra knows

{plan}
Exit status
  0    everything typed is done
  1    a run failed or cannot be run, or something typed is wrong: a message on standard error says why
  2    there is no such flag
  130  interrupted by Ctrl-C, or 128 + the number of another signal: resume= goes on
"""


def text(config_dir: str | None, overrides: list[str]) -> str:
    """The text of --help. Only within `composing`.

    Args:
        config_dir: a folder with configuration files of the user's own, whose choices are shown too.
        overrides: typed besides --help; the options are shown with them.
    """
    choices: dict[str, list[str]] = {}
    sweeps = {}
    folders = [CONF, *([Path(config_dir)] if config_dir else [])]
    for folder in folders:
        for file in sorted(folder.glob("*/**/*.yaml")):
            group, *names = file.relative_to(folder).with_suffix("").parts
            if group == "sweep":
                sweeps["/".join(names)] = first_comment(file)
            elif group != "hydra":
                choices.setdefault("=".join([group, *(f"{name}/" for name in names[:-1])]), []).append(
                    names[-1]
                )
    cfg = compose(overrides, with_hydra=True)
    for group in OF_HYDRA:
        choices[group] = GlobalHydra.instance().config_loader().get_group_options(group)
    chosen = {group: cfg.hydra.runtime.choices.get(group) for group in SECTIONS}
    with open_dict(cfg):
        del cfg["hydra"]
    return TEXT.format(
        choices=_aligned({group: ", ".join(names) for group, names in sorted(choices.items())}),
        sweeps=_aligned(sweeps),
        options=commented(OmegaConf.to_yaml(cfg), comments(folders, chosen), COLUMNS),
        plan=described("run plan=json", "plan=json"),
    )


def _aligned(rows: dict[str, str]) -> str:
    """A line for each name and what belongs to it, continued below itself where it is long."""
    width = max(map(len, rows)) + 4
    return "\n".join(
        textwrap.fill(
            f"  {name}".ljust(width) + text,
            COLUMNS,
            subsequent_indent=" " * width,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for name, text in rows.items()
    )


def first_comment(file: Path) -> str:
    """The first comment of a configuration file, which says what it is."""
    lines = file.read_text("utf-8").splitlines()
    comments = (line[1:].strip() for line in lines if line.startswith("# ") and "@package" not in line)
    return next(comments, "")


def show_configuration(typed: argparse.Namespace, overrides: list[str]) -> None:
    """Print the composed configuration as YAML. Only within `composing`.

    Args:
        typed: `cfg` (job, hydra or all), `package` (a section of it, or None) and `resolve` (whether
            to replace interpolations by their values).
        overrides: as typed.

    Raises:
        UserError: if there is no such section.
    """
    cfg = compose(overrides, with_hydra=True)
    HydraConfig.instance().set_config(cfg)
    OmegaConf.set_readonly(cfg.hydra, None)
    with open_dict(cfg):
        if typed.cfg == "job":
            del cfg["hydra"]
        elif typed.cfg == "hydra":
            cfg = OmegaConf.masked_copy(cfg, "hydra")
    shown = OmegaConf.select(cfg, typed.package) if typed.package else cfg
    if shown is None:
        raise UserError(f"--package={typed.package}: the configuration has no such section")
    if not isinstance(shown, Container):
        print(shown)
        return
    if typed.resolve:
        OmegaConf.resolve(shown)
    print(OmegaConf.to_yaml(shown), end="")
