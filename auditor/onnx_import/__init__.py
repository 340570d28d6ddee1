"""An ONNX graph as a `keras.Model` on `keras.ops`, differentiable on every backend of Keras."""

from __future__ import annotations

from auditor.onnx_import.importer import to_keras
from auditor.onnx_import.model import OnnxModel
from auditor.onnx_import.refused import NotImportable

__all__ = ["NotImportable", "OnnxModel", "to_keras"]
