"""Nodes whose inputs are all constants, computed once when a model is made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from auditor.formats.onnx_model import OnnxModel, OnnxNode
from auditor.formats.onnx_tensors import HeldTensor, StoredTensor
from auditor.onnx_import.interpreter.convex import uses
from auditor.onnx_import.interpreter.interpreter import Interpreter
from auditor.onnx_import.interpreter.schema import RANDOM
from auditor.onnx_import.interpreter.scope import Scope
from auditor.onnx_import.operators.table import is_known
from auditor.onnx_import.refused import NotImportable


def folded(model: OnnxModel, weights: Collection[int], source: str) -> OnnxModel:
    """The model with what its nodes make of constants alone as stored tensors of its graph.

    `weights` are the `id`s of stored tensors that are weights, and no constants. What cannot be
    computed now is left to be refused when it runs.
    """
    graph = model.graph
    constants = {name: t for name, t in graph.tensors.items() if id(t) not in weights}
    runner = Interpreter(model=model, source=source)
    scope = Scope(resolve=runner.constant)
    scope.own.update(constants)
    left: list[OnnxNode] = []
    made: dict[str, StoredTensor] = {}
    for node in graph.nodes:
        if not _is_constant(node, scope, weights):
            left.append(node)
            continue
        try:
            runner.run_node(node, scope)
            values = {name: scope[name] for name in node.outputs if name}
        except NotImportable:
            left.append(node)
            continue
        if not all(is_known(value) for value in values.values()):
            left.append(node)
            for name in values:
                del scope.own[name]
            continue
        for name, value in values.items():
            array = np.asarray(value)
            made[name] = StoredTensor(
                name=name, dtype=array.dtype.name, shape=array.shape, read=HeldTensor(array)
            )
    if not made:
        return model
    tensors = {**graph.tensors, **made}
    return replace(model, graph=replace(graph, nodes=tuple(left), tensors=tensors))


def _is_constant(node: OnnxNode, scope: Scope, weights: Collection[int]) -> bool:
    if node.op_type in RANDOM or any(True for _ in node.graphs):
        return False
    if any(isinstance(v, StoredTensor) and id(v) in weights for v in node.attributes.values()):
        return False
    return all(name in scope.own for name in uses(node))
