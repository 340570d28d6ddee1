"""A model's graph as text for a saved configuration, without the values that Keras saves."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Collection

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from auditor.errors import UnreadableModel
from auditor.formats.limits import Limits
from auditor.formats.onnx_model import OnnxModel
from auditor.onnx_import.interpreter.schema import stored_values
from auditor.onnx_import.tensor_places import Place, decoded_places, proto_places

#: Where a weight's values are said to be in a saved graph.
LOCATION = "keras"


def as_text(
    proto: onnx.ModelProto, model: OnnxModel, weights: Collection[Place], source: str
) -> str:
    """The graph, with the values of all tensors but the `weights`.

    Raises `NotImportable` where a value cannot be read, the file it is in having changed.
    """
    stripped = onnx.ModelProto()
    stripped.CopyFrom(proto)
    decoded = decoded_places(model)
    for place, tensor in proto_places(stripped).items():
        if place in weights:
            bare = onnx.TensorProto(
                name=tensor.name,
                dims=tensor.dims,
                data_type=tensor.data_type,
                data_location=onnx.TensorProto.EXTERNAL,
            )
            bare.external_data.add(key="location", value=LOCATION)
            tensor.CopyFrom(bare)
        elif place in decoded and tensor.data_type != onnx.TensorProto.STRING:
            values = np.ascontiguousarray(stored_values(decoded[place], source))
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            kind = tensor.data_type
            tensor.CopyFrom(
                numpy_helper.from_array(values.reshape(decoded[place].shape), tensor.name)
            )
            if tensor.data_type != kind:
                raise UnreadableModel(f"{source}: tensor {tensor.name!r} cannot be written again")
    return base64.b64encode(zlib.compress(stripped.SerializeToString())).decode("ascii")


def from_text(text: str, limits: Limits, source: str) -> onnx.ModelProto:
    """The graph of `as_text`. Raises `UnreadableModel` for a damaged or too large one."""
    try:
        packed = base64.b64decode(text, validate=True)
        inflate = zlib.decompressobj()
        data = inflate.decompress(packed, limits.inflated_bytes)
        if inflate.unconsumed_tail:
            raise UnreadableModel(f"{source}: its saved graph inflates to too much")
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
        return proto
    except (binascii.Error, zlib.error, DecodeError, ValueError) as error:
        raise UnreadableModel(f"{source}: its saved graph is damaged: {error}") from error
