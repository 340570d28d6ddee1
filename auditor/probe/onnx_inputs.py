"""The inputs of an imported ONNX graph: which axis of each holds the samples, and what has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import InputSpec, LayerGraph, Shape

if TYPE_CHECKING:
    from auditor.onnx_import import OnnxModel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class SampledInput:
    """One input that holds samples: as the probe draws it, samples first, and where they lie."""

    spec: InputSpec
    axis: int


def hold_the_rest(model: OnnxModel, graph: LayerGraph) -> tuple[str, ...]:
    """Hold the inputs of a model that have no samples at one value, and say which at what.

    That is what the graph compares the input with, as a sampling rate; 1 for another number; zeros
    for a tensor, the state before a first step.
    """
    axes = sample_axes([spec.shape for spec in graph.inputs])
    told = []
    for spec, axis in zip(graph.inputs, axes, strict=True):
        if axis is None and spec.shape is not None:
            value, because = _whole(spec, model.compared(spec.name))
            model.hold(**{spec.name: value})
            told.append(f"input {spec.name}: {because}")
    return tuple(told)


def sampled_inputs(model: OnnxModel, graph: LayerGraph) -> tuple[SampledInput, ...]:
    """The inputs of an imported model that are not held, in its order.

    Raises `ProbeFailed` for one that holds no samples.
    """
    specs = {spec.name: spec for spec in graph.inputs}
    axes = dict(zip(specs, sample_axes([spec.shape for spec in graph.inputs]), strict=True))
    found = []
    for name, kind in model.onnx_inputs:
        declared = InputSpec(name=name, call=name, shape=kind.shape, dtype=kind.dtype)
        spec = specs.get(name, declared)
        axis = axes.get(name)
        if axis is None or spec.shape is None:
            raise ProbeFailed(
                f"input {name!r} has no axis of samples: hold it at a value, model.hold({name}=…)"
            )
        size = spec.shape[axis]
        shape = (
            size if isinstance(size, int) else None,
            *spec.shape[:axis],
            *spec.shape[axis + 1 :],
        )
        found.append(SampledInput(spec=replace(spec, shape=shape), axis=axis))
    return tuple(found)


def sample_axes(shapes: Sequence[Shape | None]) -> tuple[int | None, ...]:
    """Which axis of each input of a graph holds the samples; None for one that has none.

    Samples lie along the first axis of the first input that leaves it open. Another input has
    them along the axis of the same name, else along its first if that is open, else along the only
    one it leaves open: the state of a recurrent net is `(layers, batch, units)`. Where every first
    axis is fixed, and not alike, a name that all inputs have is that of the samples; else the first
    axis of the first input holds them, and another input's first axis of that size.
    """
    firsts = [shape[0] for shape in shapes if shape]
    left_open = [size for size in firsts if not isinstance(size, int)]
    if left_open:
        return tuple(_axis(shape, left_open[0]) if shape else None for shape in shapes)
    batch: int | str | None = firsts[0] if firsts else None
    if len(set(firsts)) > 1:
        ranked = [shape for shape in shapes if shape]
        named = [name for name in ranked[0] if isinstance(name, str)]
        batch = next((name for name in named if all(name in shape for shape in ranked)), batch)
    return tuple(shape.index(batch) if shape and batch in shape else None for shape in shapes)


def _axis(shape: Shape, batch: str | None) -> int | None:
    if batch is not None and batch in shape:
        return shape.index(batch)
    if not isinstance(shape[0], int):
        return 0
    unnamed = [axis for axis, size in enumerate(shape) if size is None]
    return unnamed[0] if len(unnamed) == 1 else None


def _whole(spec: InputSpec, compared: tuple[float, ...]) -> tuple[Array, str]:
    shape = tuple(size if isinstance(size, int) else 1 for size in spec.shape or ())
    if compared:
        value, because = compared[0], f"{compared[0]:g}, which the graph compares it with"
    elif shape in ((), (1,)):
        value, because = 1.0, "1; nothing says what it is"
    else:
        value, because = 0.0, "zeros; it holds no samples, and may be a state"
    half = spec.dtype == "bfloat16" or spec.dtype.startswith("float8")
    return np.full(shape, value).astype("float32" if half else spec.dtype), because
