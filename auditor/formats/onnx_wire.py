"""An ONNX file without its tensors' bytes, and where in the file those bytes lie.

A protobuf message is a list of (tag, value) pairs, and protobuf's own parser tells no offsets. This
walk follows only the fields on the way to tensors (onnx.proto: ModelProto.graph, GraphProto.node
and .initializer, NodeProto.attribute, …) and copies everything else as it stands, so that what is
parsed stays small, and a tensor can be read from the file by itself when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auditor.formats.limits import DEFAULT_LIMITS, Limits

#: A place in a ModelProto: field number and index within that field, repeated from the model down.
WirePath = tuple[int, ...]
#: Reads bytes of the file: (offset, length) → at most as many bytes.
ReadAt = Callable[[int, int], bytes]

#: Messages of fewer bytes are copied whole: nothing in them is worth leaving out.
SMALL = 1024
#: A list of numbers or strings in one attribute of more bytes is left in the file: tree ensembles
#: keep millions of thresholds so, and none of them is a weight here.
LONG_LIST = 1 << 16
#: Bytes of the file looked at together.
BLOCK = 1 << 16
#: What a field of few bytes is counted as: parsed, it takes so many at least.
FEWEST = 32
#: The longest tag and length together.
LONGEST_HEAD = 20

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

#: Fields of a TensorProto that hold values: raw_data, float_data, int32_data, int64_data,
#: double_data, uint64_data.
TENSOR_VALUES = frozenset({9, 4, 5, 7, 10, 11})
RAW_DATA = 9
#: Fields of an AttributeProto that are lists (floats, ints, strings) and its name and text.
LISTS = frozenset({7, 8, 9})
NAME, TEXT, TYPE, STRING_TYPE = 1, 4, 20, 3
#: ModelProto.training_info: how a model was trained elsewhere, which takes no part in it.
TRAINING_INFO = 20

#: Fields that lead to tensors, by message: field → message. The message "tensor" is the goal.
ROUTES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}  # fmt: skip
#: Of those, the fields that hold one message and not a list: twice means merging.
SINGULAR = frozenset(
    {("model", 7), ("attribute", 5), ("attribute", 6), ("attribute", 22)}
    | {("sparse", 1), ("sparse", 2), ("tensor", RAW_DATA)}
)


class MalformedWire(ValueError):
    """The bytes are not a sequence of protobuf fields; `str()` says what is wrong where."""


class TooMuchWire(ValueError):
    """More of something than the limits allow; `str()` says of what."""


class NestedWire(ValueError):
    """Graphs within graphs deeper than the limits allow; `str()` says how deep."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A TensorProto in the file: `length` bytes from `offset`.

    `values` counts the bytes of the value fields left out; `raw` those of raw_data among them,
    which begin at `raw_offset`.
    """

    offset: int
    length: int
    values: int
    raw: int
    raw_offset: int = 0


def skeleton(
    read_at: ReadAt, size: int, limits: Limits = DEFAULT_LIMITS, *, small: int = SMALL
) -> tuple[bytes, Mapping[WirePath, Span]]:
    """The bytes of a ModelProto without large tensor values, and where those tensors are.

    Messages of less than `small` bytes are not looked into. Raises `MalformedWire`, `TooMuchWire`
    for more than `limits.calls` nodes, tensors or functions or `limits.json_bytes` of what is no
    tensor's value, and `NestedWire` for graphs more than `limits.nesting` deep.
    """
    walk = _Walk(read_at, limits, small)
    return bytes(walk.message(0, size, "model", (), 0)), walk.spans


class _Walk:
    """One walk through a file."""

    def __init__(self, read_at: ReadAt, limits: Limits, small: int) -> None:
        self.spans: dict[WirePath, Span] = {}
        self._read_at = read_at
        self._limits = limits
        self._small = small
        self._block = b""
        self._start = 0
        self._kept = 0

    def message(self, start: int, end: int, kind: str, path: WirePath, graphs: int) -> bytearray:
        """The message from `start` to `end`, large tensor values left out at every depth."""
        graphs += kind == "graph"
        # The model's own graph is the first.
        if graphs > self._limits.nesting + 1:
            raise NestedWire(f"graphs within graphs more than {self._limits.nesting} deep")
        if kind == "attribute" and end - start > LONG_LIST:
            told = self._long_list(start, end)
            if told is not None:
                return told
        kept = bytearray()
        counts: dict[int, int] = {}
        position = start
        values = raw = raw_offset = 0
        while position < end:
            field_start = position
            number, wire_type, body, position = self._field(position, end)
            if wire_type == LENGTH:
                index = counts[number] = counts.get(number, -1) + 1
                if index and (kind, number) in SINGULAR:
                    raise MalformedWire(
                        f"field {number} of the {kind} at byte {start} appears twice"
                    )
                if kind == "model" and number == TRAINING_INFO:
                    continue
                child = ROUTES.get(kind, {}).get(number)
                if child is not None and index >= self._limits.calls:
                    raise TooMuchWire(f"more than the {self._limits.calls} {child}s allowed")
                if position - body >= self._small:
                    if kind == "tensor" and number in TENSOR_VALUES and position - body >= SMALL:
                        values += position - body
                        if number == RAW_DATA:
                            raw, raw_offset = position - body, body
                        continue
                    if child is not None:
                        inner = self.message(body, position, child, (*path, number, index), graphs)
                        kept += _varint_bytes(number << 3 | LENGTH) + _varint_bytes(len(inner))
                        kept += inner
                        continue
            self._count(position - field_start)
            kept += self._bytes(field_start, position)
        if values:
            self.spans[path] = Span(
                offset=start, length=end - start, values=values, raw=raw, raw_offset=raw_offset
            )
        return kept

    def _long_list(self, start: int, end: int) -> bytearray | None:
        """An attribute that is a long list, as a text that says so; None for one that is none."""
        kept = bytearray()
        position = start
        while position < end:
            field_start = position
            number, _, _, position = self._field(position, end)
            if number in LISTS:
                said = f"<a list of {end - start} bytes>".encode()
                kept += _varint_bytes(TEXT << 3 | LENGTH) + _varint_bytes(len(said)) + said
                return kept + _varint_bytes(TYPE << 3 | VARINT) + _varint_bytes(STRING_TYPE)
            if number != NAME:
                return None
            self._count(position - field_start)
            kept += self._bytes(field_start, position)
        return None

    def _count(self, size: int) -> None:
        self._kept += max(size, FEWEST)
        if self._kept > self._limits.json_bytes:
            raise TooMuchWire(
                f"more than the {self._limits.json_bytes} bytes allowed for what is no tensor"
            )

    def _bytes(self, start: int, end: int) -> bytes:
        inside = start - self._start
        if inside >= 0 and end - self._start <= len(self._block):
            return self._block[inside : end - self._start]
        data = self._read_at(start, end - start)
        if len(data) != end - start:
            raise MalformedWire(f"the data ends before byte {end}")
        return data

    def _field(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Field number, wire type, where the value starts and where it ends."""
        start = position
        inside = position - self._start
        if not 0 <= inside <= len(self._block) - LONGEST_HEAD:
            self._block, self._start = self._read_at(position, BLOCK), position
        tag, position = self._varint(position, end)
        number, wire_type = tag >> 3, tag & 7
        body = position
        if wire_type == VARINT:
            _, position = self._varint(position, end)
        elif wire_type == FIXED64:
            position += 8
        elif wire_type == FIXED32:
            position += 4
        elif wire_type == LENGTH:
            length, body = self._varint(position, end)
            position = body + length
        else:
            raise MalformedWire(f"wire type {wire_type} at byte {start}")
        if number == 0 or position > end:
            raise MalformedWire(f"the field at byte {start} runs past its end or has no number")
        return number, wire_type, body, position

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """A base-128 integer, and the position after it."""
        block, start = self._block, self._start
        end = min(end, start + len(block))
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise MalformedWire(f"the data ends within a number, at byte {position}")
            byte = block[position - start]
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
