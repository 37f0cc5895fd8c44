"""The DenseNets of four libraries: how each is built, and which of its modules the kernels replace.

A network is recognised by the functions that compute it, and by the names and classes of its modules.
No library is imported for that: whoever has one of its networks has imported it.
"""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import nn

from densenet_cli.kernels.structure import Convolution
from densenet_cli.kernels.trunk import Trunk

# The classes of modules by name, with digits left out; each library says what its batch norm is.
CLASSES: dict[str, type[nn.Module]] = {
    "conv": nn.Conv2d,
    "relu": nn.ReLU,
    "dropout": nn.Dropout,
    "pool": nn.AvgPool2d,
    "drop": nn.Identity,  # these two in a batch norm of timm
    "act": nn.ReLU,
}
CLASSES_OF_LAST_POOLING: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "pool": nn.AdaptiveAvgPool2d,
    "flatten": nn.Flatten,
    "out": nn.Linear,
}
CHECKPOINTING = "memory_efficient", "grad_checkpointing"  # switches of layers
# What layers and transitions may hold besides modules. Any other attribute may be an option that
# changes what they compute, which the kernels would not know.
KNOWN_ATTRIBUTES = {*vars(nn.Module()), *CHECKPOINTING, "drop_rate"}


class CannotFuse(Exception):
    """Why the kernels cannot compute a network."""


class Parts(NamedTuple):
    """A DenseNet as the kernels see it.

    Attributes:
        stem: modules to call one after another, from the images to the trunk's input.
        trunk: what the kernels compute.
        head: modules to call one after another, from the trunk's output to the logits.
        modules: those of the stem and the trunk, what contains them, and the last average pooling.
        made_by: the library whose network it is.
    """

    stem: Sequence[nn.Module]
    trunk: Trunk
    head: Sequence[nn.Module]
    modules: Sequence[nn.Module]
    made_by: Library


