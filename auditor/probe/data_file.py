"""A user's .npz file of data: read without trusting it, checked against the model's inputs."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from auditor.errors import UsageError
from auditor.formats.plain_file import other_kind

Array = np.ndarray[Any, Any]

#: What an archive raises that is damaged; RuntimeError is that of one that is encrypted.
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error)
#: Arrays that a message names.
LISTED = 8
TARGET = re.compile(r"y(_[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """Arrays of an .npz file, samples along the first axis of each, all equally many.

    `name` is what messages call it, `title` what a report does.
    """

    name: str
    title: str
    arrays: Mapping[str, Array]

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return int(next(iter(self.arrays.values())).shape[0])

    def inputs(self, names: Sequence[str]) -> Mapping[str, Array]:
        """The model's inputs by array name, in the order of `names`.

        Raises `UsageError` if one is missing.
        """
        found = self._find("x", names)
        if found is None:
            raise self._missing("x", "the model's input", names)
        return found

    def targets(self, names: Sequence[str]) -> Mapping[str, Array] | None:
        """Targets by array name, in the order of `names`; None where the file has none."""
        return self._find("y", names)

    def check_none(self, names: Sequence[str]) -> None:
        """Raise `UsageError` where there are targets, and others than those of `names`."""
        if any(TARGET.fullmatch(name) for name in self.arrays):
            raise self._missing("y", "every loss", names)

    def _missing(self, letter: str, what: str, names: Sequence[str]) -> UsageError:
        wanted = letter if len(names) == 1 else f"{letter}_0 … {letter}_{len(names) - 1}"
        return UsageError(
            f"{self.name}: has no array for {what}; wanted {wanted} "
            f"or {', '.join(names)}, found {_listed(tuple(self.arrays))}"
        )

    def _find(self, letter: str, names: Sequence[str]) -> Mapping[str, Array] | None:
        found = names_of(letter, names, self.arrays)
        return None if found is None else {name: self.arrays[name] for name in found}


def names_of(letter: str, names: Sequence[str], stored: Collection[str]) -> tuple[str, ...] | None:
    """What the arrays of a model's inputs ("x") or outputs ("y") are called among those stored.

    `names` are the model's own for them, in whose order the answer is; None if some are missing.
    """
    numbered = [f"{letter}_{index}" for index in range(len(names))]
    if f"{letter}_{len(names)}" in stored:
        numbered = []  # more than are wanted: samples, perhaps, each in an array of its own
    for wanted in ([letter], numbered, list(names)):
        if len(wanted) == len(names) and all(name in stored for name in wanted):
            return tuple(wanted)
    return None


def read_data(path: Path, *, given: bool = False) -> DataFile:
    """Read an .npz file; nothing in it is unpickled. Raises `UsageError` in one line.

    `given` says that it stands for arrays handed over in Python, and is not to be named.
    """
    name, title = ("data", "given") if given else (str(path), path.name)
    with archive_of_arrays(path, name), np.load(path, allow_pickle=False) as stored:
        arrays = {array: stored[array] for array in stored.files}
    check_samples(name, arrays)
    return DataFile(name=name, title=title, arrays=arrays)


@contextmanager
def archive_of_arrays(path: Path, name: str) -> Iterator[None]:
    """Let what goes wrong in reading an .npz file come out as a `UsageError` in one line.

    `name` is what messages call the file.
    """
    check_plain(path)
    try:
        if not zipfile.is_zipfile(path):
            raise UsageError(f"{name}: not an .npz file; save x and y with np.savez")
        yield
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, *BROKEN_ARCHIVE) as error:
        damaged = "cannot be read; save it again with np.savez"
        objects = "holds Python objects, which are not loaded; save plain arrays"
        what = objects if "pickle" in str(error) else damaged
        raise UsageError(f"{name}: {what}", detail=str(error)) from error


def check_plain(path: Path) -> None:
    """Raise `UsageError` where there is no file, or something that waits to be opened."""
    if kind := other_kind(path):
        raise UsageError(f"{path}: {kind}, not an .npz file; save x and y with np.savez")
    try:
        path.stat()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such data file") from None
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read: {told}") from error


def nonfinite_arrays(arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """Arrays that hold NaN or an infinity, each as "x: 3 of 4,096 values"."""
    told = []
    for name, array in arrays.items():
        if array.dtype.kind in "fc":
            count = int(array.size - np.count_nonzero(np.isfinite(array)))
            if count:
                told.append(f"{name}: {count:,} of {array.size:,} values")
    return tuple(told)


def check_input(
    data: str, name: str, array: Array, shape: Sequence[int | None], dtype: str
) -> None:
    """Check one input array: `shape` without the batch, None where any size will do.

    `data` is what messages call the data.

    Raises `UsageError` in one line.
    """
    given = array.shape[1:]
    fits = len(given) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, given, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        got = ", ".join(map(str, given))
        raise UsageError(f"{data}: input {name} takes samples of shape ({wanted}), found ({got})")
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{data}: input {name} takes {dtype} numbers, found {array.dtype}")
    wants_whole = dtype.startswith(("int", "uint")) and array.dtype.kind == "f"
    if wants_whole and not np.isfinite(array).all():
        raise UsageError(f"{data}: input {name} takes whole numbers, found NaN or infinite ones")
    if wants_whole and not np.array_equal(array, np.floor(array)):
        raise UsageError(f"{data}: input {name} takes whole numbers, found fractions")
    extreme = beyond(array, dtype)
    if extreme is not None:
        raise UsageError(f"{data}: input {name} takes {dtype} numbers, found {extreme:g}")


def beyond(array: Array, dtype: str) -> float | None:
    """A finite value that becomes infinite, or another, as a number of this dtype."""
    if array.dtype.kind == "b" or dtype == "bool":
        return None
    # Half precisions, some unknown to NumPy, go in as single precision.
    whole = dtype.startswith(("int", "uint"))
    limits = np.iinfo(dtype) if whole else np.finfo("float64" if dtype == "float64" else "float32")
    usable = array[np.isfinite(array)]
    for extreme in (usable.min(), usable.max()) if usable.size else ():
        if not limits.min <= extreme <= limits.max:
            return float(extreme)
    return None


class Shaped(Protocol):
    """Anything with the shape of an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""
        ...


def check_samples(data: str, arrays: Mapping[str, Shaped]) -> None:
    """Raise `UsageError` where arrays are not samples, or not equally many."""
    if not arrays:
        raise UsageError(f"{data}: holds no arrays; save x and y with np.savez")
    counts: dict[int, str] = {}
    for name, array in arrays.items():
        if not array.shape:
            raise UsageError(f"{data}: array {name} is a single number, not samples")
        counts.setdefault(array.shape[0], name)
    if len(counts) > 1:
        told = ", ".join(f"{name} has {count}" for count, name in counts.items())
        raise UsageError(f"{data}: arrays differ in their number of samples: {told}")
    if 0 in counts:
        raise UsageError(f"{data}: holds no samples")


def _listed(names: Sequence[str]) -> str:
    """Names in a line that stays readable: the first ones, and how many there are."""
    if len(names) <= LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:LISTED])}, … ({len(names)} arrays)"
