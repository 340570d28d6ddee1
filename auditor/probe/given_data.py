"""Arrays handed over in Python, written to an .npz file: the form in which a worker takes data."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np

from auditor.errors import UsageError

Array = np.ndarray[Any, Any]

FORMS = (
    "data must be (x, y), a dict of arrays by the names an .npz file would have, "
    "or the path of an .npz file"
)


@contextmanager
def given_data(data: Any) -> Iterator[Path]:
    """`data` as an .npz file, for as long as it is needed.

    Either `(x, y)`, each an array, a list of arrays for several inputs or outputs, or a dict of
    them by name; or one dict of everything. A list of numbers, nested as deep as it may be, is one
    array. `y` may be None: targets are drawn then.

    Raises `UsageError` for anything else, and for what is no array of numbers.
    """
    arrays = dict(_arrays(data))
    if not arrays:
        raise UsageError(f"data holds no arrays; {FORMS}")
    with tempfile.TemporaryDirectory(prefix="geb-audit-") as folder:
        path = Path(folder) / "data.npz"
        # np.savez takes no array by the name of one of its own arguments.
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        yield path


def _arrays(data: Any) -> Iterator[tuple[str, Array]]:
    if isinstance(data, Mapping):
        yield from _by_name(data)
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        yield from _side("x", data[0])
        if data[1] is not None:
            yield from _side("y", data[1])
    else:
        raise UsageError(f"{FORMS}, not {_words(data)}")


def _side(letter: str, value: Any) -> Iterator[tuple[str, Array]]:
    """The inputs, or the targets, under the names that an .npz file of data uses."""
    if isinstance(value, Mapping):
        yield from _by_name(value)
    elif isinstance(value, (list, tuple)) and not _is_numbers(value):
        for index, item in enumerate(value):
            yield f"{letter}_{index}", _array(f"{letter}_{index}", item)
    else:
        yield letter, _array(letter, value)


def _by_name(values: Mapping[Any, Any]) -> Iterator[tuple[str, Array]]:
    for name, value in values.items():
        if not isinstance(name, str):
            raise UsageError(f"data: arrays are named by strings, not by {name!r}")
        yield name, _array(name, value)


def _is_numbers(value: Any) -> bool:
    """Whether lists hold numbers in the end, and no arrays: then they are one array."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (Number, str))


def _array(name: str, value: Any) -> Array:
    """One array. bfloat16 and the like, which an .npz file does not know, come as float32."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "V":
            array = array.astype(np.float32)
    except Exception as error:  # whatever a framework's tensor raises, or lists of unequal length
        raise UsageError(
            f"data: {name} cannot be made an array: {_first_line(error)}", detail=str(error)
        ) from error
    if array.dtype.kind not in "biufSU":
        raise UsageError(f"data: {name} is no array of numbers: {_words(value)}")
    return array


def _words(value: Any) -> str:
    """What kind of thing a value is."""
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return f"a {kind} of {len(value)}"
    shape = getattr(value, "shape", None)
    return kind if shape is None else f"{kind} of shape {tuple(shape)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
