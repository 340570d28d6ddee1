"""What a probe is asked to do, and within which bounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Settings of one probe.

    `device` is auto, cpu or gpu. `batch_size` None chooses one by the size of the activations.
    `data` is an .npz file with arrays `x` and `y` (or `x_0`, `x_1`, …, or the names of inputs and
    outputs); None draws synthetic batches. `loss`, `optimizer` and `learning_rate` stand in for a
    model that was saved uncompiled. `timeout_s` and `max_memory_mib` bound the worker.
    """

    backend: str = "tensorflow"
    device: str = "auto"
    batch_size: int | None = None
    batches: int = 3
    seed: int = 0
    data: Path | None = None
    loss: str | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    unsafe: bool = False
    timeout_s: float = 300.0
    max_memory_mib: int = 8192
