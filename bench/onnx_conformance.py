"""Holds the ONNX importer against the official tests of the installed onnx.

    KERAS_BACKEND=tensorflow python bench/onnx_conformance.py              # outputs and gradients
    python bench/onnx_conformance.py --forward --only 'test_conv_*'

Outputs: a row an operator with how many of its tests came out right, were refused in a clear line,
draw random numbers (whose shapes and dtypes are compared), or came out wrong, which must be none.

Gradients, of tests with float inputs and outputs, in float64: the framework's gradient of a random
cotangent against central differences along random directions. Where one-sided differences disagree
(a kink, a step), single coordinates are looked at, and those at a kink are left out.

Exits 1 where an output is wrong, or anything but a clear refusal came out.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_model import OnnxGraph, OnnxModel
from auditor.onnx_import.interpreter.interpreter import Interpreter
from auditor.onnx_import.interpreter.schema import RANDOM
from auditor.onnx_import.interpreter.value import concrete, dtype_of, tensor
from auditor.onnx_import.refused import NotImportable

Array = np.ndarray[Any, Any]
#: An input, and the place in it where it is a sequence.
Key = tuple[str, int]

#: Spacing of numbers at 1: another order of the same sums differs by a step or two of the largest
#: value, whatever tolerance a test asks for.
STEPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
FLOAT_NAMES = frozenset({"float16", "float32", "float64", "bfloat16"})
NOT_DIFFERENTIABLE = onnx.defs.OpSchema.DifferentiationCategory.NonDifferentiable
#: Of the differences: their step (in units of a coordinate, at least 1), which balances rounding
#: against curvature in double precision; the agreement asked for; directions tried for each input;
#: coordinates looked at where these do not agree.
STEP = 1e-6
TOLERANCE = 1e-3
DIRECTIONS = 2
COORDINATES = 100


@dataclass(frozen=True, kw_only=True)
class Case:
    """One official test."""

    name: str
    operator: str
    model: onnx.ModelProto
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one test. `status` is right, refused, random, WRONG or CRASH."""

    name: str
    operator: str
    status: str
    why: str = ""
    hosted: tuple[str, ...] = ()
    seconds: float = 0.0


def cases(pattern: str) -> Iterator[Case]:
    """The node and simple tests whose names fit the pattern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = [*load_model_tests(kind="node"), *load_model_tests(kind="simple")]
    for test in tests:
        if not fnmatch.fnmatch(test.name, pattern):
            continue
        model, data = test.model, test.data_sets
        if model is None:
            folder = Path(test.model_dir)
            model = onnx.load(folder / "model.onnx")
            data = [_stored(model, place) for place in sorted(folder.glob("test_data_set_*"))]
        yield Case(
            name=test.name,
            operator=_operator(test.name, model),
            model=model,
            data=[tuple([_plain(v) for v in side] for side in pair) for pair in data],
            rtol=test.rtol,
            atol=test.atol,
        )


def _plain(value: Any) -> Any:
    """A test's value as NumPy has it; those of few bits come as protobuf."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _operator(name: str, model: onnx.ModelProto) -> str:
    kinds = [node.op_type for node in model.graph.node if node.op_type != "Constant"]
    if "expanded" in name:
        return "(expanded)"
    return kinds[-1] if kinds else "Constant"


def _stored(model: onnx.ModelProto, folder: Path) -> tuple[list[Any], list[Any]]:
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in initialized]
    sides: list[list[Any]] = []
    for infos, kind in ((inputs, "input"), (model.graph.output, "output")):
        side = []
        for number, info in enumerate(infos):
            data = (folder / f"{kind}_{number}.pb").read_bytes()
            side.append(_value(data, info.type))
        sides.append(side)
    return sides[0], sides[1]


def _value(data: bytes, kind: onnx.TypeProto) -> Any:
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if which == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def decoded(case: Case) -> OnnxModel:
    """The model as the importer takes it."""
    return Decoder(source=case.name).model(case.model)


def interpreter(case: Case) -> Interpreter:
    """What runs a test's model."""
    return Interpreter(model=decoded(case), source=case.name)


