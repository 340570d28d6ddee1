"""HDF5 files that keep themselves elsewhere, hold themselves, or declare what they do not hold."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from .case import Bait, Case
from .keras_configs import keras_file, sequential

KERNEL = np.arange(12, dtype="float32").reshape(4, 3)
BIAS = np.zeros(3, "float32")
#: The group of a layer's variables and the names in it, in either kind of file.
VARIABLES, WEIGHTS = "layers/dense/vars", ("0", "1")
LAYER, LEGACY_WEIGHTS = "model_weights/wide", ("wide/kernel:0", "wide/bias:0")
#: More than any file, and 4,000 times a file that is mapped whole.
HUGE = 2**42

Fill = Callable[[h5py.File, str, Bait], None]


def weights(change: Fill, bait: Bait) -> bytes:
    """A model.weights.h5 after a change of what stands at its first variable."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group(VARIABLES)
        for name, values in zip(WEIGHTS, (KERNEL, BIAS), strict=True):
            group[name] = values
        change(file, f"{VARIABLES}/{WEIGHTS[0]}", bait)
    return stream.getvalue()


def legacy(folder: Path, change: Fill, bait: Bait) -> Path:
    """A whole-model HDF5 file, likewise."""
    path = folder / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.11.0"
        file.attrs["model_config"] = json.dumps(sequential()).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"wide"])
        layer = group.create_group("wide")
        layer.attrs["weight_names"] = np.array([name.encode() for name in LEGACY_WEIGHTS])
        for name, values in zip(LEGACY_WEIGHTS, (KERNEL, BIAS), strict=True):
            layer[name] = values
        change(file, f"{LAYER}/{LEGACY_WEIGHTS[0]}", bait)
    return path


def _external_storage(file: h5py.File, at: str, bait: Bait) -> None:
    del file[at]
    file.create_dataset(at, (4, 3), "f4", external=[(str(bait.pipe), 0, 48)])


