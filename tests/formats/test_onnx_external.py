"""External data: read within the model's folder, on demand; anything else is a hazard."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import Maker, value

from auditor.errors import UnreadableModel
from auditor.finding import Severity
from auditor.formats.limits import Limits
from auditor.formats.model_file import ModelFile
from auditor.formats.onnx_file import read_onnx, read_onnx_proto
from auditor.graph.weight import Weight

KERNEL = np.arange(32, dtype=np.float32).reshape(4, 8)


def pointing(**entries: str) -> onnx.ModelProto:
    """A model whose one kernel has these `external_data` entries."""
    maker = Maker()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=KERNEL.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, entry in entries.items():
        tensor.external_data.add(key=key, value=entry)
    maker.tensors.append(tensor)
    return maker.model([value("x", ["n", 4])], [maker.node("MatMul", "x", "w", name="fc")])


def read(folder: Path, **entries: str) -> tuple[ModelFile, Weight]:
    path = folder / "model.onnx"
    path.write_bytes(pointing(**entries).SerializeToString())
    file = read_onnx(path, Limits())
    return file, file.graph.by_id["fc"].weights[0]


def test_values_are_read_on_demand(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(b"12345678" + KERNEL.tobytes())
    file, weight = read(tmp_path, location="data/w.bin", offset="8", length="128")
    assert file.hazards == ()
    assert file.graph.notes == ()
    assert weight.read is not None
    np.testing.assert_array_equal(weight.read(), KERNEL)
    (tmp_path / "data" / "w.bin").unlink()
    with pytest.raises(UnreadableModel, match="cannot be read any more"):
        weight.read()


def test_as_onnx_writes_it(tmp_path: Path) -> None:
    maker = Maker()
    model = maker.model(
        [value("x", ["n", 64])], [maker.node("MatMul", "x", maker.weight("w", 64, 64))]
    )
    wanted = onnx.numpy_helper.to_array(model.graph.initializer[0])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    file = read_onnx(tmp_path / "m.onnx", Limits())
    (weight,) = file.graph.calls[1].weights
    assert weight.read is not None
    np.testing.assert_array_equal(weight.read(), wanted)
    assert file.hazards == ()


@pytest.mark.parametrize(
    ("location", "identifier"),
    [
        ("../secret", "CVE-2024-27318"),
        ("data/../../secret", "CVE-2024-27318"),
        ("/etc/passwd", "CVE-2022-25882"),
        ("C:\\secret", "CVE-2022-25882"),
        ("c:secret", "CVE-2022-25882"),
        ("..\\secret", "CVE-2022-25882"),
        ("//host/share", "CVE-2022-25882"),
        ("", "CVE-2022-25882"),
        ("a\0b", "CVE-2022-25882"),
    ],
)
def test_a_location_outside_is_a_hazard(location: str, identifier: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(KERNEL.tobytes())
    file, weight = read(folder, location=location)
    assert weight.read is None
    (hazard,) = file.hazards
    assert (hazard.code, hazard.severity) == ("GEB903", Severity.ERROR)
    assert hazard.identifier == identifier
    assert hazard.place == "tensor 'w'"
    assert weight.shape == (4, 8)


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_on_the_way_is_a_hazard(link: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(KERNEL.tobytes())
    if link == "file":
        (folder / "w.bin").symlink_to(tmp_path / "secret")
        file, weight = read(folder, location="w.bin")
        assert "(cp -rL)" in file.hazards[0].what
    else:
        (folder / "data").symlink_to(tmp_path)
        file, weight = read(folder, location="data/secret")
    assert weight.read is None
    assert [(h.code, h.severity) for h in file.hazards] == [("GEB903", Severity.ERROR)]


def test_the_cache_of_hugging_face_is_named(tmp_path: Path) -> None:
    """Refused like any link, but the user is told what it is and what to do."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / "0123abcd").write_bytes(KERNEL.tobytes())
    folder = tmp_path / "snapshots" / "main"
    folder.mkdir(parents=True)
    (folder / "w.bin").symlink_to("../../blobs/0123abcd")
    file, weight = read(folder, location="w.bin")
    assert weight.read is None
    (hazard,) = file.hazards
    assert (hazard.code, hazard.severity) == ("GEB903", Severity.ERROR)
    assert "as Hugging Face keeps its files" in hazard.what
    assert "links resolved" in hazard.what


def test_a_folder_turned_into_a_link_after_reading_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(KERNEL.tobytes())
    _, weight = read(tmp_path, location="data/w.bin")
    (tmp_path / "data").rename(tmp_path / "moved")
    (tmp_path / "data").symlink_to(tmp_path / "moved")
    assert weight.read is not None
    with pytest.raises(UnreadableModel, match="cannot be read any more"):
        weight.read()


