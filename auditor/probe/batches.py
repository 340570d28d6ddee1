"""Batches to probe on: drawn to fit each input and loss, or taken from a user's file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditor.errors import ProbeFailed, UsageError
from auditor.graph.batch_statistics import least_positions
from auditor.graph.layer_graph import InputSpec, LayerGraph, Shape
from auditor.measurement import FEWEST_NORMALIZED
from auditor.probe.data_file import DataFile, check_input
from auditor.probe.domains import domain_of, lookup_of
from auditor.probe.laws import Domain, Sparse
from auditor.probe.losses import LossChoice
from auditor.probe.model_io import Layout, ModelInputs
from auditor.probe.targets import check_targets, draw_targets

Array = np.ndarray[Any, Any]

#: Sizes tried for axes the model leaves open: of sequences, and of images and volumes.
SEQUENCE_SIZE = 16
IMAGE_SIZES = {4: 64, 5: 16}
#: Factors on them, one after the other, until the model takes the shape.
SIZE_FACTORS = (1, 2, 4, 8, 16, 32, 64)
#: Batch sizes to choose from, and the activations (values of all calls) one batch may have.
BATCH_SIZES = (16, 8, 4, 2)
ACTIVATION_BUDGET = 2**26
#: How many times that batch normalization may take, to have enough values.
NORMALIZED_BUDGET = 8


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs in flattened order and targets in the order of the losses, `(batch, …)` each."""

    x: tuple[Array, ...]
    y: tuple[Array, ...]


@dataclass(frozen=True, kw_only=True)
class InputPlan:
    """One input: what it takes, and the concrete shape (without the batch) it is given."""

    spec: InputSpec
    shape: tuple[int, ...]
    domain: Domain | None
    layout: Layout = Layout.DENSE


