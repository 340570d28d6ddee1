"""Reader of ONNX models: a file or a ModelProto as a LayerGraph, without running either.

Layers are what exporters wrote as several nodes, put together again (`onnx_grouping`). Arithmetic
on shapes and constants is done while reading and is no call of its own; where a constant could not
be reduced to a stored tensor, the call that uses it says so in its note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from auditor.errors import UnreadableModel
from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.onnx_calls import layer_graph
from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_functions import expand_functions
from auditor.formats.onnx_order import in_order
from auditor.formats.onnx_tensors import FileStamp
from auditor.formats.onnx_values import Values
from auditor.formats.onnx_wire import MalformedWire, skeleton
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op
from auditor.hazard import Hazard

#: protobuf itself allows no larger message.
MAX_BYTES = 2**31 - 1
#: What a model in memory is called in messages.
IN_MEMORY = "<ModelProto>"
GENERIC_NAMES = frozenset(
    {"main_graph", "torch_jit", "torch-jit-export", "tf2onnx", "graph", "main", "model"}
)
#: Calls named in a note about several.
NAMED = 5


def read_onnx(path: Path, limits: Limits) -> ModelFile:
    """Read an `.onnx` file; external data beside it is located, and read only on demand.

    Raises `UnreadableModel` for what is no ONNX model or a damaged one, `UnsafeModel` for one
    whose functions call themselves. Values outside the model's folder are a hazard, not read.
    """
    data, stamp = _bytes_of(path)
    try:
        small, spans = skeleton(memoryview(data))
        proto = onnx.ModelProto.FromString(small)
    except (MalformedWire, DecodeError) as error:
        raise UnreadableModel(_not_onnx(path, data), detail=str(error)) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise UnreadableModel(_not_onnx(path, data))
    digest = hashlib.sha256(data).hexdigest()
    del data
    decoder = Decoder(source=str(path), path=path, stamp=stamp, folder=path.parent, spans=spans)
    graph = _graph(proto, decoder, limits, _model_name(proto, path.stem))
    return ModelFile(path=path, sha256=digest, graph=graph, hazards=_once(decoder))


def read_onnx_proto(model: onnx.ModelProto, limits: Limits) -> ModelFile:
    """Read a ModelProto in memory. External data of it is never read: it names no folder.

    Raises as `read_onnx`.
    """
    if not model.HasField("graph"):
        raise UnreadableModel(f"{IN_MEMORY}: not an ONNX model: it has no graph")
    try:
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    except (EncodeError, ValueError):
        digest = ""  # more than protobuf can write: the model has no bytes to digest
    decoder = Decoder(source=IN_MEMORY)
    graph = _graph(model, decoder, limits, _model_name(model, "model"))
    return ModelFile(path=Path(IN_MEMORY), sha256=digest, graph=graph, hazards=_once(decoder))


def _model_name(proto: onnx.ModelProto, otherwise: str) -> str:
    """The graph's name, unless it is one that exporters give to every graph."""
    name = proto.graph.name
    return otherwise if not name or name.lower() in GENERIC_NAMES else name


def _bytes_of(path: Path) -> tuple[bytes, FileStamp]:
    try:
        with path.open("rb") as stream:
            stamp = FileStamp.of(stream.fileno())
            if stamp.size > MAX_BYTES:
                raise UnreadableModel(
                    f"{path}: {stamp.size / 2**30:.1f} GiB, and an ONNX file has 2 GiB at most; "
                    "save it with external data"
                )
            data = stream.read(MAX_BYTES)
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise UnreadableModel(f"{path}: the file is empty; export the model again")
    return data, stamp


def _not_onnx(path: Path, data: bytes) -> str:
    if data[:1024].isascii() and data[:1024].decode("ascii").isprintable():
        return f"{path}: not an ONNX model but a text file, whatever its name"
    return f"{path}: not an ONNX model, or a truncated one; export the model again"


def _graph(proto: onnx.ModelProto, decoder: Decoder, limits: Limits, name: str) -> LayerGraph:
    source = decoder.source
    if not proto.graph.node:
        raise UnreadableModel(f"{source}: not an ONNX model that computes: its graph has no nodes")
    try:
        model = expand_functions(decoder.model(proto), limits, source)
        graph = in_order(model.graph, source)
        values = Values(graph=graph, opset=model.opsets.get("", 0))
        read = layer_graph(graph, values, name, model.writer)
    except RecursionError as error:
        raise UnreadableModel(f"{source}: damaged ONNX model: graphs nested too deep") from error
    return replace(read, notes=(*_missing(decoder), *_not_understood(read)))


def _missing(decoder: Decoder) -> Iterator[str]:
    for why, names in decoder.missing.items():
        yield f"{_some(names)}: values unavailable: {why}"


def _not_understood(graph: LayerGraph) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for call in graph.calls:
        if call.op in (Op.OPAQUE, Op.CONTROL):
            kinds.setdefault(call.note or f"{call.kind}: graphs within it", []).append(call.id)
    for why, names in kinds.items():
        yield f"{_some(names)}: seen from outside only: {why}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _once(decoder: Decoder) -> tuple[Hazard, ...]:
    return tuple(dict.fromkeys(decoder.hazards))
