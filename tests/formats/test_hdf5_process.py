"""The HDF5 library in a process of its own: what it does to itself stays there."""

from __future__ import annotations

import copy
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from auditor.errors import UnreadableModel, UnsafeModel
from auditor.formats import DEFAULT_LIMITS, Limits, read_model
from auditor.formats import hdf5_server as server
from auditor.formats.hdf5_process import Hdf5Process, Hdf5Source
from auditor.formats.hdf5_tree import Hdf5Dataset, Hdf5Group, read_tree
from auditor.formats.stored_tensor import FileStamp, FileTensor, Hdf5Tensor

HANGS = Path(__file__).parents[1] / "data" / "hostile" / "hangs_hdf5.h5"
VALUES = np.arange(12, dtype="f4").reshape(4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with datasets of every layout, and string attributes of every kind."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a/b")
        group.attrs["names"] = np.array([b"one", b"two"])
        group.attrs["word"] = "été"
        group.attrs["number"] = 3
        group.attrs["parts0"], group.attrs["parts1"] = np.array([b"p"]), np.array([b"q"])
        group["plain"] = VALUES
        group.create_dataset("packed", data=VALUES, chunks=(2, 3), compression="gzip")
        group["truth"] = np.array([True, False])
        group["text"] = "words"
        group["scalar"] = np.int64(7)
        group["nothing"] = h5py.Empty("f4")
    return path


def tree(path: Path, *attributes: str, limits: Limits = DEFAULT_LIMITS) -> Hdf5Group:
    return read_tree(Hdf5Source(path=path), FileStamp.of(path), limits, *attributes).root


def test_index(path: Path) -> None:
    group = tree(path, "names", "word", "number", "parts", "missing").find("a/b")
    assert isinstance(group, Hdf5Group)
    assert group.texts("names") == ("one", "two")
    assert group.texts("word") == ("été",)
    assert group.texts("parts") == ("p", "q")
    assert group.texts("number") == group.texts("missing") == ()
    plain, packed, nothing = (group.find(name) for name in ("plain", "packed", "nothing"))
    assert isinstance(plain, Hdf5Dataset)
    assert isinstance(packed, Hdf5Dataset)
    assert isinstance(nothing, Hdf5Dataset)
    assert (plain.shape, plain.dtype, plain.path) == ((4, 3), "<f4", "/a/b/plain")
    assert plain.offset is not None
    assert packed.offset is None
    assert nothing.shape is None
    assert group.find("plain/x") is group.find("nowhere") is group.find("") is None


def test_values_by_offset_and_by_the_library(path: Path) -> None:
    read = read_tree(Hdf5Source(path=path), FileStamp.of(path), DEFAULT_LIMITS)
    for name, kind in (("plain", FileTensor), ("packed", Hdf5Tensor)):
        dataset = read.root.find(f"a/b/{name}")
        assert isinstance(dataset, Hdf5Dataset)
        tensor = read.tensor(dataset, name)
        assert tensor is not None
        assert isinstance(tensor.read, kind)
        np.testing.assert_array_equal(tensor.read(), VALUES)
        np.testing.assert_array_equal(copy.deepcopy(tensor.read)(), VALUES)
    with Hdf5Process(Hdf5Source(path=path), DEFAULT_LIMITS) as process:
        np.testing.assert_array_equal(process.values("/a/b/truth"), [True, False])
        assert process.values("/a/b/scalar") == 7
        with pytest.raises(UnreadableModel, match="damaged"):
            process.values("/a/b/nowhere")
        assert process.index()["members"].keys() == {"a"}


def test_one_process_serves_file_after_file(path: Path) -> None:
    tree(path)
    kept = server.take()
    server.give_back(kept)
    tree(path)
    rubbish = path.with_name("rubbish.h5")
    rubbish.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UnreadableModel, match="truncated or damaged"):
        tree(rubbish)
    again = server.take()
    server.give_back(again)
    assert again is kept


def test_limits_are_told(path: Path) -> None:
    with pytest.raises(UnsafeModel, match=r"more than 3 groups and datasets.*GEB905"):
        tree(path, limits=replace(DEFAULT_LIMITS, members=3))
    with pytest.raises(UnsafeModel, match=r"nested more than 1 deep.*GEB909"):
        tree(path, limits=replace(DEFAULT_LIMITS, json_depth=1))


def test_a_file_that_hangs_the_library() -> None:
    """Found by fuzzing: the library never comes back from it."""
    begun = time.monotonic()
    with pytest.raises(UnreadableModel, match=r"more than 1 s \(the limit `seconds`\)"):
        read_model(HANGS, replace(DEFAULT_LIMITS, seconds=1.0))
    assert time.monotonic() - begun < 10


@pytest.mark.skipif(sys.platform != "linux", reason="no other system bounds address space")
def test_a_file_that_fills_memory(path: Path) -> None:
    with h5py.File(path, "a") as file:
        # 3 GiB of zeros in chunks of no bytes to speak of: below what is refused as a bomb.
        file.create_dataset("z", (3 * 2**28,), "f4", chunks=(2**20,), compression="gzip")
    tight = replace(DEFAULT_LIMITS, memory_bytes=2 * 2**30)
    with (
        Hdf5Process(Hdf5Source(path=path), tight) as process,
        pytest.raises(UnreadableModel, match="2,048 MiB of memory"),
    ):
        process.values("/z")


@pytest.fixture
def fresh() -> Iterator[None]:
    """No server kept from before, none left for later."""
    server.take().kill()
    yield
    server.take().kill()


STAND_IN = """
import json, os, sys
for line in sys.stdin.buffer:
    pid = os.fork()
    if not pid:
        os.kill(os.getpid(), {signal})
    _, status = os.waitpid(pid, 0)
    print(json.dumps({{"ended": os.waitstatus_to_exitcode(status)}}), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.usefixtures("fresh")
def test_a_crash_of_the_library_is_one_line(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "crashes.py"
    script.write_text(STAND_IN.format(signal=int(signal.SIGSEGV)))
    monkeypatch.setattr(server, "SCRIPT", script)
    with pytest.raises(UnreadableModel, match="crashes the HDF5 library") as error:
        tree(path)
    assert "SIGSEGV" in error.value.detail
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("fresh")
def test_a_server_that_dies_is_replaced(path: Path) -> None:
    tree(path)
    kept = server.take()
    kept.kill()
    server.give_back(kept)
    assert tree(path).members.keys() == {"a"}


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.usefixtures("fresh")
def test_a_fork_of_the_auditing_process_has_a_server_of_its_own(path: Path) -> None:
    tree(path)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if tree(path).members.keys() == {"a"} else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tree(path).members.keys() == {"a"}
