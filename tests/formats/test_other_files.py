"""What is no model file is told for what it is, with what to save instead, in one line."""

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from auditor.cli import main
from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.read import read_model

RELEASES = Path(__file__).parent.parent / "data" / "keras"
SAVE = 'model.save("model.keras")'


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(3))
    return stream.getvalue()


class Command:
    """Runs the command line in this process, and keeps what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, path: Path) -> tuple[int, str]:
        self._monkeypatch.setattr(sys, "argv", ["geb-audit", str(path), "--no-probe", "--no-html"])
        with pytest.raises(SystemExit) as done:
            main()
        said = self._capsys.readouterr()
        assert isinstance(done.value.code, int)
        return done.value.code, " ".join((said.out + said.err).split())


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


SAFETENSORS = (60).to_bytes(8, "little") + b'{"w": {"dtype": "F32", "shape": [1], '
TORCH = zipped("model/data.pkl", "model/version", "model/data/0")
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
#: Name, bytes, and what the line has to say: what it is, and what to do.
FILES: list[tuple[str, bytes, str, str]] = [
    ("saved_model.pb", b"\x08\x01\x12\x80", "a TensorFlow graph", SAVE),
    ("frozen.pb", b"\x0a\x33\x0a\x05input", "a TensorFlow graph", ".onnx"),
    ("m.tflite", b"\x1c\x00\x00\x00TFL3\x14\x00", "a TensorFlow Lite model", "converted from"),
    ("m.bin", b"\x1c\x00\x00\x00TFL3\x14\x00", "a TensorFlow Lite model", "converted from"),
    ("m.ort", b"\x1c\x00\x00\x00ORTM\x14\x00", "ONNX Runtime", ".onnx"),
    ("m.pt", TORCH, "a PyTorch checkpoint", "torch.onnx.export"),
    ("m.keras", TORCH, "a PyTorch checkpoint", "torch.onnx.export"),
    ("m.pth", OLD_TORCH, "a PyTorch checkpoint", "torch.onnx.export"),
    ("pytorch_model.bin", pickle.dumps({"w": 1}), "a PyTorch checkpoint", "torch.onnx.export"),
    ("m.pkl", pickle.dumps([1, 2]), "a Python pickle", SAVE),
    ("m.h5", pickle.dumps([1, 2]), "a Python pickle", SAVE),
    ("m.joblib", b"\x00", "a Python pickle", SAVE),
    ("m.safetensors", SAFETENSORS, "weights only", SAVE),
    ("m.gguf", b"GGUF\x03\x00\x00\x00", "a GGUF model", "converted from"),
    ("x.npy", b"\x93NUMPY\x01\x00", "NumPy arrays", "--data"),
    ("x.npz", arrays(), "NumPy arrays", "--data"),
    ("cp.ckpt.index", b"\x00\x00", "a TensorFlow checkpoint", SAVE),
    ("cp.ckpt.data-00000-of-00001", b"\x00\x00", "a TensorFlow checkpoint", SAVE),
    ("checkpoint", b'model_checkpoint_path: "cp"', "a TensorFlow checkpoint", SAVE),
    ("model.json", b'{"class_name": "Sequential", "config": {}}', "architecture", SAVE),
    ("model.yaml", b"class_name: Sequential", "architecture", SAVE),
    ("m.weights.json", b'{"weight_map": {}}', "weights kept in several files", SAVE),
    ("model.safetensors.index.json", b'{"weight_map": {}}', "weights kept in several", SAVE),
    ("model.json", b'{"format": "x", "modelTopology": {}}', "a TensorFlow.js model", SAVE),
    ("numbers.json", b"[1, 2]", "a JSON file", SAVE),
    ("m.keras.gz", b"\x1f\x8b\x08\x00", "a compressed archive", "unpack it"),
    ("model.zip", zipped("a/model.keras"), "around model files", "unpack it"),
    ("model.zip", zipped("m/saved_model.pb", "m/variables/x"), "a SavedModel folder", SAVE),
    ("model.zip", zipped("notes.txt"), "no Keras model", SAVE),
    ("m.onnx.data", b"\x00", "external data", ".onnx"),
    ("m.keras", b"<!DOCTYPE html><html>", "an HTML page", "download"),
    ("m.keras", b"", "empty", "save the model again"),
    ("m.txt", b"hello", "not a kind of model file", ".keras"),
]


@pytest.mark.parametrize(("name", "data", "what", "instead"), FILES, ids=lambda v: str(v)[:20])
def test_one_line_and_exit_code_3(
    tmp_path: Path, command: Command, name: str, data: bytes, what: str, instead: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UnreadableModel) as caught:
        read_model(path)
    assert not isinstance(caught.value, UnsafeModel)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert what in line
    assert instead in line
    assert "\n" not in line
    code, said = command(path)
    assert code == 3
    assert what in said
    assert "Traceback" not in said
    assert path.read_bytes() == data


def saved_model(folder: Path) -> None:
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    (folder / "keras_metadata.pb").write_bytes(b"")


def checkpoints(folder: Path) -> None:
    (folder / "checkpoint").write_text('model_checkpoint_path: "cp"')
    (folder / "cp.index").write_bytes(b"")


def unpacked(folder: Path) -> None:
    with zipfile.ZipFile(RELEASES / "keras-3.1.1" / "mlp.keras") as archive:
        archive.extractall(folder)


FOLDERS: list[tuple[Callable[[Path], None], str]] = [
    (saved_model, "a SavedModel folder"),
    (checkpoints, "TensorFlow checkpoints"),
    (unpacked, "an unpacked .keras file"),
]


@pytest.mark.parametrize(("fill", "what"), FOLDERS)
def test_folders(tmp_path: Path, command: Command, fill: Callable[[Path], None], what: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    fill(folder)
    with pytest.raises(UnreadableModel, match=what) as caught:
        read_model(folder)
    assert SAVE in str(caught.value)
    code, said = command(folder)
    assert code == 3
    assert what in said


def test_a_folder_of_checkpoints_with_a_model_is_a_folder_of_models(
    tmp_path: Path, command: Command
) -> None:
    checkpoints(tmp_path)
    (tmp_path / "m.keras").write_bytes((RELEASES / "keras-3.1.1" / "mlp.keras").read_bytes())
    code, said = command(tmp_path)
    assert code == 0, said


def of_keras_3(path: Path, release: str) -> None:
    with zipfile.ZipFile(RELEASES / release / "mlp.keras") as archive:
        path.write_bytes(archive.read("model.weights.h5"))


def of_keras_2(path: Path) -> None:
    """What `save_weights` writes: the group of a whole model's weights, as the file itself."""
    with h5py.File(RELEASES / "keras-2.3.1" / "mlp.h5") as whole, h5py.File(path, "w") as file:
        group = whole["model_weights"]
        for name, value in group.attrs.items():
            file.attrs[name] = value
        for name in group:
            whole.copy(group[name], file, name)


