"""A user's .npz file of data: read without trusting it, checked against the model's inputs."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auditor.errors import UsageError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """Arrays of an .npz file, samples along the first axis of each, all equally many."""

    path: Path
    arrays: Mapping[str, Array]

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return int(next(iter(self.arrays.values())).shape[0])

    def inputs(self, names: Sequence[str]) -> tuple[Array, ...]:
        """The model's inputs, in the order of `names`. Raises `UsageError` if one is missing."""
        found = self._find("x", names)
        if found is None:
            wanted = "x" if len(names) == 1 else f"x_0 … x_{len(names) - 1}"
            raise UsageError(
                f"{self.path}: has no array for the model's input; wanted {wanted} "
                f"or {', '.join(names)}, found {', '.join(self.arrays)}"
            )
        return found

    def targets(self, names: Sequence[str]) -> tuple[Array, ...] | None:
        """Targets in the order of `names`; None where the file has none."""
        return self._find("y", names)

    def _find(self, letter: str, names: Sequence[str]) -> tuple[Array, ...] | None:
        numbered = [f"{letter}_{index}" for index in range(len(names))]
        for wanted in ([letter], numbered, list(names)):
            if len(wanted) == len(names) and all(name in self.arrays for name in wanted):
                return tuple(self.arrays[name] for name in wanted)
        return None


def read_data(path: Path) -> DataFile:
    """Read an .npz file; nothing in it is unpickled. Raises `UsageError` in one line."""
    try:
        if not zipfile.is_zipfile(path):
            path.stat()  # for a missing file, which is no zip file either
            raise UsageError(f"{path}: not an .npz file; save x and y with np.savez")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise UsageError(f"{path}: no such data file") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        damaged = "cannot be read; save it again with np.savez"
        objects = "holds Python objects, which are not loaded; save plain arrays"
        what = objects if "pickle" in str(error) else damaged
        raise UsageError(f"{path}: {what}", detail=str(error)) from error
    _check(path, arrays)
    return DataFile(path=path, arrays=arrays)


def check_input(
    path: Path, name: str, array: Array, shape: Sequence[int | None], dtype: str
) -> None:
    """Check one input array: `shape` without the batch, None where any size will do.

    Raises `UsageError` in one line.
    """
    given = array.shape[1:]
    fits = len(given) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, given, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        got = ", ".join(map(str, given))
        raise UsageError(f"{path}: input {name} takes samples of shape ({wanted}), found ({got})")
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{path}: input {name} takes {dtype} numbers, found {array.dtype}")
    wants_whole = dtype.startswith(("int", "uint")) and array.dtype.kind == "f"
    if wants_whole and not np.array_equal(array, np.floor(array)):
        raise UsageError(f"{path}: input {name} takes whole numbers, found fractions")


def _check(path: Path, arrays: Mapping[str, Array]) -> None:
    if not arrays:
        raise UsageError(f"{path}: holds no arrays; save x and y with np.savez")
    counts: dict[int, str] = {}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise UsageError(f"{path}: array {name} is a single number, not samples")
        counts.setdefault(array.shape[0], name)
    if len(counts) > 1:
        told = ", ".join(f"{name} has {count}" for count, name in counts.items())
        raise UsageError(f"{path}: arrays differ in their number of samples: {told}")
    if 0 in counts:
        raise UsageError(f"{path}: holds no samples")
