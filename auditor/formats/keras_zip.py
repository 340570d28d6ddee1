"""Reader of `.keras` files: a zip of config.json, metadata.json and model.weights.h5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditor.errors import GebAuditError, UnreadableModel, UnsafeModel
from auditor.formats.archive import Archive
from auditor.formats.digest import Digest
from auditor.formats.hdf5_process import Hdf5Source
from auditor.formats.hdf5_server import warm_up
from auditor.formats.hdf5_tree import Hdf5Tree, read_tree
from auditor.formats.json_document import parse_json
from auditor.formats.keras_compile import with_loss_scaling
from auditor.formats.keras_config import graph_from_config, keras_writer
from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_variables import (
    assign_variables,
    read_variables,
    without_weights,
)
from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.other_files import archive_line
from auditor.formats.pickled_members import pickle_hazards
from auditor.formats.refusal import keeping
from auditor.formats.safety import config_hazards
from auditor.formats.stored_tensor import FileStamp
from auditor.formats.untrusted import mapping, summary
from auditor.graph.weight import Weight

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
ASSETS = "assets/"
OPTIMIZER = "optimizer"


def read_keras_zip(path: Path, limits: Limits) -> ModelFile:
    """Read a `.keras` archive without extracting it.

    Raises `UnreadableModel`; `UnsafeModel` where the archive itself is hostile.
    """
    warm_up()
    with told_with_path(path):
        stamp = FileStamp.of(path)
        with Archive(path, limits) as archive, _digest(archive) as digest:
            config, metadata, notes = _documents(archive, limits)
            hazards = (*config_hazards(config, CONFIG), *pickle_hazards(archive, limits))
            if WEIGHTS not in archive.names:
                notes = (*notes, f"the archive holds no {WEIGHTS}: values of weights are not known")

            library = ""
            scaled: bool | None = None

            def weights(root: LayerConfig) -> Mapping[str, tuple[Weight, ...]]:
                nonlocal library, scaled
                if WEIGHTS not in archive.names:
                    return {}
                tree = _tree(archive, stamp, limits, named=False)
                library = tree.library
                scaled = _scaled(tree)
                found = assign_variables(root, read_variables(tree))
                if not any(without_weights(root, found)):
                    return found
                # The noted names are read only where classes alone do not lead to the variables.
                tree = _tree(archive, stamp, limits, named=True)
                return assign_variables(root, read_variables(tree))

            with keeping(hazards):
                graph = graph_from_config(
                    config,
                    format="keras",
                    writer=keras_writer(metadata.get("keras_version")),
                    weights=weights,
                    notes=notes,
                    limits=limits,
                )
            if graph.compile is not None and scaled is not None:
                graph = replace(graph, compile=with_loss_scaling(graph.compile, scaled))
            with keeping(hazards):
                sha256 = digest.hex()
        return ModelFile(path=path, sha256=sha256, graph=graph, hazards=hazards, hdf5=library)


def _scaled(tree: Hdf5Tree) -> bool | None:
    """Whether the optimizer's state is that of one that scales the loss; None without a state.

    Keras 3 wraps the optimizer when a model of mixed precision is compiled, and writes the
    configuration as it was given: only the state shows it.
    """
    if tree.root.find(f"{OPTIMIZER}/vars") is None:
        return None
    return tree.root.find(f"{OPTIMIZER}/inner_optimizer") is not None


def _digest(archive: Archive) -> Digest:
    return Digest(archive.path, archive.checksum(WEIGHTS) if WEIGHTS in archive.names else None)


def _documents(archive: Archive, limits: Limits) -> tuple[Any, Mapping[str, Any], tuple[str, ...]]:
    names = archive.names
    if CONFIG not in names:
        line = archive_line(names)
        if line is not None:
            raise UnreadableModel(line)
        held = ", ".join(summary(name) for name in names[:3]) or "nothing"
        raise UnreadableModel(
            f"a zip archive, but no Keras model: it holds no {CONFIG} (but {held}); "
            'save the model with model.save("model.keras")'
        )
    config = parse_json(archive.read(CONFIG, limits.json_bytes), CONFIG, limits)
    metadata: Mapping[str, Any] = {}
    if METADATA in names:
        document = archive.read(METADATA, limits.json_bytes)
        metadata = mapping(parse_json(document, METADATA, limits))
    unknown = [
        name for name in names if name not in (CONFIG, METADATA, WEIGHTS) and not _expected(name)
    ]
    notes = (f"unknown members in the archive: {summary(', '.join(unknown))}",) if unknown else ()
    return config, metadata, notes


def _expected(name: str) -> bool:
    return name.startswith((ASSETS, "model_")) or name in (
        "model.weights.npz",
        "model.weights.json",
    )


def _tree(archive: Archive, stamp: FileStamp, limits: Limits, *, named: bool) -> Hdf5Tree:
    span = archive.span(WEIGHTS)
    if span is None:
        archive.check_inflated(WEIGHTS)
    source = Hdf5Source(path=stamp.path, member=WEIGHTS, span=span)
    return read_tree(source, stamp, limits, *(["name"] if named else []))


@contextmanager
def told_with_path(path: Path) -> Iterator[None]:
    """Put the path before the line of an error on purpose; tell a vanished file as one."""
    try:
        yield
    except GebAuditError as error:
        if str(error).startswith(f"{path}:"):
            raise
        if isinstance(error, UnsafeModel):
            line = f"{path}: {error}"
            raise UnsafeModel(line, hazards=error.hazards, detail=error.detail) from error
        raise type(error)(f"{path}: {error}", detail=error.detail) from error
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror or error}") from error
