"""Reader of ONNX models: a file or a ModelProto as a LayerGraph, without running either.

Layers are what exporters wrote as several nodes, put together again (`onnx_grouping`). Arithmetic
on shapes and constants is done while reading and is no call of its own; where a constant could not
be reduced to a stored tensor, the call that uses it says so in its note.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from auditor.errors import UnreadableModel
from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.onnx_bodies import lay_out_bodies
from auditor.formats.onnx_calls import layer_graph
from auditor.formats.onnx_data_file import DataFile, FileStamp, is_plain, open_below
from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_domains import domain_hazards
from auditor.formats.onnx_functions import expand_functions
from auditor.formats.onnx_model import OnnxGraph
from auditor.formats.onnx_operators import CONTROL
from auditor.formats.onnx_order import in_order
from auditor.formats.onnx_tensors import StoredTensor
from auditor.formats.onnx_values import Values
from auditor.formats.onnx_weights import check_shown
from auditor.formats.onnx_wire import (
    MalformedWire,
    NestedWire,
    Span,
    TooMuchWire,
    WirePath,
    skeleton,
)
from auditor.formats.refusal import refusal
from auditor.graph.layer_graph import LayerGraph
from auditor.graph.operators import Op
from auditor.hazard import Hazard

#: Where in the graph a tensor is stored.
TensorPlace = tuple[int | str, ...]
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

    Raises `UnreadableModel` for what is no ONNX model, a damaged one, or one beyond the limits,
    and `UnsafeModel` for one built to harm: functions that call themselves, bombs, graphs nested
    too deep. Values outside the model's folder are a hazard, not read.
    """
    proto, decoder, digest = _decoder(path, limits)
    graph = _graph(proto, decoder, limits, _model_name(proto, path.stem))
    stored = decoder.external.size + (decoder.file.stamp.size if decoder.file else 0)
    check_shown(graph, stored, limits, str(path))
    return ModelFile(path=path, sha256=digest, graph=graph, hazards=_once(decoder))


def read_tensors(path: Path, limits: Limits) -> Mapping[TensorPlace, StoredTensor]:
    """All tensors an `.onnx` file stores in its graph, whether a layer uses them or not.

    By place: the name of an initializer, or index and attribute of the node that holds a tensor;
    before it the same of each node on the way down to a graph within. Raises as `read_onnx`.
    """
    proto, decoder, _ = _decoder(path, limits)
    return dict(_stored(decoder.model(proto).graph, ()))


def decode_onnx(path: Path, limits: Limits) -> tuple[onnx.ModelProto, Decoder]:
    """The model of an `.onnx` file without its large values, and what decodes it with them.

    For what runs a model, rather than reads it. Raises as `read_onnx`, of what stands in the file;
    what follows from it is the caller's to check.
    """
    proto, decoder, _ = _decoder(path, limits)
    return proto, decoder


def _stored(graph: OnnxGraph, place: TensorPlace) -> Iterator[tuple[TensorPlace, StoredTensor]]:
    for name, tensor in graph.tensors.items():
        yield (*place, name), tensor
    for index, node in enumerate(graph.nodes):
        for key, value in node.attributes.items():
            if isinstance(value, StoredTensor):
                yield (*place, index, key), value
        for key, inner in node.named_graphs:
            yield from _stored(inner, (*place, index, key))


def _decoder(path: Path, limits: Limits) -> tuple[onnx.ModelProto, Decoder, str]:
    """The model without large values, what decodes it, and the digest of the file."""
    with _opened(path) as descriptor:
        stamp = _stamp(path, descriptor)
        proto, spans = _parsed(path, descriptor, stamp.size, limits)
        digest = _digest(descriptor)
        if FileStamp.of(descriptor) != stamp:
            raise UnreadableModel(f"{path}: the file changed while it was read; try again")
    file = DataFile(path=path, stamp=stamp)
    return proto, Decoder(source=str(path), limits=limits, file=file, spans=spans), digest


