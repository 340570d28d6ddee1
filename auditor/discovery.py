"""Finding model files: what a user names, files as they are and folders by their suffixes."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import UnreadableModel
from auditor.formats import MODEL_SUFFIXES
from auditor.formats.other_files import saved_folder_line

#: Keras' suffix for weights without a model: never a model of its own, so folders pass it over.
WEIGHTS_ONLY = ".weights.h5"


def model_files(path: Path) -> tuple[Path, ...]:
    """`path` itself, or the model files in the folder `path` and below, sorted.

    A SavedModel folder stays a folder, and so does any other that is one saved thing and holds no
    model file: for the reader to say what to save instead. Raises `UnreadableModel` for a folder
    without models, or a path that cannot be looked up.
    """
    try:
        return _model_files(path)
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        told = getattr(error, "strerror", None) or error
        raise UnreadableModel(f"{path}: cannot be read: {told}") from error


def _model_files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir() or (path / "saved_model.pb").exists():
        return (path,)
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in MODEL_SUFFIXES
        and not file.name.lower().endswith(WEIGHTS_ONLY)
        and file.is_file()
    )
    if not found and saved_folder_line(path) is not None:
        return (path,)
    if not found:
        kinds = ", ".join(MODEL_SUFFIXES)
        raise UnreadableModel(f"{path}: no model file ({kinds}) in this folder or below")
    return tuple(found)
