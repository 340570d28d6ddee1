"""Reader of whole models in HDF5 files (`.h5`, `.hdf5`), of Keras 2 and 3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from auditor.errors import UnreadableModel
from auditor.formats.hdf5_tree import Hdf5Tree, damaged_as_unreadable
from auditor.formats.json_document import parse_json
from auditor.formats.keras_config import graph_from_config, keras_writer
from auditor.formats.keras_legacy_weights import assign_legacy_weights, read_legacy_weights
from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_zip import digest, told_with_path
from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.safety import config_hazards
from auditor.formats.stored_tensor import FileStamp, StoredTensor, open_hdf5
from auditor.formats.untrusted import plain
from auditor.graph.weight import Weight

WEIGHTS = "model_weights"


def read_keras_h5(path: Path, limits: Limits) -> ModelFile:
    """Read a whole-model HDF5 file.

    Raises `UnreadableModel`, also for a file that holds weights only; `UnsafeModel` where the file
    leads elsewhere by links, or declares what it does not hold.
    """
    with told_with_path(path):
        stamp = FileStamp.of(path)
        with damaged_as_unreadable("the HDF5 file"), open_hdf5(stamp, None) as file:
            tree = Hdf5Tree(file, stamp, limits)
            documents = {
                key: "".join(tree.texts(tree.root, key)[:1])
                for key in ("model_config", "training_config", "keras_version")
            }
            saved = _saved(tree)
            _check_whole(documents["model_config"], file, saved)
        config = parse_json(documents["model_config"], "model_config", limits)
        training: Any = None
        if documents["training_config"]:
            document = parse_json(documents["training_config"], "training_config", limits)
            training = plain(document)
        hazards = (
            *config_hazards(config, "model_config"),
            *config_hazards(training, "training_config"),
        )

        def weights(root: LayerConfig) -> Mapping[str, tuple[Weight, ...]]:
            return assign_legacy_weights(root, saved or {})

        graph = graph_from_config(
            config,
            format="keras-h5",
            writer=keras_writer(documents["keras_version"]),
            weights=weights,
            training=training,
            notes=() if saved is not None else (f"the file holds no {WEIGHTS}",),
            limits=limits,
        )
        return ModelFile(path=path, sha256=digest(path), graph=graph, hazards=hazards)


def _saved(tree: Hdf5Tree) -> Mapping[str, tuple[StoredTensor, ...]] | None:
    group = tree.child(tree.root, WEIGHTS)
    return read_legacy_weights(tree, group) if isinstance(group, h5py.Group) else None


def _check_whole(
    config: str, file: h5py.File, saved: Mapping[str, tuple[StoredTensor, ...]] | None
) -> None:
    if config:
        return
    weights = saved is not None or "layer_names" in file.attrs
    own = (b"layers", b"vars", b"_layer_checkpoint_dependencies")
    weights = weights or any(file.id.links.exists(key) for key in own)
    if weights:
        raise UnreadableModel(
            "the file holds weights only, not the model; "
            'save the whole model with model.save("model.keras")'
        )
    raise UnreadableModel(
        "an HDF5 file, but no Keras model: it has no model_config; "
        'save the model with model.save("model.keras")'
    )
