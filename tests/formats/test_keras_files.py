"""Containers: what is damaged, hostile or of another kind is told in one line and not opened."""

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.formats.read import read_model
from auditor.formats.stored_tensor import FileTensor, Hdf5Tensor

KERNEL = np.arange(12, dtype="float32").reshape(4, 3)
BIAS = np.array([1, 2, 3], dtype="float32")
DENSE = {"name": "wide", "units": 3, "batch_input_shape": [None, 4], "trainable": True}
CONFIG = {
    "class_name": "Sequential",
    "module": "keras",
    "config": {
        "name": "m",
        "layers": [{"class_name": "Dense", "module": "keras.layers", "config": DENSE}],
    },
}


def weights(fill: Callable[[h5py.Group], None] | None = None, **options: Any) -> bytes:
    """The bytes of a model.weights.h5; `fill` puts other variables into the layer's group."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "wide"
        if fill is None:
            group.create_dataset("0", data=KERNEL, **options)
            group.create_dataset("1", data=BIAS, **options)
        else:
            fill(group)
    return stream.getvalue()


def archive(
    path: Path,
    members: dict[str, bytes | str] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A `.keras` file of a small model, with members of its own or others."""
    own: dict[str, bytes | str] = {
        "metadata.json": '{"keras_version": "3.15.1"}',
        "config.json": json.dumps(CONFIG),
        "model.weights.h5": weights(),
    }
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in {**own, **(members or {})}.items():
            file.writestr(name, data)
    return path


def legacy(path: Path, fill: Callable[[h5py.Group], None] | None = None) -> Path:
    """A whole-model HDF5 file as Keras 2 wrote it."""
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [
        {"class_name": "Dense", "config": DENSE}]}}  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.11.0"
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"wide"])
        layer = group.create_group("wide")
        layer.attrs["weight_names"] = np.array([b"wide/kernel:0", b"wide/bias:0"])
        if fill is None:
            layer["wide/kernel:0"], layer["wide/bias:0"] = KERNEL, BIAS
        else:
            fill(layer)
    return path


def check_values(path: Path, reader: type) -> None:
    graph = read_model(path).graph
    kernel, bias = graph.calls[1].weights
    assert isinstance(kernel.read, reader)
    # Readers go to the probe's process and back.
    for weight, values in ((kernel, KERNEL), (bias, BIAS)):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(weight.read))(), values)  # noqa: S301
    assert (kernel.role, kernel.fan_in, kernel.fan_out, kernel.unit_axes) == ("kernel", 4, 3, (1,))


def test_stored_weights_are_read_in_place(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras")
    check_values(path, FileTensor)
    assert read_model(path).graph.writer == "keras 3.15.1"


def test_compressed_archives_and_datasets(tmp_path: Path) -> None:
    check_values(archive(tmp_path / "m.keras", compression=zipfile.ZIP_DEFLATED), Hdf5Tensor)
    packed = {"model.weights.h5": weights(chunks=True, compression="gzip")}
    check_values(archive(tmp_path / "n.keras", packed), Hdf5Tensor)


def test_keras_2_file(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5")
    check_values(path, FileTensor)
    graph = read_model(path).graph
    assert (graph.format, graph.writer) == ("keras-h5", "keras 2.11.0")


def test_names_of_layers_may_hold_slashes(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][0]["config"]["name"] = "block/wide"
        file.attrs["model_config"] = json.dumps(config)
        file["model_weights"].attrs["layer_names"] = np.array([b"block/wide"])
        file.move("model_weights/wide", "model_weights/block/wide")
    graph = read_model(path).graph
    assert graph.parameters == 15
    assert read_model(path).hazards == ()


def test_order_of_legacy_weights_is_trainable_first(tmp_path: Path) -> None:
    """Nested models are kept flattened; frozen layers come after all that train."""
    norm = {"class_name": "BatchNormalization", "config": {"name": "bn"}}
    dense = {"class_name": "Dense", "config": {**DENSE, "name": "d"}}
    inner = {"class_name": "Sequential", "config": {"name": "in", "layers": [dense, norm]}}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [inner]}}
    path = tmp_path / "m.h5"
    values = [KERNEL, BIAS, BIAS * 2, BIAS * 3, BIAS * 4, BIAS * 5]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"in"])
        layer = group.create_group("in")
        names = ["d/kernel:0", "d/bias:0", "bn/gamma:0", "bn/beta:0", "bn/mean:0", "bn/var:0"]
        layer.attrs["weight_names"] = np.array([name.encode() for name in names])
        for name, value in zip(names, values, strict=True):
            layer[name] = value
    calls = read_model(path).graph.by_id
    roles = [(weight.role, weight.trainable) for weight in calls["in/bn"].weights]
    fixed = [("moving_mean", False), ("moving_variance", False)]
    assert roles == [("gamma", True), ("beta", True), *fixed]
    moving = calls["in/bn"].weight("moving_mean")
    assert moving is not None
    assert moving.read is not None
    np.testing.assert_array_equal(moving.read(), BIAS * 4)


