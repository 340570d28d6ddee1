"""The official tests of the installed onnx, run by the importer's interpreter."""

from __future__ import annotations

import fnmatch
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_model import OnnxGraph, OnnxModel
from auditor.onnx_import.interpreter.interpreter import Interpreter
from auditor.onnx_import.interpreter.schema import RANDOM
from auditor.onnx_import.interpreter.value import tensor


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


def draws_numbers(graph: OnnxGraph) -> bool:
    """Whether a graph draws numbers; Dropout does where it is told to train."""
    for node in graph.nodes:
        if node.op_type in RANDOM or any(draws_numbers(inner) for inner in node.graphs):
            return True
        training = [name for name in node.inputs[2:3] if name]
        if node.op_type == "Dropout" and training:
            return True
    return False
