"""What a file is that geb-audit does not read, and what to save or convert instead.

Told from the first bytes where a format has a mark, else from the name; nothing of it is opened
any further, and least of all unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

SAVE_KERAS = 'model.save("model.keras")'
#: As much of a text file as is looked at.
GLANCE = 2**16

_TORCH = "a PyTorch checkpoint; export the model with torch.onnx.export and audit the .onnx file"
_PICKLE = (
    "a Python pickle, which is code that runs when it is loaded, and so is not opened; "
    f"save the model with {SAVE_KERAS} or as .onnx"
)
_CHECKPOINT = (
    "part of a TensorFlow checkpoint, which holds weights only; load it into the model and save "
    f"the whole with {SAVE_KERAS}"
)
_COMPRESSED = "a compressed archive; unpack it and give the model file inside"
_GRAPH = (
    "a TensorFlow graph, which tells no layers; save the Keras model it came from with "
    f"{SAVE_KERAS}, or convert it to .onnx with tf2onnx"
)
_TFLITE = (
    "a TensorFlow Lite model, made for inference only; audit the Keras model it was converted from"
)
_FLAT_ONNX = "an ONNX Runtime model in its own format; audit the .onnx file it was made from"
_GGUF = "a GGUF model, weights packed for inference; audit the model it was converted from"
_HTML = "an HTML page, perhaps of a download that failed; download the model again"
_SAFETENSORS = (
    "a safetensors file, which holds weights only; save the whole model with "
    f"{SAVE_KERAS}, or export it to .onnx"
)
_ARRAYS = "NumPy arrays, not a model; as data of an audit they go to --data"

#: Marks at the beginning of a file.
_BEGINNINGS: Mapping[bytes, str] = {
    b"GGUF": _GGUF,
    b"\x93NUMPY": _ARRAYS,
    b"\x1f\x8b": _COMPRESSED,
    b"BZh": _COMPRESSED,
    b"\xfd7zXZ\x00": _COMPRESSED,
    b"7z\xbc\xaf\x27\x1c": _COMPRESSED,
    b"\x28\xb5\x2f\xfd": _COMPRESSED,
    # The number that torch began its files with before they were zip archives.
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": _TORCH,
}
#: Marks of FlatBuffers, which stand after four bytes.
_FLAT: Mapping[bytes, str] = {b"TFL3": _TFLITE, b"ORTM": _FLAT_ONNX}
_SUFFIXES: Mapping[str, str] = {
    ".pb": f"{_GRAPH}; if it is ONNX, name it .onnx",
    ".pbtxt": _GRAPH,
    ".tflite": _TFLITE,
    ".ort": _FLAT_ONNX,
    ".safetensors": _SAFETENSORS,
    **dict.fromkeys((".pt", ".pth", ".bin"), _TORCH),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".index", ".ckpt"), _CHECKPOINT),
    **dict.fromkeys((".npy", ".npz"), _ARRAYS),
    ".tar": _COMPRESSED,
}
_CHECKPOINT_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")
#: The first byte of a pickle, and the protocols that have one.
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def saved_folder_line(path: Path) -> str | None:
    """What a folder is that was saved as one model, and what to give instead; None for others."""
    if any((path / name).exists() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return f"a SavedModel folder; save the model whole instead, with {SAVE_KERAS}"
    if (path / "config.json").exists() and (path / "model.weights.h5").exists():
        return f"an unpacked .keras file; save the model as one file, with {SAVE_KERAS}"
    if (path / "checkpoint").is_file():
        return (
            "a folder of TensorFlow checkpoints, which hold weights only; load one into the model "
            f"and save the whole with {SAVE_KERAS}"
        )
    return None


def file_line(path: Path, head: bytes) -> str | None:
    """What a file is that begins with `head`, and what to give instead; None for the unknown."""
    for mark, line in _BEGINNINGS.items():
        if head.startswith(mark):
            return line
    if head[4:8] in _FLAT:
        return _FLAT[head[4:8]]
    name, suffix = path.name.lower(), path.suffix.lower()
    if head.startswith(_PICKLES) and suffix != ".onnx":
        return _TORCH if _SUFFIXES.get(suffix) is _TORCH else _PICKLE
    beginning = head.lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        return _HTML
    if beginning.startswith((b"{", b"[")) and suffix != ".onnx":
        return _json_line(path)
    if suffix in (".yaml", ".yml"):
        return _architecture("to_yaml")
    if name == "checkpoint" or _CHECKPOINT_DATA.search(name):
        return _CHECKPOINT
    if name.endswith((".onnx_data", ".onnx.data")):
        return "the external data of an ONNX model; give the .onnx file beside it"
    return _SUFFIXES.get(suffix)


def archive_line(names: tuple[str, ...]) -> str | None:
    """What a zip archive is that holds no Keras model, by its members; None for the unknown."""
    if any(name.rsplit("/", 1)[-1] in ("data.pkl", "constants.pkl") for name in names):
        return _TORCH
    if names and all(name.endswith(".npy") for name in names):
        return _ARRAYS
    if any(name.rsplit("/", 1)[-1] == "saved_model.pb" for name in names):
        return f"a zip archive of a SavedModel folder; save the model with {SAVE_KERAS}"
    models = [name for name in names if name.lower().endswith((".keras", ".h5", ".hdf5", ".onnx"))]
    if models and "model.weights.h5" not in names:
        return "a zip archive around model files; unpack it and give the files inside"
    return None


def _json_line(path: Path) -> str:
    """What a JSON file is, by words that its kinds have."""
    try:
        with path.open("rb") as stream:
            glance = stream.read(GLANCE)
    except OSError:
        glance = b""
    if path.name.lower().endswith(".weights.json") or b'"weight_map"' in glance:
        return (
            "the index of weights kept in several files, not the model; save it whole with "
            f"{SAVE_KERAS}"
        )
    if b'"modelTopology"' in glance or b'"layers-model"' in glance:
        return f"a TensorFlow.js model; save the Keras model it came from with {SAVE_KERAS}"
    if b'"class_name"' in glance and b'"config"' in glance:
        return _architecture("to_json")
    return f"a JSON file, not a model; save the model with {SAVE_KERAS}"


def _architecture(method: str) -> str:
    return (
        f"a model's architecture without its weights (model.{method}()); save it whole with "
        f"{SAVE_KERAS}"
    )
