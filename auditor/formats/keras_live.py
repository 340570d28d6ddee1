"""A live `keras.Model` as a `ModelFile`: saved to a temporary file, and read from there.

Nothing of Keras is imported here: the model in hand brings the method that is called.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.errors import UnreadableModel
from auditor.formats.keras_zip import read_keras_zip
from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.stored_tensor import ArrayTensor
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.weight import Weight


def read_live_model(model: Any, limits: Limits) -> ModelFile:
    """The graph of a model in memory, its weights' values copied.

    There are no hazards: nothing of the model is going to be loaded. `sha256` is that of its
    structure and values, so that the same model has the same digest.

    Raises:
        UnreadableModel: the model has no weights yet, or cannot be saved.
    """
    name = str(getattr(model, "name", type(model).__name__))
    place = Path(f"<{name}>")
    if not getattr(model, "built", True):
        raise UnreadableModel(
            f"{place}: the model is not built, so it has no shapes and no weights yet; "
            "call model.build(input_shape), or the model on a batch, first"
        )
    with tempfile.TemporaryDirectory(prefix="geb-audit-") as folder:
        path = Path(folder) / "model.keras"
        try:
            # Keras warns of lambdas and the like; who loads the file has to care, and nobody does.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.save(path)
        except Exception as error:  # whatever a custom layer's get_config raises
            raise UnreadableModel(
                f"{place}: the model cannot be saved, so it cannot be read: {_first_line(error)}",
                detail=f"{type(error).__name__}: {error}",
            ) from error
        try:
            file = read_keras_zip(path, limits)
            graph = _in_memory(file.graph)
        except UnreadableModel as error:
            line = str(error).replace(str(path), str(place))
            raise type(error)(line, detail=error.detail) from error
    return ModelFile(path=place, sha256=_digest(graph), graph=graph)


def read_imported_model(model: Any) -> ModelFile:
    """The graph of an ONNX model that was imported, with the values its weights have now.

    Raises `UnreadableModel` for one that was loaded from a `.keras` file.
    """
    place = Path(f"<{model.name}>")
    if model.graph is None:
        raise UnreadableModel(
            f"{place}: an ONNX model that was saved as .keras tells no layers apart; audit the "
            "ONNX file it was made of"
        )
    graph = replace(_in_memory(model.graph), name=str(model.name), format="onnx")
    return ModelFile(path=place, sha256=_digest(graph), graph=graph)


def _in_memory(graph: LayerGraph) -> LayerGraph:
    # Calls of one layer share their weights, and so their values.
    held: dict[str, tuple[Weight, ...]] = {}

    def loaded(call: LayerCall) -> LayerCall:
        if call.layer not in held:
            held[call.layer] = tuple(
                weight if weight.read is None else replace(weight, read=ArrayTensor(weight.read()))
                for weight in call.weights
            )
        return replace(call, weights=held[call.layer])

    return replace(graph, format="keras-live", calls=tuple(loaded(call) for call in graph.calls))


def _digest(graph: LayerGraph) -> str:
    digest = hashlib.sha256()
    for call in graph.calls:
        digest.update(json.dumps([call.id, call.kind, call.config], default=str).encode())
    for layer in graph.layers():
        for weight in layer.weights:
            if weight.read is not None:
                digest.update(weight.read().tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
