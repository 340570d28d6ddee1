"""Gradients of the official tests, held against central differences in double precision.

A test is a scalar function of its float inputs: ⟨random cotangents, float outputs⟩. What a test is:

- right: the gradients agree with the differences, for all inputs.
- constant: the outputs do not change around the point (a step function); gradients are zero.
- kink: at some coordinates there is no derivative: a kink, a jump, a vertical tangent or the edge
  of the domain, by the differences alone; elsewhere the gradients agree.
- setting: the only float inputs are such that ONNX differentiates nothing for (a ratio, scales),
  and no gradient passes to them.
- random: numbers are drawn. refused: the model cannot run. WRONG, CRASH: all else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import keras
import numpy as np
import onnx
from differences import Array, Differences, Held
from onnx_double import DoubleInterpreter, in_double
from onnx_official import Case, Outcome, decoded, draws_numbers, fed

from auditor.formats.onnx_model import OnnxGraph
from auditor.onnx_import.interpreter.value import concrete, dtype_of, tensor
from auditor.onnx_import.refused import NotImportable

#: An input, and the place in it where it is a sequence.
Key = tuple[str, int]

#: Directions tried for each input.
DIRECTIONS = 2
FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})
NOT_DIFFERENTIABLE = onnx.defs.OpSchema.DifferentiationCategory.NonDifferentiable


class Probe:
    """A test as a scalar function of its float inputs."""

    def __init__(self, case: Case) -> None:
        wide = replace(case, model=in_double(case.model))
        self.runner = DoubleInterpreter(model=decoded(wide), source=case.name)
        names = [name for name, _ in self.runner.model.graph.inputs]
        values = dict(zip(names, case.data[0][0], strict=True))
        self.sequences = {name: len(v) for name, v in values.items() if isinstance(v, list)}
        flat = {
            (name, place): item
            for name, value in values.items()
            for place, item in enumerate(value if isinstance(value, list) else [value])
        }
        self.points = {key: np.asarray(v, np.float64) for key, v in flat.items() if is_float(v)}
        self.fixed = {key: v for key, v in flat.items() if key not in self.points}
        self.rng = np.random.default_rng(crc32(case.name.encode()))
        self.hosted: tuple[str, ...] = ()
        outputs = [concrete(value) for value in self.outputs({})]
        self.cotangents: list[Array] = [
            np.where(np.isfinite(value), self.rng.normal(size=np.shape(value)), 0.0)
            for value in outputs
        ]
        self.size = sum(
            float(np.abs(c * np.where(np.isfinite(v), v, 0)).sum())
            for c, v in zip(self.cotangents, outputs, strict=True)
        )
        self.hosted = tuple(self.runner.hosted.values())

    def outputs(self, moved: Mapping[Key, Any]) -> list[Any]:
        """The float outputs, sequences flattened, where these inputs are others."""
        given = {**self.fixed, **self.points, **moved}
        given = {key: fed(value) for key, value in given.items()}
        inputs = {
            name: [given[name, place] for place in range(self.sequences[name])]
            if name in self.sequences
            else given[name, 0]
            for name, _ in self.runner.model.graph.inputs
        }
        flat = keras.tree.flatten(self.runner.run(inputs))
        return [v for v in flat if v is not None and dtype_of(v).startswith(("float", "bfloat"))]

    def objective(self, moved: Mapping[Key, Any], outputs: list[Any] | None = None) -> Any:
        """The function, as a tensor or a number."""
        total = 0.0
        found = self.outputs(moved) if outputs is None else outputs
        for value, weight in zip(found, self.cotangents, strict=True):
            # Where an output is not finite, neither it nor its derivative enters.
            kept = value if weight.all() else keras.ops.where(weight != 0, value, 0.0)
            total = total + keras.ops.sum(keras.ops.cast(kept, "float64") * tensor(weight))
        return total

    def at(self, name: Key, values: Array) -> float:
        """The function where one input is moved."""
        moved = {name: values}
        outputs = self.outputs(moved)
        if [tuple(v.shape) for v in outputs] != [c.shape for c in self.cotangents]:
            return float("nan")  # such as Unique's, whose number of elements jumps
        return float(np.asarray(concrete(self.objective(moved, outputs))))

    def hold(self, names: Sequence[Key]) -> dict[Key, Held]:
        """Gradients for these inputs against differences."""
        points = {name: self.points[name] for name in names}
        slopes = GRADIENTS[keras.backend.backend()](self.objective, points)
        return {
            name: Differences(
                function=lambda values, name=name: self.at(name, values),
                point=points[name],
                size=self.size,
            ).hold(slopes[name], self.rng, DIRECTIONS)
            for name in names
        }


def is_float(value: Any) -> bool:
    """Whether a value is an array of floating-point numbers."""
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.name in FLOATS


def is_eligible(case: Case) -> bool:
    """Whether floats go in and come out."""
    inputs, outputs = (keras.tree.flatten(list(side)) for side in case.data[0])
    return any(map(is_float, inputs)) and any(map(is_float, outputs))


def is_counted(case: Case) -> bool:
    """Whether tensors of 16, 32 or 64 bits, in IEEE's formats, go in and come out."""
    return all(any(is_float(v) and v.dtype.kind == "f" for v in side) for side in case.data[0])


