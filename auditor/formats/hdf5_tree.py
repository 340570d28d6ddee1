"""What an HDF5 file declares: its groups and datasets, as plain values.

They are read by the HDF5 library in a process of its own (`hdf5_process`), which refuses whatever
leads out of the file (links, external storage, virtual datasets: CVE-2026-1669) and shapes that the
file does not hold (CVE-2026-0897).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auditor.errors import UnreadableModel
from auditor.formats.hdf5_process import Hdf5Process, Hdf5Source
from auditor.formats.limits import Limits
from auditor.formats.stored_tensor import FileStamp, FileTensor, Hdf5Tensor, StoredTensor
from auditor.formats.untrusted import summary
from auditor.graph.weight import TensorReader


@dataclass(frozen=True, kw_only=True)
class Hdf5Dataset:
    """A dataset. `offset` is where its values stand in one piece, uncompressed; None otherwise."""

    path: str
    shape: tuple[int, ...] | None
    dtype: str
    offset: int | None


@dataclass(frozen=True, kw_only=True)
class Hdf5Group:
    """A group: the attributes that were asked for, as lists of strings, and its members."""

    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    members: Mapping[str, Hdf5Group | Hdf5Dataset] = field(default_factory=dict)

    def texts(self, name: str) -> tuple[str, ...]:
        """An attribute's strings; none where there is no such attribute."""
        return self.attributes.get(name, ())

    def find(self, path: str) -> Hdf5Group | Hdf5Dataset | None:
        """The member at a path below this group; None when there is none."""
        found: Hdf5Group | Hdf5Dataset | None = self
        for segment in path.split("/"):
            found = found.members.get(segment) if isinstance(found, Hdf5Group) else None
        return found


@dataclass(frozen=True, kw_only=True)
class Hdf5Tree:
    """A file's groups and datasets, and the way to the values; `library` is HDF5's version."""

    library: str
    source: Hdf5Source
    stamp: FileStamp
    limits: Limits
    root: Hdf5Group

    def tensor(self, dataset: Hdf5Dataset, name: str) -> StoredTensor | None:
        """A dataset of numbers as a tensor with a lazy reader; None when it holds no numbers."""
        if dataset.shape is None:
            raise UnreadableModel(
                f"{summary(dataset.path, 120)} declares no shape; save the model again"
            )
        dtype = np.dtype(dataset.dtype)
        # HDF5 has no bfloat16: Keras writes its bytes, in .keras files with a note of the type.
        bfloat16 = dtype == np.dtype("V2")
        if dtype.kind not in "fiubc" and not bfloat16:
            return None
        reader: TensorReader
        offset = self._offset(dataset, dtype)
        if offset is None:
            reader = Hdf5Tensor(
                stamp=self.stamp,
                source=self.source,
                limits=self.limits,
                dataset=dataset.path,
                bfloat16=bfloat16,
            )
        else:
            reader = FileTensor(
                stamp=self.stamp,
                offset=offset,
                shape=dataset.shape,
                dtype=dataset.dtype,
                bfloat16=bfloat16,
            )
        shown = "bfloat16" if bfloat16 else dtype.name
        return StoredTensor(name=name, shape=dataset.shape, dtype=shown, read=reader)

    def _offset(self, dataset: Hdf5Dataset, dtype: np.dtype[Any]) -> int | None:
        """Where in the file on disk the values stand in one piece; None when they do not."""
        if dataset.offset is None or dataset.shape is None:
            return None
        size = math.prod(dataset.shape) * dtype.itemsize
        span = self.source.span
        if span is None:
            whole = self.source.member is None and dataset.offset + size <= self.stamp.size
            return dataset.offset if whole else None
        return span.offset + dataset.offset if dataset.offset + size <= span.size else None


def read_tree(source: Hdf5Source, stamp: FileStamp, limits: Limits, *attributes: str) -> Hdf5Tree:
    """All that a file declares. `attributes` names those that are wanted, of every group.

    Raises `UnreadableModel`; `UnsafeModel` where the file leads out of itself or is a bomb.
    """
    with Hdf5Process(source, limits) as process:
        index = process.index(*attributes)
    root, library = _group(index, ""), str(index["library"])
    return Hdf5Tree(library=library, source=source, stamp=stamp, limits=limits, root=root)


def _group(index: Mapping[str, Any], path: str) -> Hdf5Group:
    members: dict[str, Hdf5Group | Hdf5Dataset] = {}
    for name, member in index["members"].items():
        place = f"{path}/{name}"
        members[name] = _group(member, place) if "members" in member else _dataset(member, place)
    attributes = {name: tuple(texts) for name, texts in index["attributes"].items()}
    return Hdf5Group(attributes=attributes, members=members)


def _dataset(index: Mapping[str, Any], path: str) -> Hdf5Dataset:
    shape = index["shape"]
    return Hdf5Dataset(
        path=path,
        shape=None if shape is None else tuple(map(int, shape)),
        dtype=str(index["dtype"]),
        offset=index["offset"],
    )
