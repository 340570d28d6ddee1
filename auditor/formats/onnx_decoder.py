"""Protobuf messages of an ONNX model as plain values: where hostile messages are met."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx

from auditor.errors import UnreadableModel
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.onnx_data_file import DataFile
from auditor.formats.onnx_external import ExternalData
from auditor.formats.onnx_folding import MAX_KNOWN
from auditor.formats.onnx_model import (
    Attribute,
    OnnxFunction,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    TensorType,
)
from auditor.formats.onnx_tensors import (
    DATA_TYPES,
    STRING,
    Array,
    EncodedTensor,
    HeldTensor,
    ProtoTensor,
    RawTensor,
    SparseTensor,
    StoredTensor,
    dtype_name,
    stored_bytes,
    to_array,
)
from auditor.formats.onnx_wire import Span, WirePath
from auditor.formats.refusal import refusal
from auditor.graph.layer_graph import Shape
from auditor.graph.weight import TensorReader
from auditor.hazard import Hazard

#: Characters of a dimension's or module's name.
MAX_NAME = 4096
#: IR versions before this one import no operator sets, and mean the first.
FIRST_WITH_OPSETS = 3
#: Messages on the way from a graph to one within it: node, attribute, graph.
STEPS = 3
#: Characters of a name that a message shows.
MAX_SHOWN = 80
#: Bytes of the widest number.
WIDEST = 16
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
QUOTED = re.compile(r"'([^']*)'")


@dataclass(kw_only=True)
class Decoder:
    """Decodes the messages of one model, and gathers what is dangerous or missing on the way.

    `spans` says which tensors' values were left in `file`; both are empty for a model in memory,
    whose external data nothing may be read of.
    """

    source: str
    limits: Limits = DEFAULT_LIMITS
    file: DataFile | None = None
    spans: Mapping[WirePath, Span] = field(default_factory=dict)
    hazards: list[Hazard] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.external = ExternalData(folder=self.file.path.parent if self.file else None)
        self._dense = 0

    def model(self, proto: onnx.ModelProto) -> OnnxModel:
        """Decode a whole model. Raises `UnreadableModel`."""
        opsets = {_domain(_text(entry.domain)): int(entry.version) for entry in proto.opset_import}
        if not opsets and proto.ir_version < FIRST_WITH_OPSETS:
            opsets[""] = 1
        return OnnxModel(
            writer=_writer(proto, opsets),
            opsets=opsets,
            graph=self._graph(proto.graph, (7, 0)),
            functions=tuple(
                self._function(function, (25, index))
                for index, function in enumerate(proto.functions)
            ),
        )

    def _graph(self, proto: onnx.GraphProto, path: WirePath) -> OnnxGraph:
        if len(path) // 2 > STEPS * self.limits.nesting + 1:
            raise refusal(
                "GEB909",
                f"{self.source}: graph {_text(proto.name)[:MAX_SHOWN]!r}",
                f"graphs within graphs more than {self.limits.nesting} deep",
            )
        tensors: dict[str, StoredTensor] = {}
        stored = [
            *(self._tensor(t, (*path, 5, index)) for index, t in enumerate(proto.initializer)),
            *(self._sparse(t, (*path, 15, i)) for i, t in enumerate(proto.sparse_initializer)),
        ]
        for tensor in stored:
            if not tensor.name:
                raise self._unreadable("an initializer has no name")
            if tensor.name in tensors:
                raise self._unreadable(f"two initializers have the name {tensor.name!r}")
            tensors[tensor.name] = tensor
        if not all(info.name for info in (*proto.input, *proto.output)):
            raise self._unreadable("an input or output of a graph has no name")
        types = {
            _text(info.name): _tensor_type(info) for info in (*proto.value_info, *proto.output)
        }
        return OnnxGraph(
            name=_text(proto.name),
            nodes=self._nodes(proto.node, (*path, 1)),
            tensors=tensors,
            inputs=tuple(
                (_text(info.name), _tensor_type(info))
                for info in proto.input
                if _text(info.name) not in tensors
            ),
            outputs=tuple(_text(info.name) for info in proto.output),
            types=types,
        )

    def _function(self, proto: onnx.FunctionProto, path: WirePath) -> OnnxFunction:
        return OnnxFunction(
            domain=_domain(_text(proto.domain)),
            name=_text(proto.name),
            overload=_text(getattr(proto, "overload", "")),
            inputs=_texts(proto.input),
            outputs=_texts(proto.output),
            defaults={
                _text(attribute.name): self._attribute(attribute, ())
                for attribute in getattr(proto, "attribute_proto", ())
            },
            nodes=self._nodes(proto.node, (*path, 7)),
        )

    def _nodes(self, protos: Iterable[onnx.NodeProto], path: WirePath) -> tuple[OnnxNode, ...]:
        return tuple(self._node(proto, (*path, index)) for index, proto in enumerate(protos))

    def _node(self, proto: onnx.NodeProto, path: WirePath) -> OnnxNode:
        attributes: dict[str, Attribute] = {}
        references: dict[str, str] = {}
        for index, attribute in enumerate(proto.attribute):
            name, reference = _text(attribute.name), _text(attribute.ref_attr_name)
            if reference:
                references[name] = reference
            else:
                attributes[name] = self._attribute(attribute, (*path, 5, index))
        return OnnxNode(
            op_type=_text(proto.op_type),
            name=_text(proto.name),
            domain=_domain(_text(proto.domain)),
            overload=_text(getattr(proto, "overload", "")),
            inputs=_texts(proto.input),
            outputs=_texts(proto.output),
            attributes=attributes,
            references=references,
            scope=_scope(proto),
        )

    def _attribute(self, proto: onnx.AttributeProto, path: WirePath) -> Attribute:
        kind = proto.type
        known = onnx.AttributeProto
        if kind == known.INT:
            return int(proto.i)
        if kind == known.FLOAT:
            return float(proto.f)
        if kind == known.STRING:
            return _text(proto.s)
        if kind == known.INTS:
            return tuple(int(value) for value in proto.ints)
        if kind == known.FLOATS:
            return tuple(float(value) for value in proto.floats)
        if kind == known.STRINGS:
            return _texts(proto.strings)
        if kind == known.TENSOR:
            return self._tensor(proto.t, (*path, 5, 0))
        if kind == known.TENSORS:
            return tuple(self._tensor(t, (*path, 10, i)) for i, t in enumerate(proto.tensors))
        if kind == known.GRAPH:
            return self._graph(proto.g, (*path, 6, 0))
        if kind == known.GRAPHS:
            return tuple(self._graph(g, (*path, 11, i)) for i, g in enumerate(proto.graphs))
        if kind == known.SPARSE_TENSOR:
            return self._sparse(proto.sparse_tensor, (*path, 22, 0))
        return f"<attribute of type {kind}>"

    def _tensor(self, proto: onnx.TensorProto, path: WirePath) -> StoredTensor:
        name, shape = _text(proto.name), self._shape(proto)
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            return self._external(proto, shape)
        span = self.spans.get(path)
        self._check_size(proto, shape, span)
        return StoredTensor(
            name=name,
            dtype=dtype_name(proto.data_type),
            shape=shape,
            read=self._reader(proto, shape, span),
        )

    def _reader(
        self, proto: onnx.TensorProto, shape: tuple[int, ...], span: Span | None
    ) -> TensorReader:
        if span is None or self.file is None:
            if math.prod(shape) > MAX_KNOWN:
                return ProtoTensor(proto)
            return HeldTensor(self._values(proto))
        if span.raw:
            return RawTensor(
                file=self.file,
                offset=span.raw_offset,
                length=span.raw,
                data_type=proto.data_type,
                shape=shape,
            )
        return EncodedTensor(file=self.file, offset=span.offset, length=span.length)

    def _values(self, proto: onnx.TensorProto) -> Array:
        try:
            return to_array(proto)
        except UnreadableModel as error:
            raise self._unreadable(str(error)) from error

    def _shape(self, proto: onnx.TensorProto | onnx.SparseTensorProto) -> tuple[int, ...]:
        shape = tuple(int(dim) for dim in proto.dims)
        if any(dim < 0 for dim in shape):
            raise self._unreadable(f"a tensor has a negative dimension: {shape}")
        return shape

    def _external(self, proto: onnx.TensorProto, shape: tuple[int, ...]) -> StoredTensor:
        entries = tuple((_text(entry.key), _text(entry.value)) for entry in proto.external_data)
        found = self.external.resolve(_text(proto.name), entries, proto.data_type, shape)
        if found.hazard is not None:
            self.hazards.append(found.hazard)
        elif found.reader is None:
            self.missing.setdefault(found.why, []).append(_text(proto.name))
        return StoredTensor(
            name=_text(proto.name),
            dtype=dtype_name(proto.data_type),
            shape=shape,
            read=found.reader,
            external=True,
            why=found.why,
        )

    def _check_size(
        self, proto: onnx.TensorProto, shape: tuple[int, ...], span: Span | None
    ) -> None:
        """Refuse a tensor that declares more values than it stores."""
        name = _text(proto.name)
        if proto.data_type not in DATA_TYPES:
            raise self._unreadable(
                f"tensor {name!r} has data type {proto.data_type}, which ONNX does not define"
            )
        needed = stored_bytes(proto.data_type, shape)
        raw = span.raw if span else 0
        if raw or proto.HasField("raw_data"):
            stored = raw or len(proto.raw_data)
            fits = stored == needed
        else:
            lists = (proto.float_data, proto.int32_data, proto.int64_data, proto.double_data)
            stored = sum(map(len, (*lists, proto.uint64_data, proto.string_data)))
            stored += span.values if span else 0
            # The narrowest packing is four 2-bit values in one stored integer.
            count = StoredTensor(name="", dtype="", shape=shape, read=None).size
            fits = count <= stored * (1 if proto.data_type == STRING else 4)
        if not fits:
            raise self._unreadable(
                f"tensor {name!r} declares shape {shape} of {dtype_name(proto.data_type)} "
                f"but stores {stored} {'bytes' if raw or proto.raw_data else 'values'}"
            )

    def _sparse(self, proto: onnx.SparseTensorProto, path: WirePath) -> StoredTensor:
        name, shape = _text(proto.values.name), self._shape(proto)
        values = self._tensor(proto.values, (*path, 1, 0))
        indices = self._tensor(proto.indices, (*path, 2, 0))
        fits = indices.shape in ((values.size,), (values.size, len(shape)))
        if len(values.shape) != 1 or not fits:
            raise self._unreadable(
                f"the sparse tensor {name!r} has values of shape {values.shape} and indices of "
                f"shape {indices.shape}"
            )
        why = self._not_dense(values, indices, shape)
        reader: TensorReader | None = None
        if why:
            self.missing.setdefault(why, []).append(name)
        elif values.read is not None and indices.read is not None:
            reader = SparseTensor(values=values.read, indices=indices.read, shape=shape)
        return StoredTensor(name=name, dtype=values.dtype, shape=shape, read=reader, why=why)

    def _not_dense(
        self, values: StoredTensor, indices: StoredTensor, shape: tuple[int, ...]
    ) -> str:
        """Why a sparse tensor is not made dense; empty where it may be."""
        if values.read is None or indices.read is None:
            return values.why or indices.why
        dense = math.prod(shape)
        self._dense += dense
        # A value with its index takes about two; all of a model's together are bounded too.
        allowed = max(self.limits.json_bytes // WIDEST, 2 * values.size * self.limits.expansion)
        if dense > allowed or self._dense > self.limits.inflated_bytes // WIDEST:
            return f"stored sparsely: {values.size} of {dense} values, too few to be made dense"
        return ""

    def _unreadable(self, why: str) -> UnreadableModel:
        return UnreadableModel(f"{self.source}: damaged ONNX model: {why}")


def _domain(domain: str) -> str:
    """A domain as it is looked up; none from a file is one of those made here."""
    return "" if domain == "ai.onnx" else domain.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _text(data: str | bytes) -> str:
    """A string field: protobuf gives bytes for one that is not UTF-8."""
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data


def _texts(data: Iterable[str | bytes]) -> tuple[str, ...]:
    return tuple(map(_text, data))


def _scope(proto: onnx.NodeProto) -> tuple[str, ...]:
    """The modules a torch exporter recorded: ['', 'encoder', 'encoder.0', 'linear'] → two names."""
    for entry in getattr(proto, "metadata_props", ()):
        value = _text(entry.value)
        if _text(entry.key) == NAME_SCOPES and len(value) <= MAX_NAME:
            scope: list[str] = []
            above = ""
            for name in filter(None, QUOTED.findall(value)[:-1]):
                scope.append(name.removeprefix(above))
                above = f"{name}."
            return tuple(scope)
    return ()


def _tensor_type(info: onnx.ValueInfoProto) -> TensorType:
    kind = info.type.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return TensorType(dtype=(kind or "").removesuffix("_type"))
    declared = getattr(info.type, kind)
    shape: Shape | None = None
    if declared.HasField("shape"):
        shape = tuple(_dim(dim) for dim in declared.shape.dim)
    dtype = dtype_name(declared.elem_type) if declared.elem_type else ""
    return TensorType(dtype=dtype, shape=shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.WhichOneof("value") == "dim_value":
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return _text(dim.dim_param)[:MAX_NAME] or None


def _writer(proto: onnx.ModelProto, opsets: Mapping[str, int]) -> str:
    producer = " ".join(filter(None, (_text(proto.producer_name), _text(proto.producer_version))))
    opset = f"opset {opsets['']}" if "" in opsets else "no opset"
    return f"{producer or 'unknown writer'}, {opset}"