@dataclass(frozen=True, eq=False)
class Library:
    """How a library builds its class DenseNet. The children of a module are written as "conv relu".

    Args:
        module: the Python module that defines the class.
        block: the class of a dense block; its children are layers.
        layers: the classes of layers, and the children that each may have.
        transition: the class of a transition, and its children.
        pooling: the module between `features` and `head`, and its children.
        head: what follows the last average pooling.
        methods: what computes the network.
        norm: the class of batch norms, and its children.
        others: more classes of modules in the stem and in `pooling`.
        drops_everywhere: whether dropout follows each convolution, or only the last one of a layer.
    """

    module: str
    block: str
    layers: Mapping[str, Sequence[str]]
    transition: tuple[str, str]
    pooling: tuple[str, str] | None = None
    head: Sequence[str] = ("classifier",)
    methods: Sequence[str] = ("forward",)
    norm: tuple[str, str] = ("torch.nn:BatchNorm2d", "")
    others: Sequence[str] = ()
    drops_everywhere: bool = False

    def computes(self, network: nn.Module) -> bool:
        """Whether a network is computed by this library's DenseNet, and by no subclass or wrapper."""
        kind = getattr(type(network), "unfused", type(network))
        for name in self.methods:
            method: Any = getattr(kind, name, None)
            if getattr(method, "__module__", None) != self.module:
                return False
            if method.__qualname__ != f"DenseNet.{name}" or hasattr(method, "__wrapped__"):
                return False
        return vars(network).keys().isdisjoint({*self.methods} - {"forward"})

    def parts_of(self, network: nn.Module) -> Parts:
        """The parts of this library's DenseNet. Raises CannotFuse."""
        features = _at(network, "features")
        modules = [*features.modules()]
        if self.pooling is not None:
            modules += self._pooling(network, *self.pooling).modules()
        children = list(_children(features).items())
        kinds = [type(child) for _, child in children]
        if type(features) is not nn.Sequential or self._class(self.block) not in kinds:
            raise CannotFuse("its `features` contain no dense blocks")
        begin = kinds.index(self._class(self.block))
        stem, first = self._stem([child for _, child in children[:begin]])
        head = [_at(network, name) for name in self.head]
        return Parts(stem, self._trunk(first, children[begin:]), head, modules, self)

    @functools.cached_property
    def forwards(self) -> dict[type[nn.Module], Callable[..., Any]]:
        """The `forward` of all classes that modules in the stem, the trunk and the pooling may have."""
        own = [self.block, *self.layers, self.transition[0], self.norm[0], *self.others]
        kinds: list[type[nn.Module]] = [nn.Sequential, nn.MaxPool2d, *CLASSES.values()]
        kinds += CLASSES_OF_LAST_POOLING.values()
        return {kind: kind.forward for kind in [*kinds, *map(self._class, own)]}

    @functools.cache  # noqa: B019 -- the libraries below live as long as the process
    def _class(self, name: str) -> type[nn.Module]:
        """A class, by its name in `module`, or by "another.module:Name"."""
        return cast(
            type[nn.Module], pkgutil.resolve_name(name if ":" in name else f"{self.module}:{name}")
        )

    def _stem(self, modules: Sequence[nn.Module]) -> tuple[Sequence[nn.Module], nn.BatchNorm2d | None]:
        """What to call before the trunk; the batch norm before max pooling if the trunk has both."""
        norm = self._class(self.norm[0])
        ending = [norm, nn.MaxPool2d] if self.norm[1] else [norm, nn.ReLU, nn.MaxPool2d]
        end = len(modules) - len(ending)
        if [type(module) for module in modules[max(end, 0) :]] != ending:
            return modules, None
        if not _is_pool_of_stem(cast(nn.MaxPool2d, modules[-1])):
            return modules, None
        self._named("features.norm0", modules[end], [self.norm[1]])
        return modules[:end], cast(nn.BatchNorm2d, modules[end])

    def _trunk(self, first: nn.BatchNorm2d | None, children: Sequence[tuple[str, nn.Module]]) -> Trunk:
        """Dense blocks, transitions between them, and the last batch norm."""
        block, transition, norm = map(self._class, (self.block, self.transition[0], self.norm[0]))
        expected = [*[block, transition] * (-(-len(children) // 2) - 1), block, norm]
        for (name, module), kind in zip(children, expected, strict=False):
            _check_class(f"features.{name}", module, kind)
        if len(children) < len(expected):
            raise CannotFuse("its `features` do not end in a batch norm")
        name, last = children[-1]
        self._named(f"features.{name}", last, [self.norm[1]])
        blocks = [
            [self._layer(f"features.{name}.{own}", layer) for own, layer in _children(module).items()]
            for name, module in children[:-1:2]
        ]
        if not all(blocks):
            raise CannotFuse("a block has no layers")
        return Trunk(
            blocks,
            [self._transition(f"features.{name}", module) for name, module in children[1:-1:2]],
            cast(nn.BatchNorm2d, last),
            first,
        )

    def _layer(self, path: str, layer: nn.Module) -> list[Convolution]:
        kinds = {self._class(name): names for name, names in self.layers.items()}
        if type(layer) not in kinds:
            raise CannotFuse(f"{path} is a {type(layer).__name__}")
        _check_attributes(path, layer)
        for switch in CHECKPOINTING:
            if getattr(layer, switch, False):
                raise CannotFuse(
                    f"{path}.{switch} is true, which updates running statistics twice a step; set it "
                    "to false: fused layers take less memory still"
                )
        inner = _children(layer).get("layers", layer)  # of MONAI
        return self._convolutions(layer, self._named(path, inner, kinds[type(layer)]))

    def _transition(self, path: str, transition: nn.Module) -> Convolution:
        _check_attributes(path, transition)
        children = self._named(path, transition, [self.transition[1]])
        if "pool" in children and not _halves(cast(nn.AvgPool2d, children["pool"])):
            raise CannotFuse(f"{path}.pool is {children['pool']}; the kernels average 2 x 2 pixels")
        return self._convolutions(transition, children)[0]

    def _convolutions(self, parent: nn.Module, children: Mapping[str, nn.Module]) -> list[Convolution]:
        norms = [module for name, module in children.items() if name.startswith("norm")]
        convolutions = [module for name, module in children.items() if name.startswith("conv")]
        dropout = cast(nn.Dropout, children["dropout"]).p if "dropout" in children else None
        probability = cast(float, getattr(parent, "drop_rate", 0.0) if dropout is None else dropout)
        if probability >= 1:
            raise CannotFuse("everything is dropped")
        return [
            Convolution(
                cast(nn.BatchNorm2d, norm),
                cast(nn.Conv2d, conv),
                probability if self.drops_everywhere or conv is convolutions[-1] else 0.0,
            )
            for norm, conv in zip(norms, convolutions, strict=True)
        ]

    def _pooling(self, network: nn.Module, path: str, names: str) -> nn.Module:
        """The module between `features` and the head, if it computes the mean of each map."""
        module = _at(network, path)
        children = self._named(path, module, [names], CLASSES_OF_LAST_POOLING)
        pool = cast(nn.AdaptiveAvgPool2d, children["pool"])
        flatten = cast(nn.Flatten, children["flatten"])
        if pool.output_size not in (1, (1, 1)) or (flatten.start_dim, flatten.end_dim) != (1, -1):
            raise CannotFuse(f"{path} does not average each feature map")
        return module

    def _named(
        self,
        path: str,
        module: nn.Module,
        expected: Sequence[str],
        classes: Mapping[str, type[nn.Module]] = CLASSES,
    ) -> dict[str, nn.Module]:
        """A module's children, checked: `expected` lists their names, `classes` has their classes."""
        children = _children(module)
        if " ".join(children) not in expected:
            found = " ".join(children) or "nothing"
            raise CannotFuse(f"{path} contains {found} instead of {' or '.join(expected) or 'nothing'}")
        for name, child in children.items():
            kind = name.rstrip("0123456789")
            right = self._class(self.norm[0]) if kind == "norm" else classes[kind]
            _check_class(f"{path}.{name}", child, right)
            if kind == "norm":
                self._named(f"{path}.{name}", child, [self.norm[1]])
        return children


LIBRARIES = {
    "densenet_cli": Library(
        "densenet_cli.models.densenet",
        "DenseBlock",
        {
            "PlainLayer": ["norm1 conv1 dropout"],
            "BottleneckLayer": ["norm1 conv1 norm2 conv2 dropout"],
        },
        ("Transition", "norm conv dropout"),
        drops_everywhere=True,
    ),
    "torchvision": Library(
        "torchvision.models.densenet",
        "_DenseBlock",
        {"_DenseLayer": ["norm1 relu1 conv1 norm2 relu2 conv2"]},
        ("_Transition", "norm relu conv pool"),
    ),
    "timm": Library(
        "timm.models.densenet",
        "DenseBlock",
        {"DenseLayer": ["norm1 conv1 norm2 conv2"]},
        ("DenseTransition", "norm conv pool"),
        pooling=("global_pool", "pool flatten"),
        head=("head_drop", "classifier"),
        methods=("forward", "forward_features", "forward_head"),
        norm=("timm.layers:BatchNormAct2d", "drop act"),
        others=("timm.layers:BlurPool2d", "timm.layers:SelectAdaptivePool2d"),
    ),
    "MONAI": Library(
        "monai.networks.nets.densenet",
        "_DenseBlock",
        {
            "_DenseLayer": [
                "norm1 relu1 conv1 norm2 relu2 conv2",
                "norm1 relu1 conv1 norm2 relu2 conv2 dropout",
            ]
        },
        ("_Transition", "norm relu conv pool"),
        pooling=("class_layers", "relu pool flatten out"),
        head=("class_layers.out",),
    ),
}


def is_densenet(network: nn.Module) -> bool:
    """Whether a library's DenseNet computes a network, whatever its modules are."""
    return any(library.computes(network) for library in LIBRARIES.values())


def parts_of(network: nn.Module) -> Parts:
    """The parts of a DenseNet as they are now. Raises CannotFuse."""
    for library in LIBRARIES.values():
        if library.computes(network):
            return library.parts_of(network)
    raise CannotFuse(f"it is not computed by the class DenseNet of {', '.join(LIBRARIES)}")


def _at(network: nn.Module, path: str) -> nn.Module:
    try:
        return network.get_submodule(path)
    except AttributeError as error:
        raise CannotFuse(f"it has no {path}") from error


def _children(module: nn.Module) -> dict[str, nn.Module]:
    """Children by name, those that are None left out; a shared one as often as it has names."""
    return {name: child for name, child in module._modules.items() if child is not None}


def _check_attributes(path: str, module: nn.Module) -> None:
    if unknown := sorted(vars(module).keys() - KNOWN_ATTRIBUTES):
        raise CannotFuse(f"{path} has attributes that the kernels do not know: {', '.join(unknown)}")


def _check_class(path: str, module: nn.Module, kind: type[nn.Module]) -> None:
    if type(module) is not kind:
        raise CannotFuse(f"{path} is {type(module).__name__} instead of {kind.__name__}")


def _is_pool_of_stem(pool: nn.MaxPool2d) -> bool:
    sizes = pool.kernel_size, pool.stride, pool.padding, pool.dilation
    return sizes == (3, 2, 1, 1) and not pool.ceil_mode and not pool.return_indices


def _halves(pool: nn.AvgPool2d) -> bool:
    sizes = pool.kernel_size, pool.stride, pool.padding
    return sizes == (2, 2, 0) and not pool.ceil_mode and pool.divisor_override is None
