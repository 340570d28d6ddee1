"""What a probe runs on: shapes, batches and losses fitted to the model, and what that assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from auditor.errors import ProbeFailed
from auditor.graph.layer_graph import LayerGraph, Shape
from auditor.graph.operators import KERNEL_OPS
from auditor.probe import batches as drawing
from auditor.probe.batches import Batch
from auditor.probe.data_file import DataFile, nonfinite_arrays, read_data
from auditor.probe.losses import LossChoice, Output, choose_losses, head_activation
from auditor.probe.model_io import ModelInputs, model_inputs, output_call, output_specs
from auditor.probe.settings import ProbeSettings
from auditor.probe.targets import constant_loss, describe_targets, expected_loss
from auditor.probe.training_pass import first_line

Array = np.ndarray[Any, Any]
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything a probe needs before its first pass; the fields are as in `ProbeResult`.

    `loss_constant` is that of the best constant answer on the first batch.
    """

    inputs: ModelInputs
    batches: tuple[Batch, ...]
    losses: LossChoice
    batch_size: int
    data: str
    targets: str
    loss_expected: float | None
    loss_constant: float | None
    nonfinite_data: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def fixed_batch(self) -> bool:
        """Whether the model takes batches of one size alone."""
        return any(spec.shape and spec.shape[0] for spec in self.inputs.specs)

    @property
    def no_cotangents(self) -> tuple[Array, ...]:
        """Zeros in the shape of every output that has a loss."""
        return tuple(np.zeros(head.output.shape, np.float32) for head in self.losses.heads)


def prepare(model: Any, graph: LayerGraph, settings: ProbeSettings) -> Prepared:
    """Fit batches and losses to a model.

    Raises:
        ProbeFailed: no batch can be made that the model takes.
        UsageError: the data file or `settings.loss` is wrong.
    """
    data = None if settings.data is None else read_data(settings.data, given=settings.given)
    inputs = model_inputs(model, graph)
    shapes = _shapes(model, inputs, data)
    _check_kernels(graph)
    plan = drawing.plan_inputs(graph, inputs, shapes, data)
    batch_size, why_this_size = drawing.choose_batch_size(
        settings.batch_size, graph, plan, None if data is None else data.samples
    )
    rows: tuple[Array, ...] = ()
    if data is None:
        x = drawing.draw_inputs(
            plan, batch_size=batch_size, count=settings.batches, seed=settings.seed
        )
    else:
        rows = drawing.sample_rows(
            data.samples, batch_size=batch_size, count=settings.batches, seed=settings.seed
        )
        x = drawing.data_inputs(data, plan, rows)
    outputs = _outputs(model, graph, inputs, shapes, x[0], batch_size)
    has_targets = data is not None and data.targets([output.name for output in outputs]) is not None
    losses = choose_losses(model, graph, settings, outputs, has_targets=has_targets)
    made = None if data is None else drawing.data_batches(data, x, losses, rows)
    batches = made or drawing.synthetic_batches(x, losses, seed=settings.seed)
    targets = describe_targets(losses) if made is None or data is None else data.title
    return Prepared(
        inputs=inputs,
        batches=batches,
        losses=losses,
        batch_size=batch_size,
        data="synthetic" if data is None else data.title,
        targets=targets,
        loss_expected=expected_loss(losses, [list(batch.y) for batch in batches]),
        loss_constant=constant_loss(losses, list(batches[0].y)),
        nonfinite_data=() if data is None else nonfinite_arrays(_used(data, inputs, losses)),
        assumptions=(
            *drawing.describe_inputs(plan),
            *filter(None, (why_this_size,)),
            *losses.assumptions,
            *(() if made is not None else (f"targets: {targets}",)),
        ),
    )