def candidate_shapes(specs: Sequence[InputSpec]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Concrete input shapes without the batch, to be tried in turn; one, if all are known.

    Axes of the same name get the same size.
    """
    open_axes = any(not isinstance(size, int) for spec in specs for size in _sample_shape(spec))
    for factor in SIZE_FACTORS if open_axes else (1,):
        named: dict[str, int] = {}
        yield tuple(_concrete(spec, factor, named) for spec in specs)


def data_shapes(specs: Sequence[InputSpec], data: DataFile) -> tuple[tuple[int, ...], ...]:
    """Shapes of the data's inputs, checked against the model's. Raises `UsageError`."""
    arrays = tuple(data.inputs([spec.name for spec in specs]).values())
    for spec, array in zip(specs, arrays, strict=True):
        sizes = [size if isinstance(size, int) else None for size in _sample_shape(spec)]
        check_input(data.name, spec.name, array, sizes, spec.dtype)
    return tuple(array.shape[1:] for array in arrays)


def plan_inputs(
    graph: LayerGraph,
    inputs: ModelInputs,
    shapes: Sequence[tuple[int, ...]],
    data: DataFile | None,
) -> tuple[InputPlan, ...]:
    """What each input is given: a law to draw from, or none where there is data.

    Raises:
        ProbeFailed: nothing can be drawn for an input, or it holds no values.
        UsageError: the data would look up rows that an Embedding does not have.
    """
    for spec, shape in zip(inputs.specs, shapes, strict=True):
        if 0 in shape:
            words = "×".join(map(str, shape))
            raise ProbeFailed(f"input {spec.name!r} holds no values: its samples are {words}")
    if data is not None:
        _check_lookups(graph, inputs.specs, data)
    return tuple(
        InputPlan(
            spec=spec,
            shape=shape,
            domain=_law(graph, inputs, position) if data is None else None,
            layout=inputs.layout(position),
        )
        for position, (spec, shape) in enumerate(zip(inputs.specs, shapes, strict=True))
    )


def _law(graph: LayerGraph, inputs: ModelInputs, position: int) -> Domain:
    spec = inputs.specs[position]
    law = domain_of(graph, spec, inputs.vocabularies)
    # Of whole numbers zero is one like any other: a class, a token.
    sparse = inputs.layout(position) is Layout.SPARSE and spec.dtype.startswith(("float", "bf"))
    return Sparse(law=law) if sparse and spec.shape and len(spec.shape) > 1 else law


def choose_batch_size(
    asked: int | None, graph: LayerGraph, inputs: Sequence[InputPlan], samples: int | None
) -> tuple[int, str]:
    """Samples a batch: as the model fixes it, as asked, or the most that the budget allows.

    The second value says in words why it is not what was asked for, or the largest; empty if it is.

    The estimate counts the values of all calls' outputs; axes of unknown size count as the
    input's longest. Training keeps most of them until the backward pass has used them.
    """
    fixed = {plan.spec.shape[0] for plan in inputs if plan.spec.shape and plan.spec.shape[0]}
    if fixed:
        size = int(next(iter(fixed)))
        return size, "" if size == asked else f"batches of {size} samples: the model takes no other"
    reason = ""
    if asked is None:
        longest = max((size for plan in inputs for size in plan.shape[:-1]), default=1)
        values = sum(_values(shape, longest) for call in graph.calls for shape in call.out_shapes)
        fitting = (size for size in BATCH_SIZES if size * values <= ACTIVATION_BUDGET)
        asked = next(fitting, BATCH_SIZES[-1])
        if asked != BATCH_SIZES[0]:
            mib = ACTIVATION_BUDGET * 4 // 2**20
            reason = f"batches of {asked} samples, to keep activations near {mib} MiB"
            larger = _enough_to_normalize(graph, longest)
            if asked < larger and larger * values <= NORMALIZED_BUDGET * ACTIVATION_BUDGET:
                asked = larger
                reason = f"batches of {asked} samples: batch normalization needs as many"
    if samples is not None and samples < asked:
        return samples, f"batches of {samples} samples: the data holds no more"
    return asked, reason


def _enough_to_normalize(graph: LayerGraph, open_size: int) -> int:
    """The least size to choose from of which every batch normalization has enough values."""
    positions = least_positions(graph, open_size=open_size)
    needed = math.ceil(FEWEST_NORMALIZED / positions) if positions else 1
    return min((size for size in BATCH_SIZES if size >= needed), default=BATCH_SIZES[0])


def draw_inputs(
    inputs: Sequence[InputPlan], *, batch_size: int, count: int, seed: int
) -> tuple[tuple[Array, ...], ...]:
    """Synthetic inputs of `count` batches, in flattened order; the same for the same seed."""
    rng = np.random.default_rng([seed, 0x78])
    return tuple(tuple(_draw(plan, batch_size, rng) for plan in inputs) for _ in range(count))


def synthetic_batches(
    x: Sequence[tuple[Array, ...]], losses: LossChoice, *, seed: int
) -> tuple[Batch, ...]:
    """These inputs with targets drawn to fit the losses."""
    rng = np.random.default_rng([seed, 0x79])
    return tuple(
        Batch(x=inputs, y=tuple(draw_targets(head, rng, len(inputs[0])) for head in losses.heads))
        for inputs in x
    )


def mixed(batches: Sequence[Batch]) -> tuple[Array, ...]:
    """The inputs of a batch whose samples come from all batches in turn."""
    size = len(batches[0].x[0])
    return tuple(
        np.stack([batches[row % len(batches)].x[position][row] for row in range(size)])
        for position in range(len(batches[0].x))
    )


def data_inputs(
    data: DataFile, inputs: Sequence[InputPlan], rows: Sequence[Array]
) -> tuple[tuple[Array, ...], ...]:
    """The inputs of the samples numbered in `rows`, a batch for each of them."""
    arrays = tuple(data.inputs([plan.spec.name for plan in inputs]).values())
    return tuple(
        tuple(
            _cast(array[chosen], plan.spec.dtype)
            for plan, array in zip(inputs, arrays, strict=True)
        )
        for chosen in rows
    )


def data_batches(
    data: DataFile, x: Sequence[tuple[Array, ...]], losses: LossChoice, rows: Sequence[Array]
) -> tuple[Batch, ...] | None:
    """These inputs with the targets of the same samples; None if the data has no targets.

    Raises `UsageError` for targets that a loss cannot take.
    """
    names = [head.output.name for head in losses.heads]
    targets = data.targets(names)
    if targets is None:
        data.check_none(names)
        return None
    for head, (name, array) in zip(losses.heads, targets.items(), strict=True):
        check_targets(head, data.name, name, array)
    return tuple(
        Batch(x=inputs, y=tuple(_numeric(array[chosen]) for array in targets.values()))
        for inputs, chosen in zip(x, rows, strict=True)
    )


def sample_rows(samples: int, *, batch_size: int, count: int, seed: int) -> tuple[Array, ...]:
    """Numbers of the samples in each batch: a random order, begun again when it is used up."""
    order = np.random.default_rng([seed, 0x72]).permutation(samples)
    return tuple(np.resize(order, (count, batch_size)))


def describe_inputs(inputs: Sequence[InputPlan]) -> tuple[str, ...]:
    """What was drawn for each input, a sentence each."""
    return tuple(
        f"input {plan.spec.name} {_size(plan)}: {plan.domain.describe()}{plan.layout.remark}"
        for plan in inputs
        if plan.domain is not None
    )


def _draw(plan: InputPlan, batch_size: int, rng: np.random.Generator) -> Array:
    if plan.domain is None:
        raise ProbeFailed(f"nothing is known to draw for input {plan.spec.name!r}")
    return _cast(plan.domain.draw(rng, (batch_size, *plan.shape)), plan.spec.dtype)


def _cast(array: Array, dtype: str) -> Array:
    """In the input's dtype; half precisions go in as float32, and Keras casts them itself."""
    if dtype in ("float16", "bfloat16") or dtype.startswith("float8"):
        dtype = "float32"
    return array.astype(dtype)


def _numeric(array: Array) -> Array:
    """Targets as Keras takes them; double precision is brought to single."""
    return array.astype(np.float32) if array.dtype.kind in "bf" else array


def _check_lookups(graph: LayerGraph, specs: Sequence[InputSpec], data: DataFile) -> None:
    arrays = data.inputs([spec.name for spec in specs])
    for spec, array in zip(specs, arrays.values(), strict=True):
        rows = lookup_of(graph, spec)
        if rows is None:
            continue
        finite = np.isfinite(array)
        if not finite.all():
            found = f"{array.size - np.count_nonzero(finite):,} values that are NaN or infinite"
        elif array.min() < 0 or array.max() >= rows.end:
            found = f"{array.min()} to {array.max()}"
        else:
            continue
        raise UsageError(
            f"{data.name}: input {spec.name} holds {found}, "
            f"outside 0 to {rows.end - 1}{rows.because}"
        )


def _sample_shape(spec: InputSpec) -> Shape:
    if spec.shape is None:
        raise ProbeFailed(f"the shape of input {spec.name!r} is not known")
    if not spec.shape:
        raise ProbeFailed(
            f"input {spec.name!r} is one number for the whole batch: it has no axis of samples, "
            "and the probe measures by sample"
        )
    return spec.shape[1:]


def _concrete(spec: InputSpec, factor: int, named: dict[str, int]) -> tuple[int, ...]:
    shape = _sample_shape(spec)
    filler = factor * IMAGE_SIZES.get(len(shape) + 1, SEQUENCE_SIZE)
    return tuple(
        size
        if isinstance(size, int)
        else (filler if size is None else named.setdefault(size, filler))
        for size in shape
    )


def _values(shape: Shape | None, longest: int) -> int:
    if shape is None:
        return 0
    return math.prod(size if isinstance(size, int) else longest for size in shape[1:])


def _size(plan: InputPlan) -> str:
    return "×".join(map(str, plan.shape)) or "scalar"