def a_shard(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((2, 2))


WEIGHTS: list[Callable[[Path], None]] = [
    *(
        lambda path, release=release: of_keras_3(path, release)  # type: ignore[misc]
        for release in ("tensorflow-2.13.1", "keras-3.0.5", "keras-3.9.2", "keras-3.15.1")
    ),
    of_keras_2,
    a_shard,
]


@pytest.mark.parametrize("write", WEIGHTS)
@pytest.mark.parametrize("name", ["m.weights.h5", "m_00000.weights.h5", "m.h5"])
def test_weights_of_every_era(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(UnreadableModel, match="weights only") as caught:
        read_model(path)
    assert SAVE in str(caught.value)


def test_the_name_does_not_matter_where_the_bytes_say(tmp_path: Path) -> None:
    archive = tmp_path / "renamed.zip"
    archive.write_bytes((RELEASES / "keras-3.15.1" / "mlp.keras").read_bytes())
    assert read_model(archive).graph.format == "keras"
    # Keras 2.0 to 2.12 wrote HDF5 under this name unless told otherwise.
    legacy = tmp_path / "legacy.keras"
    legacy.write_bytes((RELEASES / "keras-2.3.1" / "mlp.h5").read_bytes())
    assert read_model(legacy).graph.format == "keras-h5"


def test_json_of_any_size_is_glanced_at_only(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Sequential", "config": {"name": "x" * 10**6}}))
    with pytest.raises(UnreadableModel, match="architecture"):
        read_model(path)
