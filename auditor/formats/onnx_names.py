"""Names of layer calls, made of what an exporter called its nodes and tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from auditor.formats.onnx_grouping import Group
from auditor.formats.onnx_model import OnnxNode

#: What TensorFlow calls the node of a layer within the layer's scope.
TENSORFLOW_TYPES = frozenset(
    {"AvgPool", "BiasAdd", "Conv2D", "FusedBatchNormV3", "MaxPool2d", "Relu6", "Tensordot"}
    | {"convolution", "depthwise"}
)
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
MAX_PART = 120
MAX_PARTS = 32
#: Names that one fused node lists.
MAX_FUSED = 16
#: A node that an exporter added of its own: "Transpose__12".
OWN = re.compile(r"__\d+\Z")
NUMBERED = re.compile(r"_\d+\Z")
#: The output number TensorFlow writes behind a node: "dense/MatMul:0".
OUTPUT = re.compile(r":\d+\Z")
UNWANTED = re.compile(r"[\x00-\x1f\x7f#]+")
#: TensorFlow's calls of functions, which are no layers.
CALLS = re.compile(r"(Stateful)?PartitionedCall(_\d+)?\Z")
#: A parameter as torch names it, by the module that holds it.
PARAMETER = re.compile(
    r"(?P<module>[A-Za-z_][\w.]*)\.(weight|bias|running_mean|running_var|in_proj_weight|in_proj_bias"
    r"|(weight|bias)_(ih|hh)_l\d+(_reverse)?)\Z"
)


def call_paths(groups: Sequence[Group]) -> tuple[tuple[str, ...], ...]:
    """A path for each group, unique among them: modules from the outermost in, the layer last.

    "/encoder/0/MatMul" and "/encoder/0/Add" of one dense layer are its module, "encoder.0", where
    the module holds no other call; otherwise the node is named too. What all calls have in common
    at the front is the model's own name, and left out. A node without modules in its name is called
    by the module its parameters are named after, else by its name, else by its operator type and a
    number.
    """
    named = [_named(group) for group in groups]
    inside = Counter(path[:length] for path, _ in named if path for length in range(1, len(path)))
    chosen: list[tuple[str, ...]] = []
    numbers: Counter[str] = Counter()
    for group, (path, of_type) in zip(groups, named, strict=True):
        if not path:
            kind = group.layer.kind if group.layer else group.core[0].op_type
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
    nodes = _telling(group.core)
    paths = [path for node in nodes for path in _node_paths(node)]
    front = _common_front(paths)
    # torch folds a normalization into the convolution before it, under the name of the former.
    convolution = group.kernel is not None and group.kernel.op_type in CONVOLUTIONS
    if convolution or all(len(path) < 2 for path in paths):
        module = _module(group)
        if module:
            return module, False
    if not paths:
        return (), False
    if front:
        path = paths[0]
        return (*path[:front], group.layer.kind if group.layer else path[front]), True
    chosen = group.kernel if group.kernel in nodes else nodes[-1]
    path = _node_paths(chosen)[0]
    last = NUMBERED.sub("", OWN.sub("", path[-1]))
    types = {node.op_type for node in group.core} | TENSORFLOW_TYPES
    return path, last in types or last.removeprefix("node_") in types or bool(chosen.scope)


def _telling(nodes: Sequence[OnnxNode]) -> list[OnnxNode]:
    """The nodes whose names tell most: those with modules, else the model's own, else any."""
    named = [node for node in nodes if node.name or node.scope]
    scoped = [node for node in named if node.scope]
    own = [node for node in named if "/" in node.name or not OWN.search(node.name)]
    return scoped or own or named


def _module(group: Group) -> tuple[str, ...]:
    """The module that a group's parameters are named after; empty where they name none."""
    kernel = group.kernel.inputs[1:] if group.kernel else ()
    for name in dict.fromkeys((*(name for _, name in group.fixed), *kernel)):
        match = PARAMETER.match(name) if len(name) <= MAX_PART else None
        if match:
            return _joined(match["module"].split("."))
    return ()


def _node_paths(node: OnnxNode) -> list[tuple[str, ...]]:
    """The path of a node; those of all it was fused of, where its name lists them."""
    if node.scope:
        return [_path([*node.scope, node.name or node.op_type], node)]
    names = [name for name in node.name.split(";")[:MAX_FUSED] if name]
    return [_path(name.split("/"), node) for name in names or [node.op_type]]


def _path(parts: Iterable[str], node: OnnxNode) -> tuple[str, ...]:
    kept = [OUTPUT.sub("", part) for part in parts if not CALLS.match(part)]
    cleaned = _joined(filter(None, (clean(part) for part in kept[-MAX_PARTS:])))
    return cleaned or (clean(node.op_type) or "node",)


def _joined(parts: Iterable[str]) -> tuple[str, ...]:
    """Parts with a list and its place in it as one: torch's "layer1/layer1.0" and "layer1/0"."""
    path: list[str] = []
    for part in parts:
        if path and part.isdecimal() and len(path[-1]) + len(part) < MAX_PART:
            path[-1] = f"{path[-1]}.{part}"
        elif path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return tuple(path)


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