def test_values_of_a_changed_or_vanished_file_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras")
    read = read_model(path).graph.calls[1].weights[0].read
    assert read is not None
    with path.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(UnreadableModel, match="changed"):
        read()
    path.unlink()
    with pytest.raises(UnreadableModel, match="gone"):
        read()


def refused(path: Path, line: str, kind: type[Exception] = UnreadableModel) -> None:
    with pytest.raises(kind, match=line) as error:
        read_model(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_every_truncation_is_told(tmp_path: Path, suffix: str) -> None:
    make = archive if suffix == ".keras" else legacy
    whole = make(tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"m{suffix}"
    for part in range(1, 10):
        path.write_bytes(whole[: len(whole) * part // 10])
        refused(path, "truncated or damaged")


def test_flipped_bytes_are_read_or_told(tmp_path: Path) -> None:
    """In all that is parsed here; within the HDF5 member the native library has the word."""
    whole = archive(tmp_path / "whole.keras").read_bytes()
    start = whole.index(weights()[:64])
    outside = [i for i in range(4, len(whole)) if not start <= i < start + len(weights())]
    path = tmp_path / "m.keras"
    generator = np.random.default_rng(0)
    told: list[str] = []
    for _ in range(500):
        damaged = bytearray(whole)
        for place in generator.choice(outside, size=3):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read_model(path)
        except UnreadableModel as error:
            told.append(str(error))
    assert len(told) > 100
    assert [line for line in told if "\n" in line] == []


@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_a_flipped_bit_of_a_weight_is_told(tmp_path: Path, place: float) -> None:
    """Loading checks the archive's checksums, so what passes here must not fail there."""
    path = archive(tmp_path / "m.keras")
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(KERNEL.tobytes()) + int(place * KERNEL.nbytes)] ^= 1
    path.write_bytes(damaged)
    refused(path, "model.weights.h5 is damaged: its bytes are not those that were written")


def test_attributes_of_odd_types_are_not_read(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = np.array([1.0, 2.0])
        file["model_weights/wide"].attrs["weight_names"] = np.array([], "f8")
    graph = read_model(path).graph
    assert (graph.writer, graph.parameters) == ("keras", 0)


def test_layers_saved_under_another_class_are_found_by_name(tmp_path: Path) -> None:
    stream = io.BytesIO(weights())
    with h5py.File(stream, "a") as file:
        file.move("layers/dense", "layers/my_own_dense")
    path = archive(tmp_path / "m.keras", {"model.weights.h5": stream.getvalue()})
    assert read_model(path).graph.parameters == 15


def test_other_zip_archives(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "x")
    refused(path, "no Keras model.*word/document.xml")
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    refused(path, "no Keras model.*nothing")


def test_other_text(tmp_path: Path) -> None:
    refused(archive(tmp_path / "a.keras", {"config.json": "{"}), "config.json is not valid JSON")
    refused(archive(tmp_path / "b.keras", {"config.json": b"\xff\xfe"}), "not valid JSON")
    refused(archive(tmp_path / "c.keras", {"config.json": "9" * 10_000}), "not valid JSON")
    refused(archive(tmp_path / "d.keras", {"config.json": "3"}), "not that of a Keras model")


def test_weights_only_files(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    path.write_bytes(weights())
    refused(path, r'weights only.*model.save\("model.keras"\)')
    old = tmp_path / "old.h5"
    with h5py.File(old, "w") as file:
        file.attrs["layer_names"] = np.array([b"wide"])
    refused(old, "weights only")


def test_other_hdf5_files(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["x"] = KERNEL
    refused(path, "no Keras model: it has no model_config")


def test_encrypted_members(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras")
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")
    flags = struct.unpack_from("<H", data, place + 8)[0]
    struct.pack_into("<H", data, place + 8, flags | 1)
    path.write_bytes(data)
    refused(path, "encrypted")


@pytest.mark.parametrize(
    "name",
    ["/etc/cron.d/x", "../x", "assets/../../x", "..\\x", "\\x", "C:/x", "C:\\x", "a\0b"],
)
def test_members_that_lead_out_of_the_archive(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.keras"
    # zipfile would tidy the name up, so a harmless one of its length is replaced in the bytes.
    archive(path, {"n" * len(name): b"x"})
    path.write_bytes(path.read_bytes().replace(b"n" * len(name), name.encode()))
    refused(path, "GEB903", UnsafeModel)


def test_members_that_do_not_lead_out(tmp_path: Path) -> None:
    graph = read_model(archive(tmp_path / "m.keras", {"assets/a..b/c": b"", "odd": b""})).graph
    assert graph.notes == ("unknown members in the archive: odd",)


def test_symbolic_links(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras")
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    refused(path, "symbolic link.*GEB903", UnsafeModel)


def test_duplicate_members(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("config.json", "{}")
    refused(path, "config.json.*GEB906", UnsafeModel)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "assets/x"])
def test_zip_bombs(tmp_path: Path, name: str) -> None:
    bomb = {name: bytes(32 * 2**20)}
    path = archive(tmp_path / "m.keras", bomb, compression=zipfile.ZIP_DEFLATED)
    refused(path, "GEB905", UnsafeModel)


def test_too_many_members(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras")
    with pytest.raises(UnsafeModel, match=r"3 members.*GEB905"):
        read_model(path, replace(DEFAULT_LIMITS, members=2))


def test_deep_json(tmp_path: Path) -> None:
    for depth in (500, 200_000):
        deep = '{"a":' * depth + "1" + "}" * depth
        path = archive(tmp_path / "m.keras", {"config.json": deep})
        refused(path, "GEB909", UnsafeModel)


def _external(group: h5py.Group) -> None:
    group.create_dataset("0", (4, 3), "f4", external=[("/etc/passwd", 0, 48)])


def _virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4, 3))  # noqa: S108 - never opened
    group.create_virtual_dataset("0", layout)


def _external_link(group: h5py.Group) -> None:
    group["0"] = h5py.ExternalLink("/tmp/other.h5", "/x")  # noqa: S108 - never opened


def _soft_link(group: h5py.Group) -> None:
    group["0"] = h5py.SoftLink("/layers")


def _shape_bomb(group: h5py.Group) -> None:
    group.create_dataset("0", (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")


LINKED = {
    _external: "GEB904",
    _virtual: "virtual.*GEB904",
    _external_link: "external link.*GEB904",
    _soft_link: "soft link.*GEB904",
    _shape_bomb: "declares.*GEB905",
}


@pytest.mark.parametrize("fill", LINKED)
def test_hdf5_that_leads_elsewhere(tmp_path: Path, fill: Callable[[h5py.Group], None]) -> None:
    path = archive(tmp_path / "m.keras", {"model.weights.h5": weights(fill)})
    refused(path, LINKED[fill], UnsafeModel)

    def legacy_fill(group: h5py.Group) -> None:
        fill(group.create_group("wide"))
        group.attrs["weight_names"] = np.array([b"wide/0"])

    refused(legacy(tmp_path / "m.h5", legacy_fill), LINKED[fill], UnsafeModel)


def test_linked_groups(tmp_path: Path) -> None:
    path = legacy(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        file.move("model_weights", "elsewhere")
        file["model_weights"] = h5py.SoftLink("/elsewhere")
    refused(path, "GEB904", UnsafeModel)


def test_groups_that_hold_themselves(tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        group.parent["inner"] = group.parent

    path = archive(tmp_path / "m.keras", {"model.weights.h5": weights(fill)})
    refused(path, "holds itself.*GEB909", UnsafeModel)


def test_weights_of_other_shapes_are_kept_without_a_role(tmp_path: Path) -> None:
    def fill(group: h5py.Group) -> None:
        group["0"], group["1"] = np.zeros((2, 2, 2), "f4"), BIAS

    path = archive(tmp_path / "m.keras", {"model.weights.h5": weights(fill)})
    assert [(w.role, w.shape) for w in read_model(path).graph.calls[1].weights] == [
        ("other", (2, 2, 2)),
        ("bias", (3,)),
    ]


def test_an_archive_without_weights_is_read_as_architecture(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(CONFIG))
    graph = read_model(path).graph
    assert graph.parameters == 0
    assert "no model.weights.h5" in graph.notes[0]