def gradients(case: Case) -> Outcome:
    """Hold a test's gradients against central differences."""
    begun = time.perf_counter()
    probe = None
    try:
        probe = Probe(case)
        if draws_numbers(probe.runner.model.graph):
            status, why = "random", "draws random numbers"
        else:
            status, why = judged(probe)
    except NotImportable as error:
        status, why = "refused", error.reason
    except Exception as error:
        status, why = "CRASH", f"{type(error).__name__}: {error}"[:300]
    return Outcome(
        name=case.name,
        operator=case.operator,
        status=status,
        why=why,
        hosted=probe.hosted if probe else (),
        seconds=time.perf_counter() - begun,
    )


def judged(probe: Probe) -> tuple[str, str]:
    """Status of a test, and what is to be said of it."""
    declared = settings(probe.runner.model.graph)
    held = probe.hold([name for name in probe.points if name[0] not in declared])
    notes = []
    for name in (name for name in probe.points if name[0] in declared):
        found = _setting(probe, name)
        if found is None:
            notes.append(f"{name[0]} taken as a setting")
        else:
            held[name] = found
    smooth = {name for name, one in held.items() if not one.places and one.moved}
    steps = [name for name, one in held.items() if one.places and name[0] in declared and smooth]
    notes += [f"{name[0]}, a setting, is at {_told(held.pop(name).places)}" for name in steps]
    for name, one in held.items():
        if one.wrong:
            return "WRONG", f"{name[0]}: {one.wrong}"
    places = sum((one.places for one in held.values()), Counter[str]())
    if places:
        return "kink", "; ".join([_told(places), *notes])
    if any(one.moved for one in held.values()):
        return "right", "; ".join(notes)
    if not held:
        return "setting", "; ".join(notes)
    return "constant", "; ".join(["locally constant", *notes])


def _told(places: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in sorted(places.items()))


def _setting(probe: Probe, name: Key) -> Held | None:
    """What comes of an input that ONNX calls no differentiable one; None for a setting."""
    try:
        found = probe.hold([name])[name]
    except NotImportable:
        return None  # it must be known while the graph is traced
    return None if found.wrong and found.zero else found


def settings(graph: OnnxGraph) -> set[str]:
    """Inputs that the operators taking them are not differentiated for, by their schemas."""
    takes: dict[str, set[bool]] = {}
    for node in graph.nodes:
        try:
            formal = onnx.defs.get_schema(node.op_type, node.domain).inputs
        except onnx.defs.SchemaError:
            formal = []
        for place, name in enumerate(node.inputs):
            category = formal[min(place, len(formal) - 1)].differentiation_category if formal else 0
            takes.setdefault(name, set()).add(category == NOT_DIFFERENTIABLE)
    return {name for name, found in takes.items() if found == {True}}


def _tensorflow(objective: Any, points: Mapping[Key, Array]) -> dict[Key, Array]:
    import tensorflow as tf

    tensors = {name: tf.constant(value) for name, value in points.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = objective(tensors)
    if not isinstance(value, tf.Tensor):
        return {name: np.zeros_like(point) for name, point in points.items()}
    listed = list(tensors.values())
    found = tape.gradient(value, listed, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    arrays = [tf.convert_to_tensor(gradient).numpy() for gradient in found]
    return dict(zip(points, arrays, strict=True))


def _jax(objective: Any, points: Mapping[Key, Array]) -> dict[Key, Array]:
    import jax

    def function(values: list[Any]) -> Any:
        return jax.numpy.asarray(objective(dict(zip(points, values, strict=True))), "float64")

    found = jax.grad(function)([jax.numpy.asarray(value) for value in points.values()])
    return dict(zip(points, map(np.asarray, found), strict=True))


def _torch(objective: Any, points: Mapping[Key, Array]) -> dict[Key, Array]:
    import torch

    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in points.items()}
    value = objective(tensors)
    zeros = {name: np.zeros_like(point) for name, point in points.items()}
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return zeros
    found = torch.autograd.grad(value, list(tensors.values()), allow_unused=True)
    return {
        name: zeros[name] if gradient is None else gradient.numpy()
        for name, gradient in zip(points, found, strict=True)
    }


GRADIENTS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
