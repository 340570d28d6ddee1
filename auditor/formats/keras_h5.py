"""Reader of whole models in HDF5 files (`.h5`, `.hdf5`), of Keras 2 and 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.errors import UnreadableModel
from auditor.formats.digest import Digest
from auditor.formats.hdf5_process import Hdf5Source
from auditor.formats.hdf5_server import warm_up
from auditor.formats.hdf5_tree import Hdf5Group, Hdf5Tree, read_tree
from auditor.formats.json_document import parse_json
from auditor.formats.keras_compile import with_loss_scaling
from auditor.formats.keras_config import graph_from_config, keras_writer
from auditor.formats.keras_legacy_weights import assign_legacy_weights, read_legacy_weights
from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_zip import told_with_path
from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.refusal import keeping
from auditor.formats.safety import config_hazards
from auditor.formats.stored_tensor import FileStamp, StoredTensor
from auditor.formats.untrusted import plain
from auditor.graph.weight import Weight

WEIGHTS = "model_weights"
#: Attributes of the root that are documents, and attributes of groups that list what is in them.
DOCUMENTS = ("model_config", "training_config", "keras_version")
LISTS = ("layer_names", "weight_names")


def read_keras_h5(path: Path, limits: Limits) -> ModelFile:
    """Read a whole-model HDF5 file.

    Raises `UnreadableModel`, also for a file that holds weights only; `UnsafeModel` where the file
    leads elsewhere by links, or declares what it does not hold.
    """
    warm_up()
    with told_with_path(path), Digest(path) as digest:
        stamp = FileStamp.of(path)
        tree = read_tree(Hdf5Source(path=stamp.path), stamp, limits, *DOCUMENTS, *LISTS)
        documents = {name: "".join(tree.root.texts(name)[:1]) for name in DOCUMENTS}
        saved = _saved(tree)
        _check_whole(documents["model_config"], tree.root, saved)
        config = parse_json(documents["model_config"], "model_config", limits)
        training: Any = None
        if documents["training_config"]:
            training = parse_json(documents["training_config"], "training_config", limits)
        hazards = (
            *config_hazards(config, "model_config"),
            *config_hazards(training, "training_config"),
        )

        def weights(root: LayerConfig) -> Mapping[str, tuple[Weight, ...]]:
            return assign_legacy_weights(root, saved or {})

        with keeping(hazards):
            graph = graph_from_config(
                config,
                format="keras-h5",
                writer=keras_writer(documents["keras_version"]),
                weights=weights,
                training=plain(training),
                notes=() if saved is not None else (f"the file holds no {WEIGHTS}",),
                limits=limits,
            )
        if graph.compile is not None:
            # The optimizer is written as it stands, with what scales the loss around it.
            graph = replace(graph, compile=with_loss_scaling(graph.compile, False))
        return ModelFile(
            path=path, sha256=digest.hex(), graph=graph, hazards=hazards, hdf5=tree.library
        )


def _saved(tree: Hdf5Tree) -> Mapping[str, tuple[StoredTensor, ...]] | None:
    group = tree.root.find(WEIGHTS)
    return read_legacy_weights(tree, group) if isinstance(group, Hdf5Group) else None


def _check_whole(
    config: str, root: Hdf5Group, saved: Mapping[str, tuple[StoredTensor, ...]] | None
) -> None:
    if config:
        return
    own = ("layers", "vars", "_layer_checkpoint_dependencies")
    if saved is not None or root.texts("layer_names") or any(key in root.members for key in own):
        raise UnreadableModel(
            "the file holds weights only, not the model; "
            'save the whole model with model.save("model.keras")'
        )
    raise UnreadableModel(
        "an HDF5 file, but no Keras model: it has no model_config; "
        'save the model with model.save("model.keras")'
    )
