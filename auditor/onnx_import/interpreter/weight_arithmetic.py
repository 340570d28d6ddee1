"""Nodes that compute with stored tensors alone, as a kernel's transposition or √(variance + ε).

They run within the layer calls that use what they give, so that a layer's inputs are what comes
from other layers, and no weights.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from auditor.formats.onnx_model import OnnxNode
from auditor.onnx_import.interpreter.convex import uses
from auditor.onnx_import.interpreter.schema import RANDOM


def weight_arithmetic(
    nodes: Sequence[OnnxNode],
    needed: Sequence[int],
    calls: Mapping[str, Sequence[int]],
    stored: Container[str],
) -> dict[str, int]:
    """By the names of what they give: the nodes of no call that take nothing but stored tensors."""
    grouped = {index for found in calls.values() for index in found}
    waiting = [index for index in needed if index not in grouped and _is_arithmetic(nodes[index])]
    given: dict[str, int] = {}
    grown = True
    while grown:
        left = []
        for index in waiting:
            if all(name in stored or name in given for name in uses(nodes[index])):
                given.update((name, index) for name in nodes[index].outputs if name)
            else:
                left.append(index)
        grown = len(left) < len(waiting)
        waiting = left
    return given


def behind(names: Sequence[str], nodes: Sequence[OnnxNode], given: Mapping[str, int]) -> list[int]:
    """The nodes of `weight_arithmetic` that values by these names are made by, in order."""
    found: set[int] = set()
    waiting = [given[name] for name in names if name in given]
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += [given[name] for name in uses(nodes[index]) if name in given]
    return sorted(found)


def _is_arithmetic(node: OnnxNode) -> bool:
    constant = not node.domain and node.op_type == "Constant"
    within = any(True for _ in node.graphs)
    return constant or (bool(node.inputs) and not within and node.op_type not in RANDOM)
