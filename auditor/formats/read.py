"""Which reader reads a file: decided by its first bytes, never by its name alone."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import UnreadableModel
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.model_file import ModelFile

#: Suffixes a folder is searched for.
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5", ".onnx")

ZIP_MAGIC = b"PK\x03\x04"
EMPTY_ZIP_MAGIC = b"PK\x05\x06"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
LFS_MAGIC = b"version https://git-lfs.github.com/spec/"


def read_model(path: Path, limits: Limits = DEFAULT_LIMITS) -> ModelFile:
    """Read a `.keras`, `.h5`/`.hdf5` or `.onnx` file.

    Raises `UnreadableModel` (`UnsafeModel` where the container itself is hostile).
    """
    head = _head(path)
    if head.startswith(LFS_MAGIC):
        raise UnreadableModel(
            f"{path}: a Git LFS pointer, not the model itself; fetch it with `git lfs pull`"
        )
    if head.startswith((ZIP_MAGIC, EMPTY_ZIP_MAGIC)):
        from auditor.formats.keras_zip import read_keras_zip

        return read_keras_zip(path, limits)
    if head.startswith(HDF5_MAGIC):
        from auditor.formats.keras_h5 import read_keras_h5

        return read_keras_h5(path, limits)
    if path.suffix.lower() == ".onnx":
        from auditor.formats.onnx_file import read_onnx

        return read_onnx(path, limits)
    raise UnreadableModel(_not_a_model(path, head))


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise UnreadableModel(_folder(path))
    try:
        with path.open("rb") as stream:
            return stream.read(64)
    except FileNotFoundError:
        raise UnreadableModel(f"{path}: no such file") from None
    except OSError as error:
        raise UnreadableModel(f"{path}: cannot be read: {error.strerror}") from error


def _folder(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return (
            f"{path}: a SavedModel folder; save the model whole instead, "
            'with `model.save("model.keras")`'
        )
    return f"{path}: a folder, not a model file"


def _not_a_model(path: Path, head: bytes) -> str:
    suffix = path.suffix.lower()
    if not head:
        return f"{path}: the file is empty; save the model again"
    if suffix == ".keras":
        return f"{path}: not a Keras model: a .keras file is a zip archive, this is not one"
    if suffix in (".h5", ".hdf5"):
        return f"{path}: not an HDF5 file, whatever its name; save the model again"
    known = ", ".join(MODEL_SUFFIXES)
    return f"{path}: not a kind of model file that geb-audit reads ({known})"