def fed(value: Any) -> Any:
    """An input as a tensor of the backend, where it has its dtype."""
    if isinstance(value, (list, tuple)):
        return [fed(item) for item in value]
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        return tensor(value)
    return value


def forward(case: Case) -> Outcome:
    """Run a test and compare what it gives."""
    begun = time.perf_counter()
    runner = None
    try:
        runner = interpreter(case)
        names = [name for name, _ in runner.model.graph.inputs]
        for inputs, wanted in case.data:
            found = runner.run(dict(zip(names, map(fed, inputs), strict=True)))
            status, why = compare(case, found, wanted, random=_draws(runner.model.graph))
            if status != "right":
                break
    except NotImportable as error:
        status, why = "refused", error.reason
    except Exception as error:
        status, why = "CRASH", f"{type(error).__name__}: {error}"[:300]
    return Outcome(
        name=case.name,
        operator=case.operator,
        status=status,
        why=why,
        hosted=tuple(runner.hosted.values()) if runner else (),
        seconds=time.perf_counter() - begun,
    )


def _draws(graph: OnnxGraph) -> bool:
    """Whether a graph draws numbers; Dropout does where it is told to train."""
    for node in graph.nodes:
        if node.op_type in RANDOM or any(_draws(inner) for inner in node.graphs):
            return True
        training = [name for name in node.inputs[2:3] if name]
        if node.op_type == "Dropout" and training:
            return True
    return False


def compare(
    case: Case, found: Sequence[Any], wanted: Sequence[Any], *, random: bool
) -> tuple[str, str]:
    """Status and reason for these outputs."""
    if len(found) != len(wanted):
        return "WRONG", f"{len(found)} outputs for {len(wanted)}"
    for place, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        why = _different(concrete(ours), theirs, case)
        if why:
            if random and not why.startswith(("dtype", "shape")):
                return "random", "draws random numbers"
            return "WRONG", f"output {place}: {why}"
    return "right", ""


def _different(ours: Any, theirs: Any, case: Case) -> str:
    if theirs is None or ours is None:
        return "" if theirs is None and ours is None else f"{ours!r} for {theirs!r}"
    if isinstance(theirs, (list, tuple)):
        if not isinstance(ours, (list, tuple)) or len(ours) != len(theirs):
            return f"{ours!r} for a sequence of {len(theirs)}"
        whys = (_different(a, b, case) for a, b in zip(ours, theirs, strict=True))
        return next(filter(None, whys), "")
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.dtype != theirs.dtype and not {ours.dtype.kind, theirs.dtype.kind} <= set("OUST"):
        return f"dtype {ours.dtype} for {theirs.dtype}"
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} for {theirs.shape}"
    if theirs.dtype.kind in "OUST":
        return "" if ours.astype(str).tolist() == theirs.astype(str).tolist() else "other text"
    rtol, atol = case.rtol, case.atol
    name = theirs.dtype.name
    if theirs.dtype.kind == "V" or name in STEPS:
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
    with np.errstate(all="ignore"):
        if name in STEPS:
            finite = np.abs(theirs[np.isfinite(theirs)])
            rtol = max(rtol, 2 * STEPS[name])
            atol = max(atol, STEPS[name] * float(finite.max(initial=0.0)))
        if np.allclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True):
            return ""
        error = np.nanmax(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)))
    return f"differs by {error:.3g}"


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """How far a test's gradients could be held against differences."""

    status: str
    why: str = ""


