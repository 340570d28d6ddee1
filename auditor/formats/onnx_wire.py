"""An ONNX file without its tensors' bytes, and where in the file those bytes lie.

A protobuf message is a list of (tag, value) pairs, and protobuf's own parser tells no offsets. This
walk follows only the fields on the way to tensors (onnx.proto: ModelProto.graph, GraphProto.node
and .initializer, NodeProto.attribute, …) and copies everything else as it stands, so that what is
parsed stays small, and a tensor can be read from the file by itself when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: A place in a ModelProto: field number and index within that field, repeated from the model down.
WirePath = tuple[int, ...]

#: Messages of fewer bytes are copied whole: nothing in them is worth leaving out.
SMALL = 1024
#: Messages within messages that are followed; protobuf's own parser stops at 100.
MAX_DEPTH = 96

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

#: Fields of a TensorProto that hold values: raw_data, float_data, int32_data, int64_data,
#: double_data, uint64_data.
TENSOR_VALUES = frozenset({9, 4, 5, 7, 10, 11})
RAW_DATA = 9

#: Fields that lead to tensors, by message: field → message. The message "tensor" is the goal.
ROUTES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
#: Of those, the fields that hold one message and not a list: twice means merging.
SINGULAR = frozenset({("model", 7), ("attribute", 5), ("attribute", 6)})


class MalformedWire(ValueError):
    """The bytes are not a sequence of protobuf fields; `str()` says what is wrong where."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A TensorProto in the file: `length` bytes from `offset`.

    `values` counts the bytes of the value fields left out, `raw` those of raw_data among them.
    """

    offset: int
    length: int
    values: int
    raw: int


def skeleton(data: memoryview) -> tuple[bytes, Mapping[WirePath, Span]]:
    """The bytes of a ModelProto without large tensor values, and where those tensors are.

    Raises `MalformedWire`.
    """
    spans: dict[WirePath, Span] = {}
    return bytes(_message(data, 0, len(data), "model", (), spans)), spans


def _message(
    data: memoryview, start: int, end: int, kind: str, path: WirePath, spans: dict[WirePath, Span]
) -> bytearray:
    """The message from `start` to `end`, large tensor values left out at every depth."""
    if len(path) > 2 * MAX_DEPTH:
        raise MalformedWire(f"messages nested more than {MAX_DEPTH} deep")
    kept = bytearray()
    counts: dict[int, int] = {}
    position = start
    values = raw = 0
    while position < end:
        field_start = position
        number, wire_type, body, position = _field(data, position, end)
        if wire_type == LENGTH:
            index = counts[number] = counts.get(number, -1) + 1
            if index and (kind, number) in SINGULAR:
                raise MalformedWire(f"field {number} of the {kind} at byte {start} appears twice")
            child = ROUTES.get(kind, {}).get(number)
            if position - body >= SMALL:
                if kind == "tensor" and number in TENSOR_VALUES:
                    values += position - body
                    raw += (position - body) * (number == RAW_DATA)
                    continue
                if child is not None:
                    inner = _message(data, body, position, child, (*path, number, index), spans)
                    kept += _varint_bytes(number << 3 | LENGTH) + _varint_bytes(len(inner)) + inner
                    continue
        kept += data[field_start:position]
    if values:
        spans[path] = Span(offset=start, length=end - start, values=values, raw=raw)
    return kept


def _field(data: memoryview, position: int, end: int) -> tuple[int, int, int, int]:
    """Field number, wire type, where the value starts and where it ends."""
    start = position
    tag, position = _varint(data, position, end)
    number, wire_type = tag >> 3, tag & 7
    body = position
    if wire_type == VARINT:
        _, position = _varint(data, position, end)
    elif wire_type == FIXED64:
        position += 8
    elif wire_type == FIXED32:
        position += 4
    elif wire_type == LENGTH:
        length, body = _varint(data, position, end)
        position = body + length
    else:
        raise MalformedWire(f"wire type {wire_type} at byte {start}")
    if number == 0 or position > end:
        raise MalformedWire(f"the field at byte {start} runs past its end or has no number")
    return number, wire_type, body, position


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """A base-128 integer, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise MalformedWire(f"the data ends within a number, at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise MalformedWire(f"a number of more than ten bytes, before byte {position}")


def _varint_bytes(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
