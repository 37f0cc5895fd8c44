"""What may be built from a configuration that is read from the folder of a run or a sweep.

What users type may name any class or function. A folder may come from someone else: from it only the
targets listed here are built, each in its own section and with plain values, and those targets that the
user names in the same command (trust=, --trust, or an override).
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
_TORCHVISION = "torchvision.models."  # followed by the name of a classification network
TARGETS = {  # section -> targets that a file may name there
    "model": {
        f"{_MODELS}.densenet.DenseNet",
        f"{_MODELS}.resnet.ResNet",
        f"{_MODELS}.preact_resnet.PreActResNet",
        f"{_MODELS}.wide_resnet.WideResNet",
        f"{_MODELS}.torchvision_models.torchvision_model",
        f"{_MODELS}.timm_models.timm_model",
        f"{_MODELS}.history.alexnet.AlexNet",
        f"{_MODELS}.history.bn_inception.BNInception",
        f"{_MODELS}.history.bn_inception.SmallInception",
        f"{_MODELS}.history.cifar_sized.alexnet_cifar",
        f"{_MODELS}.history.cifar_sized.mobilenet_v1_cifar",
        f"{_MODELS}.history.cifar_sized.mobilenet_v2_cifar",
        f"{_MODELS}.history.cifar_sized.resnext_cifar",
        f"{_MODELS}.history.cifar_sized.vgg_cifar",
        f"{_MODELS}.history.googlenet.GoogLeNet",
        f"{_MODELS}.history.highway.HighwayNetwork",
        f"{_MODELS}.history.inception_resnet.InceptionResNetV1",
        f"{_MODELS}.history.lenet.LeNet5",
        f"{_MODELS}.history.network_in_network.NetworkInNetwork",
        f"{_MODELS}.history.zfnet.ZFNet",
    },
    "data": {
        "densenet_cli.data.cifar.Cifar10",
        "densenet_cli.data.cifar.Cifar100",
        "densenet_cli.data.digits.Digits",
        "densenet_cli.data.image_folder.ImageFolder",
        "densenet_cli.data.image_table.ImageTable",
        "densenet_cli.data.mnist.FashionMnist",
        "densenet_cli.data.mnist.Mnist",
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
        "densenet_cli.training.schedules.divide_at_steps",
        "densenet_cli.training.schedules.divide_when_completed",
        "densenet_cli.training.schedules.divide_when_reached",
        "densenet_cli.training.schedules.inverse_time",
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
# The options of Hydra that a file may set: none of them names a program, a class or a folder.
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
    """A file names a target that is neither listed here nor trusted.

    Attributes:
        target: its name, as read.
    """

    def __init__(self, message: str, target: Any) -> None:
        super().__init__(message)
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:  # what crosses to another process
        return type(self), (str(self), self.target)


@dataclass(frozen=True)
class Trust:
    """The targets that a user has named in the present command, so that files may name them too.

    Attributes:
        names: classes, functions, and packages with everything in them, typed as trusted.
        typed: targets of other overrides, such as mine.Net in model._target_=mine.Net.
        how: how `names` are typed: "trust=" or "--trust ".
    """

    names: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()
    how: str = "trust="

    @classmethod
    def of(cls, names: Sequence[str], overrides: Sequence[str], config_dir: str | None) -> Trust:
        """What a command trusts: `names`, and the targets in its overrides and its --config-dir."""
        files = sorted(Path(config_dir).rglob("*.yaml")) if config_dir else []
        # The name of a folder must not make its content trusted.
        texts = [one for one in overrides if one.partition("=")[0] not in ("resume", "checkpoint")]
        texts += [file.read_text("utf-8", errors="replace") for file in files]
        return cls(tuple(names), frozenset(name for text in texts for name in _TARGET.findall(text)))

    def covers(self, target: Any) -> bool:
        """Whether the user trusts a target."""
        return isinstance(target, str) and (
            target in self.typed
            or any(target == name or target.startswith(f"{name}.") for name in self.names)
        )

    def check(
        self, config: dict[str, Any], source: Path, sections: Iterable[str] = tuple(TARGETS)
    ) -> None:
        """Check the targets of a resolved configuration before they are built.

        Args:
            config: as read from a file, or composed from overrides that were read.
            source: that file or its folder, for the message.
            sections: those that will be built.

        Raises:
            UserError: if a section has a target that is neither listed here nor trusted.
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
                    raise UserError(f"{source}: {section}.{name}: must not be set by a file")
                if (section, name) == ("recipe.schedule", "schedulers") and not trusted:
                    self._check_parts(section, value, source)
                else:
                    self._check_value(f"{section}.{name}", value, trusted, source)

    def _check_parts(self, section: str, parts: Any, source: Path) -> None:
        """Check each of the schedules that a schedule is composed of."""
        for part in parts if isinstance(parts, list) else [parts]:
            if not isinstance(part, dict):
                raise UserError(
                    f"{source}: {section}.schedulers={shown(parts)}: must be a list of schedules"
                )
            self._check_section(section, part, source)

    def _check_value(self, name: str, value: Any, trusted: bool, source: Path) -> None:
        """Check an option of a target: a plain value, unless the target is trusted."""
        if isinstance(value, dict):
            if "_target_" in value and not self.covers(value["_target_"]):
                raise self._refusal(f"{name}._target_", value["_target_"], source)
            if "_target_" not in value and not trusted:
                rule = "must be a plain value or a list of them, since it is read from a file"
                raise UserError(f"{source}: {name}={shown(value)}: {rule}")
            for key, item in value.items():
                self._check_value(f"{name}.{key}", item, True, source)
        elif isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                self._check_value(f"{name}.{number}", item, trusted, source)

    def _refusal(self, key: str, target: Any, source: Path) -> Refused:
        rule = "is not built, since it is read from a file and could be somebody else's code"
        how = f"; if you trust it, type {self.how}{target} too"
        return Refused(f"{source}: {key}={shown(target)}: {rule}{how if target else ''}", target)


