"""Names of layer calls, made of what an exporter called its nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from auditor.formats.onnx_grouping import Group
from auditor.formats.onnx_model import OnnxNode

#: What TensorFlow calls the node of a layer within the layer's scope.
TENSORFLOW_TYPES = frozenset(
    {"AvgPool", "BiasAdd", "FusedBatchNormV3", "MaxPool2d", "Relu6", "Tensordot"}
    | {"convolution", "depthwise"}
)
MAX_PART = 120
MAX_PARTS = 32
OWN = re.compile(r"__\d+\Z")
NUMBERED = re.compile(r"_\d+\Z")
UNWANTED = re.compile(r"[\x00-\x1f\x7f#]+")


def call_paths(groups: Sequence[Group]) -> tuple[tuple[str, ...], ...]:
    """A path for each group, unique among them: modules from the outermost in, the layer last.

    "/encoder/0/MatMul" and "/encoder/0/Add" of one dense layer are its module, "encoder/0", where
    the module holds no other call; otherwise the node is named too. What all calls have in common
    at the front is the model's own name, and left out. A node without a name is called by its
    operator type and a number.
    """
    named = [_named(group) for group in groups]
    inside = Counter(path[:length] for path, _ in named if path for length in range(1, len(path)))
    chosen: list[tuple[str, ...]] = []
    numbers: Counter[str] = Counter()
    for group, (path, of_type) in zip(groups, named, strict=True):
        if not path:
            kind = group.layer.kind if group.layer else group.nodes[0].op_type
            numbers[kind] += 1
            chosen.append((f"{clean(kind) or 'node'}_{numbers[kind]}",))
        elif of_type and len(path) > 1 and inside[path[:-1]] == 1:
            chosen.append(path[:-1])
        else:
            chosen.append(path)
    # An exporter's own nodes ("Transpose__12") stand outside of the model's name.
    within = [path for path in chosen if path and not OWN.search(path[-1])]
    common = _common_front(within)
    return unique_paths([path[common:] if len(path) > common else path for path in chosen])


def _named(group: Group) -> tuple[tuple[str, ...], bool]:
    """A group's path by its nodes' names, and whether its last part is no more than a type."""
    nodes = [node for node in group.nodes if node.name or node.scope]
    if not nodes:
        return (), False
    paths = [_node_path(node) for node in nodes]
    chosen = group.kernel if group.kernel in nodes else nodes[-1]
    path = _node_path(chosen)
    if len(paths) > 1:
        front = _common_front(paths)
        if front:
            path = (*path[:front], group.layer.kind if group.layer else path[front:][-1])
            return path, True
    last = NUMBERED.sub("", path[-1])
    types = {node.op_type for node in group.nodes} | TENSORFLOW_TYPES
    return path, last in types or last.removeprefix("node_") in types or bool(chosen.scope)


def _node_path(node: OnnxNode) -> tuple[str, ...]:
    parts = [*node.scope, node.name or node.op_type] if node.scope else node.name.split("/")
    cleaned = tuple(filter(None, (clean(part) for part in parts[-MAX_PARTS:])))
    return cleaned or (clean(node.op_type) or "node",)


def clean(part: str) -> str:
    """A part of a path without what would end it or a line."""
    return UNWANTED.sub("_", part).replace("/", "_").strip()[:MAX_PART]


def _common_front(paths: Sequence[tuple[str, ...]]) -> int:
    """Number of leading parts all paths share, the last part of each apart."""
    if len(paths) < 2:
        return 0
    shortest = min(len(path) - 1 for path in paths)
    count = 0
    while count < shortest and len({path[count] for path in paths}) == 1:
        count += 1
    return count


def unique_paths(paths: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """The paths, repeated ones with a number at their end."""
    taken = Counter(paths)
    used: set[tuple[str, ...]] = set()
    numbers: Counter[tuple[str, ...]] = Counter()
    result: list[tuple[str, ...]] = []
    for path in paths:
        candidate = path
        while candidate in used or (candidate != path and candidate in taken):
            numbers[path] += 1
            candidate = (*path[:-1], f"{path[-1]}_{numbers[path]}")
        used.add(candidate)
        result.append(candidate)
    return tuple(result)
