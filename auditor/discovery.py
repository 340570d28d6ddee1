"""Finding model files: what a user names, files as they are and folders by their suffixes."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import UnreadableModel
from auditor.formats import MODEL_SUFFIXES

#: Keras' suffix for weights without a model: never a model of its own, so folders pass it over.
WEIGHTS_ONLY = ".weights.h5"


def model_files(path: Path) -> tuple[Path, ...]:
    """`path` itself, or the model files in the folder `path` and below, sorted.

    A SavedModel folder stays a folder, for its reader to say what to save instead. Raises
    `UnreadableModel` for a folder without models.
    """
    if not path.is_dir() or (path / "saved_model.pb").exists():
        return (path,)
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in MODEL_SUFFIXES
        and not file.name.lower().endswith(WEIGHTS_ONLY)
        and file.is_file()
    )
    if not found:
        kinds = ", ".join(MODEL_SUFFIXES)
        raise UnreadableModel(f"{path}: no model file ({kinds}) in this folder or below")
    return tuple(found)