def read_onnx_proto(model: onnx.ModelProto, limits: Limits) -> ModelFile:
    """Read a ModelProto in memory. External data of it is never read: it names no folder.

    Raises as `read_onnx`.
    """
    if not model.HasField("graph"):
        raise UnreadableModel(f"{IN_MEMORY}: not an ONNX model: it has no graph")
    decoder = Decoder(source=IN_MEMORY, limits=limits)
    graph = _graph(model, decoder, limits, _model_name(model, "model"))
    return ModelFile(
        path=Path(IN_MEMORY), sha256=_proto_digest(model), graph=graph, hazards=_once(decoder)
    )


def _proto_digest(model: onnx.ModelProto) -> str:
    """Digest of what the model would be saved as; empty for more than protobuf can write."""
    stored = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if stored > MAX_BYTES:
        return ""
    try:
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    except (EncodeError, ValueError):
        return ""


def _model_name(proto: onnx.ModelProto, otherwise: str) -> str:
    """The graph's name, unless it is one that exporters give to every graph."""
    name = proto.graph.name
    return otherwise if not name or name.lower() in GENERIC_NAMES else name


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = open_below(path, "")
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror}") from error
    try:
        yield descriptor
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _stamp(path: Path, descriptor: int) -> FileStamp:
    """The stamp of a file that may be an ONNX model, by kind and size."""
    if not is_plain(descriptor):
        raise UnreadableModel(f"{path}: not a plain file")
    stamp = FileStamp.of(descriptor)
    if stamp.size > MAX_BYTES:
        raise UnreadableModel(
            f"{path}: {stamp.size / 2**30:.1f} GiB, and an ONNX file has 2 GiB at most; "
            "save it with external data"
        )
    if not stamp.size:
        raise UnreadableModel(f"{path}: the file is empty; export the model again")
    return stamp


def _parsed(
    path: Path, descriptor: int, size: int, limits: Limits
) -> tuple[onnx.ModelProto, Mapping[WirePath, Span]]:
    """The model without its tensors' values, and where these are."""

    def read_at(offset: int, length: int) -> bytes:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)

    try:
        small, spans = skeleton(read_at, size, limits)
        try:
            proto = onnx.ModelProto.FromString(small)
        except DecodeError:
            # Perhaps because of graphs nested too deep, in messages too small to be looked into.
            skeleton(read_at, size, limits, small=0)
            raise
    except NestedWire as error:
        raise refusal("GEB909", str(path), str(error)) from error
    except TooMuchWire as error:
        raise UnreadableModel(f"{path}: an ONNX model with {error}") from error
    except (MalformedWire, DecodeError) as error:
        raise UnreadableModel(_not_onnx(path, read_at(0, 1024)), detail=str(error)) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise UnreadableModel(_not_onnx(path, read_at(0, 1024)))
    return proto, spans


def _digest(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _not_onnx(path: Path, head: bytes) -> str:
    if head.isascii() and head.decode("ascii").isprintable():
        return f"{path}: not an ONNX model but a text file, whatever its name"
    return f"{path}: not an ONNX model, or a truncated one; export the model again"


def _graph(proto: onnx.ModelProto, decoder: Decoder, limits: Limits, name: str) -> LayerGraph:
    source = decoder.source
    if not proto.graph.node:
        raise UnreadableModel(f"{source}: not an ONNX model that computes: its graph has no nodes")
    try:
        model = lay_out_bodies(decoder.model(proto), limits, source)
        model = expand_functions(model, limits, source)
        decoder.hazards.extend(domain_hazards(model.graph.nodes))
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
        if call.op is Op.OPAQUE:
            kinds.setdefault(f"seen from outside only: {call.note}", []).append(call.id)
        elif call.op is Op.CONTROL and call.kind in CONTROL:
            kinds.setdefault(call.note, []).append(call.id)
    for why, names in kinds.items():
        yield f"{_some(names)}: {why}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _once(decoder: Decoder) -> tuple[Hazard, ...]:
    return tuple(dict.fromkeys(decoder.hazards))