def _check_kernels(graph: LayerGraph) -> None:
    """Raise `ProbeFailed` for a kernel without values: some frameworks end the process on it."""
    for call in graph.calls:
        empty = [w for w in call.weights if 0 in w.shape] if call.op in KERNEL_OPS else []
        if empty:
            raise ProbeFailed(
                f"{call.id} has a weight of shape {tuple(empty[0].shape)}: there is nothing that "
                "it could compute with"
            )


def _used(data: DataFile, inputs: ModelInputs, losses: LossChoice) -> Mapping[str, Array]:
    """The arrays of the data that the probe takes from it."""
    targets = data.targets([head.output.name for head in losses.heads])
    return {**data.inputs([spec.name for spec in inputs.specs]), **(targets or {})}


def _shapes(model: Any, inputs: ModelInputs, data: DataFile | None) -> Shapes:
    """Input shapes without the batch that the model takes."""
    if data is not None:
        return drawing.data_shapes(inputs.specs, data)
    candidates = list(drawing.candidate_shapes(inputs.specs))
    if len(candidates) == 1:
        return candidates[0]
    problem: Exception | None = None
    for shapes in candidates:
        try:
            outputs = output_specs(model, inputs, shapes)
        except Exception as error:  # whatever a layer raises when its input is too small
            problem = error
        else:
            if not any(0 in spec.shape for spec in outputs.values()):
                return shapes
            problem = ValueError("an output is empty")
    tried = ", ".join(str(shapes[0] if len(shapes) == 1 else shapes) for shapes in candidates)
    raise ProbeFailed(
        f"input sizes are open, and the model took none of those tried ({tried}); give --data: "
        f"{first_line(problem) if problem else ''}"
    )


def _outputs(
    model: Any,
    graph: LayerGraph,
    inputs: ModelInputs,
    shapes: Shapes,
    x: Sequence[Array],
    batch: int,
) -> tuple[Output, ...]:
    """The model's outputs for a batch of these shapes."""
    try:
        symbolic = output_specs(model, inputs, shapes)
    except Exception:  # shape inference is the model's own code, and may not be there
        symbolic = {}
    if not symbolic or any(_unknown(spec.shape) for spec in symbolic.values()):
        run = keras.tree.flatten(model(inputs.pack(list(x)), training=False))
        names = symbolic or [f"output_{index}" for index in range(len(run))]
        specs = [keras.KerasTensor(tensor.shape, tensor.dtype) for tensor in run]
        symbolic = dict(zip(names, specs, strict=True))
    found = tuple(
        _output(name, spec, batch, head_activation(graph, output_call(model, graph, position)))
        for position, (name, spec) in enumerate(symbolic.items())
    )
    if all(output.lossless for output in found):
        first = found[0]
        raise ProbeFailed(f"no loss can be taken of output {first.name}: {first.lossless}")
    return found


def _unknown(shape: Shape) -> bool:
    """Whether more is open in an output's shape than how many samples there are."""
    return sum(size is None for size in shape) > 1 or not shape


def _output(name: str, spec: keras.KerasTensor, batch: int, activation: str | None) -> Output:
    axis = _sample_axis(spec.shape, batch)
    rest = () if axis is None else (*spec.shape[:axis], *spec.shape[axis + 1 :])
    shape = (batch, *(int(size) for size in rest))
    lossless = ""
    if axis is None:
        lossless = f"its shape {tuple(spec.shape)} has no axis of the {batch} samples"
    elif 0 in shape:
        lossless = f"it has the shape {shape}"
    elif not keras.backend.is_float_dtype(spec.dtype):
        lossless = f"it holds {spec.dtype} numbers, which have no gradient"
    return Output(name=name, shape=shape, activation=activation, axis=axis or 0, lossless=lossless)


def _sample_axis(shape: Shape, batch: int) -> int | None:
    """Where an output has its samples: the axis left open, else the first, else the one of as many.

    None where there is none.
    """
    if None in shape:
        return shape.index(None)
    if shape and shape[0] == batch:
        return 0
    fitting = [axis for axis, size in enumerate(shape) if size == batch]
    return fitting[0] if len(fitting) == 1 else None