def _external_storage_in_pieces(file: h5py.File, at: str, bait: Bait) -> None:
    del file[at]
    pieces = [(str(bait.secret), 0, 24), (str(bait.pipe), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(at, (4, 3), "f4", external=pieces)


def _virtual(file: h5py.File, at: str, bait: Bait) -> None:
    del file[at]
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource(str(bait.pipe), "x", (4, 3))
    file.create_virtual_dataset(at, layout)


def _virtual_of_itself(file: h5py.File, at: str, _: Bait) -> None:
    file.move(at, "moved")
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource(".", "moved", (4, 3))
    file.create_virtual_dataset(at, layout)


def _external_link(file: h5py.File, at: str, bait: Bait) -> None:
    del file[at]
    file[at] = h5py.ExternalLink(str(bait.pipe), "/x")


def _soft_link(file: h5py.File, at: str, _: Bait) -> None:
    file.move(at, "moved")
    file[at] = h5py.SoftLink("/moved")


def _dangling_link(file: h5py.File, at: str, _: Bait) -> None:
    del file[at]
    file[at] = h5py.SoftLink("/nowhere")


def _linked(segments: int, *, external: bool) -> Fill:
    """A link in place of the group so many segments down the path."""

    def change(file: h5py.File, at: str, bait: Bait) -> None:
        group = "/".join(at.split("/")[:segments])
        file.move(group, "moved")
        file[group] = (
            h5py.ExternalLink(str(bait.pipe), "/") if external else h5py.SoftLink("/moved")
        )

    return change


def _declared(file: h5py.File, at: str, _: Bait) -> None:
    """Four terabytes, of which no chunk was ever written."""
    del file[at]
    file.create_dataset(at, (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")


def _compressed(file: h5py.File, at: str, _: Bait) -> None:
    """One chunk of zeros, packed a thousandfold, and as many again as the shape declares."""
    del file[at]
    chunk = 2**20
    made = file.create_dataset(at, (HUGE // 4,), "f4", chunks=(chunk,), compression="gzip")
    made.id.write_direct_chunk((0,), zlib.compress(bytes(4 * chunk), 9))


def _filled(file: h5py.File, at: str, _: Bait) -> None:
    """A contiguous dataset of which nothing was written: its values are a fill value."""
    del file[at]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    plist.set_fill_value(np.array(1, np.float32))
    space = h5py.h5s.create_simple((HUGE,))
    parent, name = at.rsplit("/", 1)
    h5py.h5d.create(file[parent].id, name.encode(), h5py.h5t.IEEE_F32LE, space, plist)


def _holds_itself(file: h5py.File, at: str, _: Bait) -> None:
    parent = file[at].parent
    parent.parent["inner"] = parent.parent


def _holds_its_root(file: h5py.File, at: str, _: Bait) -> None:
    file[at].parent.parent["inner"] = file["/"]


def _doubling(file: h5py.File, at: str, _: Bait) -> None:
    """Groups that hold the next twice: thirty of them are reached by a billion paths."""
    group = file[at].parent.parent
    for _ in range(30):
        below = group.create_group("a")
        group["b"] = below
        group = below


def _deep(file: h5py.File, at: str, _: Bait) -> None:
    group = file[at].parent.parent
    for _ in range(500):
        group = group.create_group("inner")


def _keras(change: Fill) -> Callable[[Path, Bait], Path]:
    return lambda folder, bait: keras_file(
        folder, sequential(), {"model.weights.h5": weights(change, bait)}
    )


def _h5(change: Fill) -> Callable[[Path, Bait], Path]:
    return lambda folder, bait: legacy(folder, change, bait)


def _attribute(folder: Path, bait: Bait) -> Path:
    """A list of a layer's weights that declares a trillion names and holds eleven."""

    def change(file: h5py.File, at: str, _: Bait) -> None:
        file["model_weights/wide"].attrs["weight_names"] = np.array([b"wide"] * 11 + [b"w/b:0"] * 6)

    path = legacy(folder, change, bait)
    data = path.read_bytes()
    # The attribute's shape, and the most it may grow to, stand before its text.
    text = data.index(b"w/b:0")
    start = text - 256
    before = data[start:text].replace(struct.pack("<Q", 17), struct.pack("<Q", HUGE))
    path.write_bytes(data[:start] + before + data[text:])
    return path


SHAPE_BOMB = "CVE-2026-0897"
STORAGE = "CVE-2026-1669"


def cases() -> dict[str, Case]:
    """All changes, in both kinds of file."""
    changes: dict[str, tuple[Fill, str, str]] = {
        "external storage": (_external_storage, "GEB904", STORAGE),
        "external storage in pieces": (_external_storage_in_pieces, "GEB904", STORAGE),
        "an external link": (_external_link, "GEB904", STORAGE),
        "a soft link": (_soft_link, "GEB904", ""),
        "a soft link to nothing": (_dangling_link, "GEB904", ""),
        "a virtual dataset": (_virtual, "GEB904", STORAGE),
        "a virtual dataset of itself": (_virtual_of_itself, "GEB904", STORAGE),
        "a shape of four terabytes": (_declared, "GEB905", SHAPE_BOMB),
        "a compressed chunk of many": (_compressed, "GEB905", SHAPE_BOMB),
        "a fill value for all": (_filled, "GEB905", SHAPE_BOMB),
    }
    found: dict[str, Case] = {}
    for name, (change, code, identifier) in changes.items():
        common = {"code": code, "identifier": identifier, "exit_code": 3}
        found[f"keras: {name}"] = Case(build=_keras(change), place="vars/0", **common)
        found[f"h5: {name}"] = Case(build=_h5(change), place="kernel:0", **common)
    for segments in (1, 2, 3):
        for external in (False, True):
            kind = "external" if external else "soft"
            name = f"a {kind} link {segments} segments down"
            common = {"code": "GEB904", "exit_code": 3, "identifier": STORAGE if external else ""}
            change = _linked(segments, external=external)
            found[f"keras: {name}"] = Case(build=_keras(change), **common)
            found[f"h5: {name}"] = Case(build=_h5(change), **common)
    for name, change in {
        "a group that holds itself": _holds_itself,
        "a group that holds the root": _holds_its_root,
        "groups 500 deep": _deep,
    }.items():
        found[f"keras: {name}"] = Case(build=_keras(change), code="GEB909", exit_code=3)
    found["keras: groups of a billion paths"] = Case(
        build=_keras(_doubling), code="GEB905", exit_code=3
    )
    found["keras: another's shape bomb"] = Case(
        build=_keras(_declared), code="GEB905", identifier="CVE-2026-12570", exit_code=3
    )
    found["h5: an attribute of a trillion names"] = Case(build=_attribute, code="", exit_code=3)
    return found