def trust_override(config: dict[str, Any], trust: Trust = Trust()) -> list[str]:
    """The trust= that must be typed with resume= for a run with this configuration.

    Args:
        config: a resolved configuration.
        trust: what the command will trust anyway.

    Returns:
        For example ["trust=mine.Net"]; [] if every target is listed here, or if no trust= helps.
    """
    names: list[str] = []
    while True:
        try:
            Trust(tuple(names), trust.typed).check(config, Path())
        except Refused as refused:
            if not isinstance(refused.target, str) or refused.target in names:
                return []
            names.append(refused.target)
        except UserError:
            return []
        else:
            return [f"trust={','.join(names)}"] if names else []


def check_stored_overrides(overrides: Iterable[str], source: Path, otherwise: str) -> None:
    """Check overrides that were read from a file, before they are composed with those typed.

    Their targets are checked afterwards, in the configuration composed from them; see `Trust.check`.

    Args:
        overrides: as read.
        source: the file, for the message.
        otherwise: what to type if such an override is meant, as the end of a sentence.

    Raises:
        UserError: if an override cannot be read, or sets more than the options of a run or a sweep.
    """
    parser = OverridesParser.create()
    for override in overrides:
        try:
            reason = _refusal(override, parser.parse_override(override))
        except HydraException:
            reason = "cannot be read as key=value"
        if reason is not None:
            raise UserError(f"{source}: {override}: {reason}; {otherwise}")


def _refusal(text: str, override: Override) -> str | None:
    """Why an override must be typed and not read from a file; None if it may be read."""
    key, value = override.key_or_group, text.partition("=")[2]
    section = key.partition(".")[0].partition("/")[0]
    if override.package is not None or ".." in key:
        return "puts a choice into another section"
    if section == "hydra" and key not in HYDRA_KEYS and not key.startswith("hydra.sweeper.params."):
        return "may run a program, and therefore must be typed"
    is_choice = "." not in key and key not in schema.TOP
    if is_choice and re.search(r"\.\.|\\|(^|[^\w])/", value):
        return "names a file outside the configuration folder"
    if "${" in re.sub(r"\$\{[\w.]+\}", "", text):
        return "calls a function, and therefore must be typed"
    return None


def _is_listed(section: str, target: Any) -> bool:
    if not isinstance(target, str):
        return False
    if target in TARGETS[section]:
        return True
    if section != "model" or not target.startswith(_TORCHVISION):
        return False
    from torchvision import models  # slow to import, and rarely needed

    return target.removeprefix(_TORCHVISION) in models.list_models(module=models)
