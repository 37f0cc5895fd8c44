"""What may be built from a configuration that was read back from a run's or a sweep's folder.

What a user types is his own and may name any class or function. A folder may come from someone else.
Of what is read from it only the targets listed here are built, each in its own section and with plain
values, and besides them what the user names in the command itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from densenet_cli.options import UserError, shown
from densenet_cli.record import schema

_MODELS = "densenet_cli.models"
_TORCHVISION = "torchvision.models."  # with the name of one of its classification networks
TARGETS = {  # section -> what a file may build there
    "model": {
        f"{_MODELS}.densenet.DenseNet",
        f"{_MODELS}.resnet.ResNet",
        f"{_MODELS}.preact_resnet.PreActResNet",
        f"{_MODELS}.wide_resnet.WideResNet",
        f"{_MODELS}.torchvision_models.torchvision_model",
        f"{_MODELS}.timm_models.timm_model",
        f"{_MODELS}.history.bn_inception.BNInception",
        f"{_MODELS}.history.bn_inception.SmallInception",
        f"{_MODELS}.history.cifar_sized.alexnet_cifar",
        f"{_MODELS}.history.cifar_sized.mobilenet_v1_cifar",
        f"{_MODELS}.history.cifar_sized.mobilenet_v2_cifar",
        f"{_MODELS}.history.cifar_sized.resnext_cifar",
        f"{_MODELS}.history.cifar_sized.vgg_cifar",
        f"{_MODELS}.history.highway.HighwayNetwork",
        f"{_MODELS}.history.lenet.LeNet5",
        f"{_MODELS}.history.network_in_network.NetworkInNetwork",
        f"{_MODELS}.history.zfnet.ZFNet",
    },
    "data": {
        "densenet_cli.data.cifar.Cifar10",
        "densenet_cli.data.cifar.Cifar100",
        "densenet_cli.data.digits.Digits",
        "densenet_cli.data.image_folder.ImageFolder",
        "densenet_cli.data.svhn.Svhn",
    },
    "recipe.optimizer": {
        f"torch.optim.{name}"
        for name in (
            *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon"),
            *("NAdam", "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam"),
        )
    },
    "recipe.schedule": {
        "densenet_cli.training.schedules.constant",
        "densenet_cli.training.schedules.divide_when_completed",
        "densenet_cli.training.schedules.divide_when_reached",
    }
    | {
        f"torch.optim.lr_scheduler.{name}"  # those that take plain values
        for name in (
            *("ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR"),
            *("ExponentialLR", "LinearLR", "MultiStepLR", "OneCycleLR", "PolynomialLR"),
            *("ReduceLROnPlateau", "StepLR"),
            *("ChainedScheduler", "SequentialLR"),  # of such schedules
        )
    },
    "logger": {
        f"lightning.pytorch.loggers.{name}"
        for name in ("CSVLogger", "CometLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger")
    },
}
# What a file may say to Hydra: none of it names a program, a class or a folder of further files.
HYDRA_KEYS = {
    *("hydra/launcher", "hydra/sweeper", "hydra.sweep.dir"),
    *(f"hydra.sweeper.{name}" for name in ("trials", "sampler", "seed")),
    *(
        f"hydra.launcher.{name}"
        for name in (
            *("jobs", "n_jobs", "nodes", "name", "timeout_min", "cpus_per_task", "tasks_per_node"),
            *("gpus_per_node", "gpus_per_task", "mem_gb", "mem_per_cpu", "mem_per_gpu"),
            *("partition", "qos", "account", "constraint", "array_parallelism", "max_num_timeout"),
        )
    ),
}


_TARGET = re.compile(r"""\b_target_["']?\s*[=:]\s*["']?([\w.]+)""")  # as typed, and in YAML


class Refused(UserError):
    """A file names what is neither listed here nor trusted.

    Attributes:
        target: what would be built.
    """

    def __init__(self, message: str, target: Any) -> None:
        super().__init__(message)
        self.target = target


@dataclass(frozen=True)
class Trust:
    """What a user has named in this very command, which files may therefore name too.

    Attributes:
        names: classes and functions, or packages with all that is in them, that he says he trusts.
        typed: further names in what he typed for other ends, such as model._target_=mine.Net.
        how: how `names` are typed: "trust=" or "--trust ".
    """

    names: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()
    how: str = "trust="

    @classmethod
    def of(cls, names: Sequence[str], words: Sequence[str], config_dir: str | None) -> Trust:
        """What the words of densenet-run and the files of a typed --config-dir name."""
        files = sorted(Path(config_dir).rglob("*.yaml")) if config_dir else []
        # A folder that is read must not trust itself, whatever it is called.
        texts = [word for word in words if word.partition("=")[0] not in ("resume", "checkpoint")]
        texts += [file.read_text("utf-8", errors="replace") for file in files]
        return cls(tuple(names), frozenset(name for text in texts for name in _TARGET.findall(text)))

    def covers(self, target: Any) -> bool:
        """Whether the user has named a target."""
        return isinstance(target, str) and (
            target in self.typed
            or any(target == name or target.startswith(f"{name}.") for name in self.names)
        )

    def check(
        self, config: dict[str, Any], source: Path, sections: Iterable[str] = tuple(TARGETS)
    ) -> None:
        """Check what is to be built from a resolved configuration.

        Args:
            config: as it was read, or as words that were read make it.
            source: the file or folder, for the message.
            sections: those that will be built.

        Raises:
            UserError: a section would build something that is neither listed here nor trusted.
        """
        for section in sections:
            node: Any = config
            for name in section.split("."):
                node = node.get(name) if isinstance(node, dict) else None
            if not isinstance(node, dict):
                raise UserError(f"{source}: {section}={shown(node)}: must be a section of options")
            if section != "logger" or node:
                self._check_section(section, node, source)

    def _check_section(self, section: str, options: dict[str, Any], source: Path) -> None:
        target = options.get("_target_")
        trusted = self.covers(target)
        if not trusted and not _is_listed(section, target):
            raise self._refusal(f"{section}._target_", target, source)
        for name, value in options.items():
            if name != "_target_":
                if not trusted and str(name).startswith("_"):
                    raise UserError(f"{source}: {section}.{name}: is not taken from a file")
                if (section, name) == ("recipe.schedule", "schedulers") and not trusted:
                    self._check_parts(section, value, source)
                else:
                    self._check_value(f"{section}.{name}", value, trusted, source)

    def _check_parts(self, section: str, parts: Any, source: Path) -> None:
        """Check the schedules of which one is composed, each as if it stood alone."""
        for part in parts if isinstance(parts, list) else [parts]:
            if not isinstance(part, dict):
                raise UserError(
                    f"{source}: {section}.schedulers={shown(parts)}: must be a list of schedules"
                )
            self._check_section(section, part, source)

    def _check_value(self, name: str, value: Any, trusted: bool, source: Path) -> None:
        """Check an option of a target, which must be a plain value unless that target is trusted."""
        if isinstance(value, dict):
            if "_target_" in value and not self.covers(value["_target_"]):
                raise self._refusal(f"{name}._target_", value["_target_"], source)
            if "_target_" not in value and not trusted:
                rule = "must be a plain value, or a list of them, where it is read from a file"
                raise UserError(f"{source}: {name}={shown(value)}: {rule}")
            for key, item in value.items():
                self._check_value(f"{name}.{key}", item, True, source)
        elif isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                self._check_value(f"{name}.{number}", item, trusted, source)

    def _refusal(self, key: str, target: Any, source: Path) -> Refused:
        rule = "is not among what is built from a file, which could run code of someone else's"
        how = f"; if it is yours, type {self.how}{target} besides"
        return Refused(f"{source}: {key}={shown(target)}: {rule}{how if target else ''}", target)


def words_of_trust(config: dict[str, Any], trust: Trust = Trust()) -> list[str]:
    """What must be typed besides resume= where it will read a configuration from a folder.

    Args:
        config: a resolved configuration.
        trust: what the command that reads it will trust without these words.

    Returns:
        A word such as "trust=mine.Net", or none if all that is built is listed here.
    """
    names: list[str] = []
    while True:
        try:
            Trust(tuple(names), trust.typed).check(config, Path())
        except Refused as refused:
            if not isinstance(refused.target, str) or refused.target in names:
                return []  # no word would help
            names.append(refused.target)
        except UserError:
            return []
        else:
            return [f"trust={','.join(names)}"] if names else []


def check_words(words: Iterable[str], source: Path, otherwise: str) -> None:
    """Check words that were read from a file before they are put among those that were typed.

    Their targets are checked in the configuration that they make; see `Trust.check`.

    Args:
        words: as they were read.
        source: the file, for the message.
        otherwise: what a user types who wants such a word, as the end of a sentence.

    Raises:
        UserError: a word cannot be read, or reaches for more than the options of a run or a sweep.
    """
    parser = OverridesParser.create()
    for word in words:
        try:
            reason = _reach(word, parser.parse_override(word))
        except HydraException:
            reason = "cannot be read as key=value"
        if reason is not None:
            raise UserError(f"{source}: {word}: {reason}; {otherwise}")


def _reach(word: str, override: Override) -> str | None:
    """What a word does that only a typed word may do; None if it does nothing of the kind."""
    key, value = override.key_or_group, word.partition("=")[2]
    section = key.partition(".")[0].partition("/")[0]
    if override.package is not None or ".." in key:
        return "puts a choice in another place"
    if section == "hydra" and key not in HYDRA_KEYS and not key.startswith("hydra.sweeper.params."):
        return "may run a program, and is taken only from what you type"
    is_choice = "." not in key and key not in schema.TOP
    if is_choice and re.search(r"\.\.|\\|(^|[^\w])/", value):
        return "names a file outside the folder of choices"
    if "${" in re.sub(r"\$\{[\w.]+\}", "", word):
        return "calls a function, and is taken only from what you type"
    return None


def _is_listed(section: str, target: Any) -> bool:
    if not isinstance(target, str):
        return False
    if target in TARGETS[section]:
        return True
    if section != "model" or not target.startswith(_TORCHVISION):
        return False
    from torchvision import models  # slow to import, and seldom needed

    return target.removeprefix(_TORCHVISION) in models.list_models(module=models)