class Probe:
    """A test as a scalar function of its differentiable inputs: ⟨cotangents, outputs⟩."""

    def __init__(self, case: Case) -> None:
        wide = replace(case, model=in_double(case.model))
        self.runner = interpreter(wide)
        names = [name for name, _ in self.runner.model.graph.inputs]
        values = dict(zip(names, case.data[0][0], strict=True))
        settings = _settings(self.runner.model.graph)
        self.sequences = {name: len(v) for name, v in values.items() if isinstance(v, list)}
        flat = {
            (name, place): item
            for name, value in values.items()
            for place, item in enumerate(value if isinstance(value, list) else [value])
        }
        floats = {key: np.asarray(v, np.float64) for key, v in flat.items() if _is_float(v)}
        # Schemas call a few inputs settings that can be differentiated for: AffineGrid's.
        self.points = {k: v for k, v in floats.items() if k[0] not in settings} or floats
        self.fixed = {k: v for k, v in {**flat, **floats}.items() if k not in self.points}
        self.rng = np.random.default_rng(crc32(case.name.encode()))
        outputs = [concrete(value) for value in self.outputs(self.points)]
        self.cotangents: list[Array] = []
        for value in outputs:
            finite = np.isfinite(value)
            drawn = self.rng.normal(size=np.shape(value))
            self.cotangents.append(np.where(finite, drawn, 0.0))
        self.size = sum(
            float(np.abs(c * np.where(np.isfinite(v), v, 0)).sum())
            for c, v in zip(self.cotangents, outputs, strict=True)
        )

    def outputs(self, points: Mapping[Key, Any]) -> list[Any]:
        """The float outputs, sequences flattened."""
        given = {**self.fixed, **{key: fed(value) for key, value in points.items()}}
        inputs = {
            name: [given[name, place] for place in range(self.sequences[name])]
            if name in self.sequences
            else given[name, 0]
            for name, _ in self.runner.model.graph.inputs
        }
        flat = keras.tree.flatten(self.runner.run(inputs))
        return [v for v in flat if v is not None and dtype_of(v).startswith(("float", "bfloat"))]

    def objective(self, points: Mapping[Key, Any], outputs: list[Any] | None = None) -> Any:
        """The function, as a tensor or a number."""
        total = 0.0
        found = self.outputs(points) if outputs is None else outputs
        for value, weight in zip(found, self.cotangents, strict=True):
            # Where an output is not finite, neither it nor its derivative enters.
            kept = value if weight.all() else keras.ops.where(weight != 0, value, 0.0)
            total = total + keras.ops.sum(keras.ops.cast(kept, "float64") * weight)
        return total

    def at(self, name: Key, values: Array) -> float:
        """The function where one input is moved."""
        outputs = self.outputs({**self.points, name: values})
        if [tuple(v.shape) for v in outputs] != [c.shape for c in self.cotangents]:
            return float("nan")  # such as Unique's, whose number of elements jumps
        found = concrete(self.objective({**self.points, name: values}, outputs))
        return float(np.asarray(found))


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all its floats, and what it casts to them, in double precision."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen(wide.graph)
    for function in wide.functions:
        for node in function.node:
            _widen_node(node)
    return wide


def _widen(graph: onnx.GraphProto) -> None:
    for stored in graph.initializer:
        _widen_tensor(stored)
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        if attribute.HasField("g"):
            _widen(attribute.g)
        if attribute.name in ("to", "dtype", "output_dtype", "stash_type", "softmax_precision"):
            attribute.i = onnx.TensorProto.DOUBLE if attribute.i in FLOATS else attribute.i
        if attribute.name in ("value_float", "value_floats"):
            values = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            stored = numpy_helper.from_array(np.asarray(values, np.float64))
            attribute.CopyFrom(onnx.helper.make_attribute("value", stored))


def _widen_tensor(stored: onnx.TensorProto) -> None:
    if stored.data_type in FLOATS:
        values = numpy_helper.to_array(stored).astype(np.float64)
        stored.CopyFrom(numpy_helper.from_array(values, stored.name))


def _settings(graph: OnnxGraph) -> set[str]:
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


