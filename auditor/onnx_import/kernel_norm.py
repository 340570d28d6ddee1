"""‖J‖_F of layer calls that are one kernel on constant weights, from the weights themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from auditor.formats.onnx_model import OnnxNode
from auditor.onnx_import.dependence import dependence
from auditor.onnx_import.layer_run import LayerRun
from auditor.onnx_import.operators.windows import windows_of

Array = np.ndarray[Any, Any]
KERNELS = frozenset({"Conv", "Gemm", "MatMul"})
#: With one input that is not constant, these add to it, or hand its numbers on in another order.
ISOMETRIES = frozenset(
    {"Add", "Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)


def kernel_of(run: LayerRun) -> OnnxNode | None:
    """The one node that makes up a call's derivative, if `frobenius_norm` knows its kind."""
    if len(run.tensors) != 1:
        return None
    found = dependence(run)
    if len(found) != 1 or not found[0].affine:
        return None
    entered = set(run.tensors)
    kernel: OnnxNode | None = None
    for node in run.step.nodes:
        entering = [name for name in node.inputs if name in entered]
        if not entering:
            continue
        if len(entering) > 1 or node.domain:
            return None
        if node.op_type in KERNELS and kernel is None:
            kernel = node
        elif node.op_type not in ISOMETRIES or not _as_many(run, entering[0], node.outputs[0]):
            return None
        entered.update(name for name in node.outputs if run.value(name) is None)
    return kernel


def frobenius_norm(run: LayerRun, kernel: OnnxNode) -> float:
    """‖J‖_F for one sample of a call whose `kernel_of` this is.

    A weight enters J once for every place of the output at which its tap lies within the input,
    so ‖J‖²_F = Σ w² · (places).
    """
    node = run.runner.resolved(kernel)
    weights = ops.convert_to_numpy(run.weights(kernel.inputs[1]))
    squares = np.square(np.asarray(weights), dtype=np.float64)
    inside = run.shapes[kernel.inputs[0]] or ()
    if node.kind == "Conv":
        windows = windows_of(node, [int(size or 0) for size in inside[2:]], squares.shape[2:])
        taps = squares.sum(axis=(0, 1))
        rank = len(windows.kernel)
        for axis, size in enumerate(windows.sizes):
            at = windows.places(axis)
            count = ((at >= 0) & (at < size)).sum(axis=0)
            taps = taps * count.reshape([-1 if a == axis else 1 for a in range(rank)])
        return math.sqrt(float(taps.sum()))
    rows = math.prod(int(size or 0) for size in inside[1:-1])
    return abs(float(node.get("alpha", 1.0))) * math.sqrt(rows * float(squares.sum()))


def _as_many(run: LayerRun, before: str, after: str) -> bool:
    """Whether two values hold as many numbers: what is stretched is no isometry."""
    sizes = [math.prod(int(size or 0) for size in run.shapes.get(n) or ()) for n in (before, after)]
    return sizes[0] == sizes[1]
