"""Whether modules are still what they were when they were looked at.

A user may change a module at any time, and nothing tells us: attributes, hooks, children and parameters
are entries of dictionaries. To look at all of them and ask whether each is the same object as before
takes a tenth of the time that it takes to find out anew what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
CONTENTS = ("_parameters", "_buffers", "_modules")


class Snapshot:
    """Classes, attributes, children and tensors of modules without hooks, as they are now.

    Not the numbers in their tensors, but where these lie, and their shapes, strides and formats.

    Args:
        parent: only its children belong to the snapshot. It is not kept alive.
        modules: all of these modules, which are kept.
    """

    def __init__(self, parent: nn.Module, modules: Sequence[nn.Module]) -> None:
        self._modules = modules
        self._kinds = list(map(type, modules))
        own = list(map(vars, modules))
        self._hooks = [attributes[name] for attributes in own for name in HOOKS]
        self._contents = [attributes[name] for attributes in own for name in CONTENTS]
        dictionaries = self._dictionaries(parent)
        self._names = [*chain.from_iterable(dictionaries)]
        self._values = [*_values(dictionaries)]
        self._tensors = [value for value in _values(self._contents) if isinstance(value, Tensor)]
        self._places = _places(self._tensors)

    def holds(self, parent: nn.Module) -> bool:
        """Whether all is as it was. False also for a value that was replaced by an equal one."""
        dictionaries = self._dictionaries(parent)
        return (
            all(map(is_, map(type, self._modules), self._kinds))
            and not any(self._hooks)
            and [*chain.from_iterable(dictionaries)] == self._names
            and all(map(is_, _values(dictionaries), self._values))
            and _places(self._tensors) == self._places
        )

    def _dictionaries(self, parent: nn.Module) -> list[dict[str, Any]]:
        return [parent._modules, *map(vars, self._modules), *self._contents]


def _values(dictionaries: Iterable[dict[str, Any]]) -> Iterable[Any]:
    return chain.from_iterable(map(dict.values, dictionaries))


def _places(tensors: Sequence[Tensor]) -> list[list[Any]]:
    facts = Tensor.data_ptr, attrgetter("shape"), Tensor.stride, attrgetter("dtype"), type
    return [list(map(fact, tensors)) for fact in facts]
