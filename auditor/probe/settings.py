"""What a probe is asked to do, and within which bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path

from auditor.errors import UsageError

DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Settings of one probe.

    `device` is auto, cpu or gpu. `batch_size` None chooses one by the size of the activations.
    `data` is an .npz file with arrays `x` and `y` (or `x_0`, `x_1`, …, or the names of inputs and
    outputs); None draws synthetic batches. `given` says that the file stands for arrays handed
    over in Python: its name means nothing to anybody. `loss`, `optimizer` and `learning_rate`
    stand in for a model that was saved uncompiled. `curvature` is the number of Lanczos steps for
    the sharpness, 0 for none; None takes some where they cost little. `timeout_s` and
    `max_memory_mib` bound the worker.

    Raises `UsageError` for a value of another type or out of its range, wherever it came from.
    """

    backend: str = "tensorflow"
    device: str = "auto"
    batch_size: int | None = None
    batches: int = 3
    seed: int = 0
    data: Path | None = None
    given: bool = False
    loss: str | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    unsafe: bool = False
    curvature: int | None = None
    timeout_s: float = 300.0
    max_memory_mib: int = 8192

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            # NumPy's numbers are taken for Python's, which alone go through the worker's pipe.
            object.__setattr__(self, name, check(name, value))


def _whole(least: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise UsageError(f"{name} must be a whole number of at least {least}, not {value!r}")
        return int(value)

    return check


def _positive(name: str, value: object) -> float:
    real = isinstance(value, Real) and not isinstance(value, bool)
    try:
        number = float(value) if real else math.nan  # type: ignore[arg-type]
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not 0 < number < math.inf:
        raise UsageError(f"{name} must be a positive, finite number, not {value!r}")
    return number


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} must be the name of one in Keras, not {value!r}")
    return value


def _device(name: str, value: object) -> str:
    if value not in DEVICES:
        raise UsageError(f"{name} must be one of {', '.join(DEVICES)}, not {value!r}")
    return str(value)


_OPTIONAL = frozenset({"batch_size", "loss", "optimizer", "learning_rate", "curvature"})
_CHECKS: dict[str, Callable[[str, object], object]] = {
    "device": _device,
    "batch_size": _whole(1),
    "batches": _whole(1),
    "seed": _whole(0),
    "loss": _text,
    "optimizer": _text,
    "learning_rate": _positive,
    "curvature": _whole(0),
    "timeout_s": _positive,
    "max_memory_mib": _whole(1),
}
