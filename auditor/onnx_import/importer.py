"""`to_keras`: an ONNX file or ModelProto as a Keras model."""

from __future__ import annotations

from pathlib import Path

import onnx

from auditor.errors import UnreadableModel
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.onnx_decoder import Decoder
from auditor.formats.onnx_file import IN_MEMORY, decode_onnx
from auditor.formats.onnx_weights import check_shown
from auditor.onnx_import.blueprint import blueprint
from auditor.onnx_import.model import OnnxModel


def to_keras(model: str | Path | onnx.ModelProto, *, limits: Limits = DEFAULT_LIMITS) -> OnnxModel:
    """The model on the running Keras backend, to be called, fine-tuned, and saved as `.keras`.

    Float tensors that layers of the graph hold become weights, trainable as the static audit says;
    all other stored tensors are constants. External data beside a file is read; that of a
    ModelProto has to be in it.

    Raises:
        UnreadableModel: no ONNX model, a damaged one, one beyond the limits, or one whose
            tensors are not all there.
        UnsafeModel: a file built to harm.
    """
    if isinstance(model, onnx.ModelProto):
        source, name, proto = IN_MEMORY, model.graph.name, model
        if not model.HasField("graph"):
            raise UnreadableModel(f"{source}: not an ONNX model: it has no graph")
        decoder = Decoder(source=source, limits=limits)
    else:
        path = Path(model)
        source, name = str(path), path.stem
        proto, decoder = decode_onnx(path, limits)
    decoded = decoder.model(proto)
    plan = blueprint(decoded, limits, source)
    stored = decoder.external.size + (decoder.file.stamp.size if decoder.file else proto.ByteSize())
    if plan.graph is not None:
        check_shown(plan.graph, stored, limits, source)
    return OnnxModel(plan, proto, source=Path(source).name, name=_name(name))


def _name(name: str) -> str:
    """A name as Keras and the parts of a `.keras` file take it."""
    kept = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).strip("_")
    return kept[:100] or "onnx_model"
