"""Weights of Keras 1 in the layout of Keras 2.

Keras 1 kept a kernel for each gate of a recurrent layer, laid convolution kernels out by the
ordering of axes of their layer, and gave those on sequences an axis more. Keras 2 converts them
when it loads such a file (`preprocess_weights_for_loading` of 2.0 to 2.3), and so are they here,
lazily. One step is left out, as it changes no statistic: turning kernels round that were trained
on Theano, whose convolution is a true one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from auditor.formats.keras_identity import wrapped_layer
from auditor.formats.keras_model import LayerConfig
from auditor.formats.stored_tensor import StoredTensor
from auditor.formats.untrusted import text
from auditor.graph.weight import TensorReader

#: "dense_1_W", "lstm_1_U_i"; TensorFlow adds "_1" to names taken, and ":0".
NAME = re.compile(r"_(?P<part>[WUb](_[a-z])?)(_\d+)?(:\d+)?$")
#: Which of a layer's weights stand one after another, gate by gate, and Keras 2's order of gates.
GATES: Mapping[str, str] = {"icfo": "ifco", "zrh": "zrh"}
PARTS = "WUb"


@dataclass(frozen=True, kw_only=True)
class JoinedTensor:
    """Reads several tensors as one, side by side along the last axis."""

    parts: tuple[TensorReader, ...]

    def __call__(self) -> np.ndarray[Any, Any]:
        """The values. Errors as those of the parts."""
        return np.concatenate([part() for part in self.parts], axis=-1)


@dataclass(frozen=True, kw_only=True)
class TurnedTensor:
    """Reads a tensor with its axes in another order, and of the shape that then remains."""

    source: TensorReader
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray[Any, Any]:
        """The values. Errors as those of the source."""
        return self.source().transpose(self.axes).reshape(self.shape)


def joined_gates(tensors: tuple[StoredTensor, ...]) -> tuple[StoredTensor, ...]:
    """A layer's tensors with the gates of recurrent layers put together, where there are any."""
    return tuple(_joined(list(tensors)))


def _joined(waiting: list[StoredTensor]) -> Iterator[StoredTensor]:
    parts = [_part(tensor) for tensor in waiting]
    place = 0
    while place < len(waiting):
        for stored, wanted in GATES.items():
            names = [f"{part}_{gate}" for gate in stored for part in PARTS]
            if parts[place : place + len(names)] != names:
                continue
            gates = dict(zip(names, waiting[place : place + len(names)], strict=True))
            together = [[gates[f"{part}_{gate}"] for gate in wanted] for part in PARTS]
            if all(_alike(group) for group in together):
                yield from (_side_by_side(group) for group in together)
                place += len(names)
                break
        else:
            yield waiting[place]
            place += 1


def _part(tensor: StoredTensor) -> str:
    found = NAME.search(tensor.name)
    return found["part"] if found and "/" not in tensor.name else ""


def _alike(tensors: list[StoredTensor]) -> bool:
    first = tensors[0]
    return bool(first.shape) and all(
        tensor.shape == first.shape and tensor.dtype == first.dtype for tensor in tensors
    )


def _side_by_side(tensors: list[StoredTensor]) -> StoredTensor:
    first = tensors[0]
    return replace(
        first,
        name=NAME.sub(lambda found: f"_{found['part'][0]}", first.name),
        shape=(*first.shape[:-1], sum(tensor.shape[-1] for tensor in tensors)),
        read=JoinedTensor(parts=tuple(tensor.read for tensor in tensors)),
    )


def turned_kernel(layer: LayerConfig, tensor: StoredTensor) -> StoredTensor:
    """A layer's kernel as Keras 2 lays it out; any other tensor as it is."""
    layer = wrapped_layer(layer)
    turn = KERNELS.get(layer.kind)
    if turn is None or _part(tensor) != "W":
        return tensor
    first = text(layer.config.get("data_format")) == "channels_first"
    axes = turn(tensor.shape, first)
    if axes is None or sorted(axes) != list(range(len(tensor.shape))):
        return tensor
    shape = tuple(tensor.shape[axis] for axis in axes)
    if layer.kind == "Conv1D":
        shape = (shape[0], *shape[2:])
    return replace(
        tensor, shape=shape, read=TurnedTensor(source=tensor.read, axes=axes, shape=shape)
    )


Turn = Callable[[tuple[int, ...], bool], tuple[int, ...] | None]


def _row(shape: tuple[int, ...], _: bool) -> tuple[int, ...] | None:
    """(taps, 1, in, out) since 1.2, (out, in, taps, 1) before."""
    if len(shape) != 4 or 1 not in (shape[1], shape[3]):
        return None
    return (0, 1, 2, 3) if shape[1] == 1 else (2, 3, 1, 0)


def _image(_: tuple[int, ...], first: bool) -> tuple[int, ...] | None:
    return (2, 3, 1, 0) if first else None


def _volume(_: tuple[int, ...], first: bool) -> tuple[int, ...] | None:
    return (2, 3, 4, 1, 0) if first else None


def _transposed(_: tuple[int, ...], first: bool) -> tuple[int, ...] | None:
    return (2, 3, 0, 1) if first else (0, 1, 3, 2)


KERNELS: Mapping[str, Turn] = {
    "Conv1D": _row,
    "Conv2D": _image,
    "Conv3D": _volume,
    "Conv2DTranspose": _transposed,
}
