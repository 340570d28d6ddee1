"""Which reader reads a file: decided by its first bytes, never by its name alone.

Keras and ONNX decide by the name. A file that is one kind of model by its bytes and another by its
name would be audited as the one and loaded as the other, and is not audited at all.
"""

from __future__ import annotations

from pathlib import Path

from auditor.errors import UnreadableModel
from auditor.formats.limits import DEFAULT_LIMITS, Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.other_files import file_line, saved_folder_line
from auditor.formats.plain_file import other_kind
from auditor.formats.refusal import refusal

#: Suffixes a folder is searched for.
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5", ".onnx")

ZIP_MAGIC = b"PK\x03\x04"
EMPTY_ZIP_MAGIC = b"PK\x05\x06"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
#: The end of a zip archive's listing, with the longest comment after it.
LONGEST_ZIP_END = 22 + 2**16 - 1
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
    _check_name(path, head)
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


def _check_name(path: Path, head: bytes) -> None:
    """Refuse a file that holds, besides the model its bytes begin with, one of its name's kind."""
    suffix = path.suffix.lower()
    zipped, hdf5 = head.startswith((ZIP_MAGIC, EMPTY_ZIP_MAGIC)), head.startswith(HDF5_MAGIC)
    if suffix == ".onnx" and (zipped or hdf5):
        kind = "a zip archive" if zipped else "an HDF5 file"
        raise UnreadableModel(f"{path}: {kind} by its first bytes, and ONNX by its name; rename it")
    second = ""
    if suffix == ".keras" and not zipped and _ends_as_zip(path):
        second = "a zip archive"
    if suffix in (".h5", ".hdf5") and not hdf5 and _is_hdf5_further_in(path):
        second = "an HDF5 file"
    if second:
        raise refusal(
            "GEB906",
            "the file",
            f"it begins as one kind of file and holds {second} further in, which is what Keras "
            "loads by its name",
            file=str(path),
        )


def _ends_as_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LONGEST_ZIP_END))
        return EMPTY_ZIP_MAGIC in stream.read(LONGEST_ZIP_END)


def _is_hdf5_further_in(path: Path) -> bool:
    """Whether an HDF5 file begins behind a block of the user's: at 512 bytes, or a doubling."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        offset = 512
        while offset < size:
            stream.seek(offset)
            if stream.read(len(HDF5_MAGIC)) == HDF5_MAGIC:
                return True
            offset *= 2
    return False


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            line = saved_folder_line(path) or "a folder, not a model file"
            raise UnreadableModel(f"{path}: {line}")
        if kind := other_kind(path):
            raise UnreadableModel(f"{path}: {kind}, not a model file; copy the model into a file")
        with path.open("rb") as stream:
            return stream.read(64)
    except FileNotFoundError:
        raise UnreadableModel(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        told = getattr(error, "strerror", None) or error
        raise UnreadableModel(f"{path}: cannot be read: {told}") from error


def _not_a_model(path: Path, head: bytes) -> str:
    suffix = path.suffix.lower()
    if not head:
        return f"{path}: the file is empty; save the model again"
    line = file_line(path, head)
    if line is not None:
        return f"{path}: {line}"
    if suffix == ".keras":
        return f"{path}: not a Keras model: a .keras file is a zip archive, this is not one"
    if suffix in (".h5", ".hdf5"):
        return f"{path}: not an HDF5 file, whatever its name; save the model again"
    known = ", ".join(MODEL_SUFFIXES)
    return f"{path}: not a kind of model file that geb-audit reads ({known})"
