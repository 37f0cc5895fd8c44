"""A warm-up: training begins with a learning rate of its own, whatever the schedule says."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from torch.optim import Optimizer

from densenet_cli.options import OptionError, number, whole_number

log = logging.getLogger(__name__)


class WarmUp:
    """Replaces the learning rates of an optimizer until the warm-up is over.

    The schedule advances meanwhile, from its own rates, so that it goes on as if there had been no
    warm-up. This is the warm-up of He et al. 2015 (arXiv:1512.03385, section 4.2): 0.01 "until the
    training error is below 80%", then 0.1, "the rest of the learning schedule is as done previously".

    Args:
        rate: the learning rate, above 0. Parameter groups keep their ratios.
        steps: after so many steps it is over.
        epochs: the same in epochs.
        until_error: it is over after the first epoch whose training error, in percent, is lower.

    Raises:
        OptionError: for a value, or unless one of steps, epochs and until_error is given.
    """

    def __init__(
        self,
        rate: float | None = None,
        steps: int | None = None,
        epochs: int | None = None,
        until_error: float | None = None,
    ) -> None:
        self.rate = number("rate", rate, example=0.01, above=0)
        ends = {"steps": steps, "epochs": epochs, "until_error": until_error}
        given = [name for name, value in ends.items() if value is not None]
        if len(given) != 1:
            name = given[-1] if given else "steps"
            rule = "one of steps, epochs and until_error must say when it ends, the others be null"
            raise OptionError(name, ends[name], rule, None if given else 400)
        for name in ("steps", "epochs"):
            if name in given:
                whole_number(name, ends[name], example=400 if name == "steps" else 10)
        if until_error is not None:
            number("until_error", until_error, example=80, above=0, at_most=100)
        self.steps, self.epochs, self.until_error = steps, epochs, until_error
        self._scheduled: list[float] | None = []  # the schedule's rates; None once the warm-up is over
        self._rates: list[float] = []
        self._optimizer: Optimizer | None = None

    @property
    def is_over(self) -> bool:
        """Whether the schedule's rates are used."""
        return self._scheduled is None

    def count_in_steps(self, steps_per_epoch: int, part: float = 1.0) -> None:
        """Set `steps`, unless an error ends the warm-up.

        Args:
            steps_per_epoch: of the run.
            part: the steps of the run, as a part of those that its recipe asks for.
        """
        own = self.steps if self.epochs is None else self.epochs * steps_per_epoch
        if own is not None:
            self.steps = max(1, round(own * part))

    def attach(self, optimizer: Optimizer) -> None:
        """Note the rates of the parameter groups, before a schedule changes them."""
        base = optimizer.defaults["lr"]
        self._rates = [self.rate * group["lr"] / base for group in optimizer.param_groups]
        self._optimizer = optimizer

    def begin(self) -> None:
        """Replace the schedule's first rates; in a resumed run, those at its checkpoint."""
        if self._scheduled is not None:
            self._scheduled = self._scheduled or self._current()
            self._set(self._rates)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within, the optimizer has the schedule's rates, which the schedule may change."""
        if self._scheduled is None:
            yield
            return
        self._set(self._scheduled)
        yield
        self._scheduled = self._current()
        self._set(self._rates)

    def after_step(self, step: int) -> None:
        """End it if it is over after this step, counted from 1."""
        if self._scheduled is not None and self.steps is not None and step >= self.steps:
            self._end(f"step {step}")

    def after_epoch(self, error: float, epoch: int) -> None:
        """End it if it is over after this epoch, from 1, with this training error in percent."""
        if self._scheduled is not None and self.until_error is not None and error < self.until_error:
            self._end(f"epoch {epoch}, with a training error of {error:.2f} %")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"scheduled": self._scheduled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; before `begin`."""
        self._scheduled = state["scheduled"]

    def _end(self, when: str) -> None:
        assert self._scheduled is not None
        self._set(self._scheduled)
        self._scheduled = None
        log.info("the warm-up is over after %s", when)

    def _current(self) -> list[float]:
        assert self._optimizer is not None
        return [group["lr"] for group in self._optimizer.param_groups]

    def _set(self, rates: list[float]) -> None:
        assert self._optimizer is not None
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
