"""Faults as values: what happens to which replica, at which step, in which phase; with a text form that travels."""

from __future__ import annotations

import builtins
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from deeprelax import errors
from deeprelax.errors import ConfigError, nearest

FAULTS_VARIABLE = "DEEPRELAX_FAULTS"
"""Environment variable of the driver whose text reaches every replica of the runs on Ray that it starts."""

Phase = Literal["step", "before_exchange", "inside_exchange", "after_exchange", "save"]
PHASES: tuple[Phase, ...] = get_args(Phase)
Action = Literal["kill", "stop", "delay", "raise", "poison"]
ACTIONS: tuple[Action, ...] = get_args(Action)
_FORM = re.compile(r"^(\*|\d+)@(\d+)/(\w+)=(\w+)(?:\(([^()]*)\))?$")
_SHAPE = "REPLICA@STEP/PHASE=ACTION, such as 1@40/inside_exchange=kill or 0@10/step=stop(2.5)"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. It happens once, when its phase first comes at or after its step.

    Args:
        replica: index a; None = every replica.
        step: mini-batch steps that the replica has made, >= 1.
        phase: ``step`` is before a gradient is computed; ``before_exchange`` after the message is made and before it is
            sent, ``inside_exchange`` while the replica waits for the answer, ``after_exchange`` before it takes the
            answer in; ``save`` after its part of a checkpoint is on disk and before anyone is told.
        action: ``kill`` is SIGKILL to the own process, ``stop`` SIGSTOP and, ``seconds`` later, SIGCONT; ``delay``
            sleeps; ``raise`` raises ``error``; ``poison`` sets all weights to ``value``, in ``step`` and around an
            exchange.
        seconds: of ``stop`` and ``delay``, > 0.
        error: of ``raise``: the name of an error of deeprelax or Python, and a message after a comma.
        value: of ``poison``: ``nan``, ``inf`` or a number.

    Raises:
        ConfigError: a field is out of range, or the action is impossible in the phase.
    """

    replica: int | None
    step: int
    phase: Phase
    action: Action
    seconds: float = 1.0
    error: str = "InjectedError"
    value: float = float("nan")

    def __post_init__(self) -> None:
        for what, given, known in (("phase", self.phase, PHASES), ("action", self.action, ACTIONS)):
            if given not in known:
                raise ConfigError(
                    f"Unknown {what} {given!r}. Must be one of {', '.join(known)}.{nearest(given, known)}"
                )
        if self.step < 1:
            raise ConfigError(f"Invalid step={self.step}. Must be >= 1.")
        if not 0 < self.seconds < float("inf"):
            raise ConfigError(f"Invalid seconds={self.seconds}. Must be > 0.")
        if self.action == "poison" and self.phase in {"inside_exchange", "save"}:
            raise ConfigError(f"Invalid phase={self.phase!r} of poison. Must be step, before_ or after_exchange.")
        if self.action == "raise" and self.phase == "inside_exchange":
            raise ConfigError("Invalid phase='inside_exchange' of raise. Must be one in which the loop runs.")
        error_of(self.error)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Return the fault written as ``REPLICA@STEP/PHASE=ACTION``.

        ``stop(2)`` and ``delay(2)`` take seconds, ``raise(ValueError, why)`` an error, ``poison(inf)`` a value; ``*``
        is every replica.

        Raises:
            ConfigError: the text is no fault.

        Example:
            >>> str(Fault.parse("1@40/inside_exchange=kill"))
            '1@40/inside_exchange=kill'
        """
        found = _FORM.match(text.strip())
        if found is None:
            raise ConfigError(f"Invalid fault {text!r}. Must be {_SHAPE}.")
        replica, step, phase, action, argument = found.groups()
        try:
            return cls(
                replica=None if replica == "*" else int(replica),
                step=int(step),
                phase=phase,  # type: ignore[arg-type] # checked there
                action=action,  # type: ignore[arg-type]
                **_argument(action, argument),  # type: ignore[arg-type]
            )
        except ConfigError as error:
            raise ConfigError(f"Invalid fault {text!r}. {error}") from None

    def __str__(self) -> str:
        argument = {"stop": f"({self.seconds!r})", "delay": f"({self.seconds!r})", "poison": f"({self.value!r})"}
        argument["raise"] = f"({self.error})"
        who = "*" if self.replica is None else self.replica
        return f"{who}@{self.step}/{self.phase}={self.action}{argument.get(self.action, '')}"


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """The faults of a run. Its text form reaches workers through the run's job.

    A replacement starts where the run is, so what was done to the replica before is behind it. Where a replica goes
    back (to a checkpoint, to a round that is still open), give ``once_in``, or it dies for ever.

    Args:
        faults: any number, also for one replica.
        once_in: folder where a fault leaves a file when it happens, so that it does not happen to a replacement again.

    Example:
        >>> plan = FaultPlan.parse("1@40/before_exchange=kill; *@100/step=delay(0.5)")
        >>> len(plan.faults), FaultPlan.parse(str(plan)) == plan
        (2, True)
    """

    faults: tuple[Fault, ...] = ()
    once_in: str | None = None

    @classmethod
    def parse(cls, text: str) -> FaultPlan:
        """Return the plan written as faults between semicolons; ``once_in=FOLDER`` may be among them.

        Raises:
            ConfigError: a part is neither.
        """
        words = [word.strip() for word in text.split(";") if word.strip()]
        folders = [word.removeprefix("once_in=") for word in words if word.startswith("once_in=")]
        faults = tuple(Fault.parse(word) for word in words if not word.startswith("once_in="))
        return cls(faults=faults, once_in=folders[-1] if folders else None)

    @staticmethod
    def text_of_environment() -> str:
        """Return the text of :data:`FAULTS_VARIABLE`, checked.

        Raises:
            ConfigError: it is no plan.
        """
        text = os.environ.get(FAULTS_VARIABLE, "")
        try:
            FaultPlan.parse(text)
        except ConfigError as error:
            raise ConfigError(f"Invalid {FAULTS_VARIABLE}: {error}") from None
        return text

    def __str__(self) -> str:
        folder = [] if self.once_in is None else [f"once_in={self.once_in}"]
        return "; ".join([*folder, *map(str, self.faults)])

    def of(self, replica: int) -> tuple[Fault, ...]:
        """Return the faults of one replica."""
        return tuple(fault for fault in self.faults if fault.replica in {None, replica})

    def claim(self, fault: Fault, replica: int) -> bool:
        """Return whether a fault has not happened to the replica before, and note that it does now."""
        if self.once_in is None:
            return True
        mark = Path(self.once_in) / re.sub(r"[^\w.@*-]", "_", f"{replica} {fault}")
        mark.parent.mkdir(parents=True, exist_ok=True)
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def error_of(text: str) -> Exception:
    """Return the error written as its class's name and, after a comma, its message.

    Raises:
        ConfigError: deeprelax and Python have no such error.
    """
    name, _, message = (word.strip() for word in text.partition(","))
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise ConfigError(f"Unknown error {name!r}. Must be one of deeprelax.errors or of Python.")
    return kind(message or "A fault was injected.")


def _argument(action: str, argument: str | None) -> dict[str, object]:
    if argument is None:
        return {}
    if action == "raise":
        return {"error": argument}
    field = {"stop": "seconds", "delay": "seconds", "poison": "value"}.get(action)
    try:
        number = float(argument)
    except ValueError:
        number = None
    if field is None or number is None:
        raise ConfigError(f"{argument!r} is nothing that {action} takes. Must be {_SHAPE}.")
    return {field: number}