def test_one_file_is_looked_at_once(tmp_path: Path) -> None:
    """A file of many tensors is opened once while reading, and nothing of it is read."""
    (tmp_path / "w.bin").write_bytes(bytes(4 * 200))
    maker = Maker()
    x = "x"
    for index in range(50):
        tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[1, 1])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        tensor.external_data.add(key="offset", value=str(4 * index))
        maker.tensors.append(tensor)
        x = maker.node("MatMul", x, f"w{index}")
    path = tmp_path / "model.onnx"
    path.write_bytes(maker.model([value("x", ["n", 1])], [x]).SerializeToString())
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    read_onnx(path, Limits())
    watching = False
    assert [name for name in opened if name.endswith("w.bin")] == ["w.bin"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is not told here")
def test_four_gigabytes_in_little_memory(tmp_path: Path) -> None:
    """4 GiB of external data (a file with holes), statistics taken, within 500 MiB."""
    dims = {"big": [4096, 131072], "half": [131072, 4096], "last": [4096, 65536]}
    types = {"big": TensorProto.FLOAT, "half": TensorProto.BFLOAT16, "last": TensorProto.FLOAT}
    maker, offset = Maker(), 0
    for name, shape in dims.items():
        tensor = TensorProto(name=name, data_type=types[name], dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        length = int(np.prod(shape)) * (2 if name == "half" else 4)
        for key, entry in (("location", "w.bin"), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(entry))
        offset += length
        maker.tensors.append(tensor)
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(offset)
    assert offset == 4 * 2**30
    x = maker.node("MatMul", maker.node("MatMul", "x", "big"), "half")
    y = maker.node("MatMul", x, "last")
    path = tmp_path / "model.onnx"
    path.write_bytes(maker.model([value("x", ["n", 4096])], [y]).SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True, timeout=300
    )
    count, peak = map(int, done.stdout.split())
    assert count == 3
    assert peak < 500


#: Prints how many weights had statistics, and the peak of memory in MiB. Not by getrusage, whose
#: figure begins with what the parent had when it forked.
PEAK = """
import re, sys
from pathlib import Path
from auditor.formats.limits import Limits
from auditor.formats.onnx_file import read_onnx
graph = read_onnx(Path(sys.argv[1]), Limits()).graph
zeros = [seen.zero for seen in graph.weight_statistics.values()]
peak = re.search("VmHWM:\\\\s*([0-9]+)", Path("/proc/self/status").read_text()).group(1)
print(sum(zeros), int(peak) // 1024)
"""


def test_a_hard_link_is_a_warning(tmp_path: Path) -> None:
    """Installers link out of a cache, so this is no error; it is not read all the same."""
    (tmp_path / "first").write_bytes(KERNEL.tobytes())
    os.link(tmp_path / "first", tmp_path / "w.bin")
    file, weight = read(tmp_path, location="w.bin")
    assert weight.read is None
    assert [(h.code, h.severity) for h in file.hazards] == [("GEB903", Severity.WARNING)]


def test_a_link_put_in_place_after_reading_is_not_followed(tmp_path: Path) -> None:
    data = tmp_path / "w.bin"
    data.write_bytes(KERNEL.tobytes())
    _, weight = read(tmp_path, location="w.bin")
    data.rename(tmp_path / "moved")
    data.symlink_to(tmp_path / "moved")
    assert weight.read is not None
    with pytest.raises(UnreadableModel, match="cannot be read any more"):
        weight.read()


@pytest.mark.parametrize(
    ("entries", "identifier"),
    [
        ({"offset": "-1"}, "CVE-2024-27319"),
        ({"length": "1e3"}, "CVE-2024-27319"),
        ({"offset": "9" * 30}, "CVE-2024-27319"),
        ({"offset": "4"}, "CVE-2024-27319"),
        ({"length": "64"}, "CVE-2024-27319"),
        ({"length": "256"}, "CVE-2024-27319"),
        ({"__class__": "x"}, "CVE-2026-34445"),
        ({"data_location": "x"}, "CVE-2026-34445"),
    ],
)
def test_entries_that_do_not_fit_are_a_hazard(
    entries: dict[str, str], identifier: str, tmp_path: Path
) -> None:
    (tmp_path / "w.bin").write_bytes(KERNEL.tobytes())
    file, weight = read(tmp_path, location="w.bin", **entries)
    assert weight.read is None
    assert [(h.code, h.identifier) for h in file.hazards] == [("GEB906", identifier)]


def test_data_that_is_not_there_is_a_note(tmp_path: Path) -> None:
    file, weight = read(tmp_path, location="w.bin")
    assert weight.read is None
    assert file.hazards == ()
    assert file.graph.notes == ("w: values unavailable: its external data file 'w.bin' is missing",)


def test_a_folder_or_pipe_in_place_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "w.bin").mkdir()
    file, weight = read(tmp_path, location="w.bin")
    assert weight.read is None
    assert "not a plain file" in file.graph.notes[0]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        file, weight = read(tmp_path, location="pipe")
        assert weight.read is None


def test_a_model_in_memory_has_no_folder() -> None:
    file = read_onnx_proto(pointing(location="w.bin"), Limits())
    assert file.graph.by_id["fc"].weights[0].read is None
    assert "came alone" in file.graph.notes[0]
    assert read_onnx_proto(pointing(location="../w.bin"), Limits()).hazards[0].code == "GEB903"


def test_a_model_folder_reached_by_a_link_is_fine(tmp_path: Path) -> None:
    """The user's own way to the model is not the model's doing."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "w.bin").write_bytes(KERNEL.tobytes())
    (real / "model.onnx").write_bytes(pointing(location="w.bin").SerializeToString())
    (tmp_path / "way").symlink_to(real)
    file = read_onnx(tmp_path / "way" / "model.onnx", Limits())
    assert file.hazards == ()
    weight = file.graph.by_id["fc"].weights[0]
    assert weight.read is not None
    np.testing.assert_array_equal(weight.read(), KERNEL)