def _is_float(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.name in FLOAT_NAMES


def is_eligible(case: Case) -> bool:
    """Whether floats go in and come out."""
    inputs, outputs = case.data[0]
    return any(map(_is_float, keras.tree.flatten(list(inputs)))) and any(
        map(_is_float, keras.tree.flatten(list(outputs)))
    )


def gradients(case: Case) -> Outcome:
    """Hold a test's gradients against central differences."""
    begun = time.perf_counter()
    probe = None
    try:
        probe = Probe(case)
        if _draws(probe.runner.model.graph):
            found = Gradients(status="random")
        elif not probe.points:
            found = Gradients(status="flat", why="no input is differentiated for")
        else:
            found = _held_against_differences(probe)
    except NotImportable as error:
        found = Gradients(status="refused", why=error.reason)
    except Exception as error:
        found = Gradients(status="CRASH", why=f"{type(error).__name__}: {error}"[:300])
    return Outcome(
        name=case.name,
        operator=case.operator,
        status=found.status,
        why=found.why,
        hosted=tuple(probe.runner.hosted.values()) if probe else (),
        seconds=time.perf_counter() - begun,
    )


def _held_against_differences(probe: Probe) -> Gradients:
    slopes = GRADIENTS[keras.backend.backend()](probe)
    kinks = moved = 0
    for name, point in probe.points.items():
        gradient, finite = slopes[name], np.isfinite(point)
        if not finite.any():
            continue
        for _ in range(DIRECTIONS):
            direction = probe.rng.normal(size=point.shape) * np.maximum(1.0, np.abs(point))
            direction = np.where(finite, direction, 0.0)
            along = float(np.sum(np.where(finite, gradient, 0.0) * direction))
            difference = _difference(probe, name, direction)
            moved += abs(difference.central) > probe.size * 1e-12 or along != 0
            if not _agree(along, difference, probe):
                wrong, found = _coordinates(probe, name, gradient, finite)
                if wrong:
                    return Gradients(status="WRONG", why=f"{name[0]}: {wrong}")
                if not found:
                    why = f"{name[0]}: {along:.6g} for {difference.central:.6g} along a direction"
                    return Gradients(status="WRONG", why=why)
                kinks += found
                break
    if kinks:
        return Gradients(status="kink", why=f"{kinks} coordinates at a kink or step, others agree")
    return Gradients(status="right" if moved else "flat")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Differences of the function along a direction, per unit of step."""

    central: float
    forward: float
    backward: float


def _difference(probe: Probe, name: Key, direction: Array) -> Difference:
    point = probe.points[name]
    middle = probe.at(name, point)
    ahead = probe.at(name, point + STEP * direction)
    behind = probe.at(name, point - STEP * direction)
    return Difference(
        central=(ahead - behind) / (2 * STEP),
        forward=(ahead - middle) / STEP,
        backward=(middle - behind) / STEP,
    )


def _agree(slope: float, difference: Difference, probe: Probe) -> bool:
    """Within the tolerance, and beyond what rounding makes of differences."""
    rounding = 1e-15 * (probe.size + 1) / STEP * 100
    allowed = TOLERANCE * max(abs(slope), abs(difference.central)) + rounding
    return bool(abs(slope - difference.central) <= allowed)


def _coordinates(probe: Probe, name: Key, gradient: Array, finite: Array) -> tuple[str, int]:
    """What is wrong at single coordinates, and how many of those looked at are at a kink."""
    places = np.argwhere(finite)
    if len(places) > COORDINATES:
        places = probe.rng.permutation(places)[:COORDINATES]
    kinks = 0
    for place in map(tuple, places):
        direction = np.zeros_like(probe.points[name])
        direction[place] = 1.0
        difference = _difference(probe, name, direction)
        if _agree(float(gradient[place]), difference, probe):
            continue
        ends = difference.forward, difference.backward
        wider = _difference(probe, name, 10 * direction).central / 10
        allowed = TOLERANCE * max(map(abs, ends)) + 1e-6
        # At a kink the sides disagree; across a step, a difference falls with its width.
        smooth = abs(ends[0] - ends[1]) <= allowed and abs(wider - ends[0]) <= 10 * allowed
        if smooth and np.isfinite(ends).all():
            return f"{gradient[place]:.6g} for {difference.central:.6g} at {_told(place)}", kinks
        kinks += 1
    return "", kinks


def _told(place: Sequence[int]) -> str:
    return f"({', '.join(map(str, place))})"


def _tensorflow_gradients(probe: Probe) -> dict[Key, Array]:
    import tensorflow as tf

    points = [tf.constant(value) for value in probe.points.values()]
    with tf.GradientTape() as tape:
        tape.watch(points)
        objective = probe.objective(dict(zip(probe.points, points, strict=True)))
    if not isinstance(objective, tf.Tensor):
        return {name: np.zeros_like(value) for name, value in probe.points.items()}
    found = tape.gradient(objective, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    arrays = [tf.convert_to_tensor(value).numpy() for value in found]
    return dict(zip(probe.points, arrays, strict=True))


def _jax_gradients(probe: Probe) -> dict[Key, Array]:
    import jax

    def objective(values: list[Any]) -> Any:
        found = probe.objective(dict(zip(probe.points, values, strict=True)))
        return jax.numpy.asarray(found, "float64")

    found = jax.grad(objective)([jax.numpy.asarray(value) for value in probe.points.values()])
    return dict(zip(probe.points, map(np.asarray, found), strict=True))


def _torch_gradients(probe: Probe) -> dict[Key, Array]:
    import torch

    points = {name: torch.tensor(value, requires_grad=True) for name, value in probe.points.items()}
    objective = probe.objective(points)
    zeros = {name: np.zeros_like(value) for name, value in probe.points.items()}
    if not isinstance(objective, torch.Tensor) or not objective.requires_grad:
        return zeros
    found = torch.autograd.grad(objective, list(points.values()), allow_unused=True)
    return {
        name: zeros[name] if value is None else value.numpy()
        for name, value in zip(points, found, strict=True)
    }


GRADIENTS = {
    "tensorflow": _tensorflow_gradients,
    "jax": _jax_gradients,
    "torch": _torch_gradients,
}


def table(outcomes: Sequence[Outcome], statuses: Sequence[str]) -> str:
    """A row an operator, the sum last."""
    rows: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        rows.setdefault(outcome.operator, Counter())[outcome.status] += 1
    rows = dict(sorted(rows.items()))
    rows["all"] = sum(rows.values(), Counter())
    width = max(map(len, rows), default=0)
    lines = [f"{'operator':{width}}  {'tests':>5}  " + "  ".join(f"{s:>8}" for s in statuses)]
    for name, counts in rows.items():
        cells = "  ".join(f"{counts[status] or '':>8}" for status in statuses)
        lines.append(f"{name:{width}}  {counts.total():>5}  {cells}")
    return "\n".join(lines)


FORWARD = ("right", "refused", "random", "WRONG", "CRASH")


GRADIENT = ("right", "flat", "kink", "refused", "random", "WRONG", "CRASH")


def main(arguments: list[str]) -> int:
    """Print the tables; 1 where something came out wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="*", help="tests whose names fit this pattern")
    parser.add_argument("--forward", action="store_true", help="outputs alone, no gradients")
    parser.add_argument("--gradients", action="store_true", help="gradients alone, no outputs")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    given = parser.parse_args(arguments)
    chosen = list(cases(given.only))
    told: dict[str, list[Outcome]] = {}
    if not given.gradients:
        told["outputs"] = report("outputs", map(forward, chosen), FORWARD)
    if not given.forward:
        eligible = filter(is_eligible, chosen)
        told["gradients"] = report("gradients", map(gradients, eligible), GRADIENT)
    if given.json:
        plain = {what: [asdict(outcome) for outcome in found] for what, found in told.items()}
        given.json.write_text(json.dumps(plain, indent=1))
    wrong = [o for found in told.values() for o in found if o.status in ("WRONG", "CRASH")]
    return 1 if wrong else 0


def report(what: str, outcomes: Iterable[Outcome], statuses: Sequence[str]) -> list[Outcome]:
    """Print the table of outcomes, and each that did not come out right."""
    begun = time.perf_counter()
    found = list(outcomes)
    print(f"{what}\n{table(found, statuses)}")
    for outcome in found:
        if outcome.status != "right":
            print(f"{outcome.status:8} {outcome.name}: {outcome.why}")
    for outcome in found:
        if outcome.hosted:
            print(f"constant {outcome.name}: {outcome.hosted[0]}")
    counts = Counter(outcome.status for outcome in found)
    sums = ", ".join(f"{counts[status]} {status}" for status in statuses)
    seconds = time.perf_counter() - begun
    print(f"{what} on {keras.backend.backend()}: {sums} of {len(found)} in {seconds:.0f} s\n")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
