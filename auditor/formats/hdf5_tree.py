"""Groups and datasets of an HDF5 file, reached without following anything out of it.

A hostile HDF5 file can point elsewhere by external and soft links, external storage and virtual
datasets (CVE-2026-1669), and can declare shapes it does not hold (CVE-2026-0897). All are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np

from auditor.errors import GebAuditError, UnreadableModel, UnsafeModel
from auditor.formats.archive import StoredSpan
from auditor.formats.limits import Limits
from auditor.formats.stored_tensor import FileStamp, FileTensor, Hdf5Tensor, StoredTensor
from auditor.formats.untrusted import summary
from auditor.graph.weight import TensorReader

#: A dataset that declares more than this must hold at least a thousandth of it.
BOMB_FLOOR = 2**32
BOMB_RATIO = 1000
DEEPEST = 64


class Hdf5Tree:
    """An open HDF5 file, read-only, by paths of hard links.

    `span` is where the file stands in an archive's stored member, None when it is a file of its
    own or cannot be read in place (`in_place`).
    """

    def __init__(
        self,
        file: h5py.File,
        stamp: FileStamp,
        limits: Limits,
        *,
        member: str | None = None,
        span: StoredSpan | None = None,
    ) -> None:
        self._file = file
        self._stamp = stamp
        self._limits = limits
        self._member = member
        self._span = span
        self._visited = 0

    @property
    def root(self) -> h5py.Group:
        """The file's root group."""
        return self._file

    def texts(self, group: h5py.Group, name: str) -> list[str]:
        """An attribute that is a string or an array of strings; empty for any other.

        The native library crashes and hangs on damaged attributes of other types, so type and
        size are looked at before any value is.
        """
        encoded = name.encode()
        if not h5py.h5a.exists(group.id, encoded):
            return []
        attribute = h5py.h5a.open(group.id, encoded)
        if attribute.get_type().get_class() != h5py.h5t.STRING:
            return []
        stored = attribute.get_storage_size()
        if stored > self._stamp.size or math.prod(attribute.shape) > stored:
            raise UnsafeModel(
                f"GEB905 resource-bomb: attribute {name} of {summary(group.name, 120)} declares "
                "more than the file holds"
            )
        return _texts(group.attrs[name])

    def lists(self, group: h5py.Group, name: str) -> list[str]:
        """A list of strings kept as an attribute, or in chunks as `name0`, `name1` and so on."""
        if name in group.attrs:
            return self.texts(group, name)
        found: list[str] = []
        chunk = 0
        while f"{name}{chunk}" in group.attrs:
            found.extend(self.texts(group, f"{name}{chunk}"))
            chunk += 1
        return found

    def children(self, group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
        """A group's members, by hard links only."""
        for name in group:
            member = self.child(group, name)
            if member is not None:
                yield name, member

    def child(self, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
        """A member of a group; None when there is none. `name` is one segment, no path."""
        self._visited += 1
        if self._visited > self._limits.members * 10:
            raise UnsafeModel("GEB905 resource-bomb: the HDF5 file holds too many objects to read")
        encoded = name.encode("utf-8", "surrogateescape")
        if not group.id.links.exists(encoded):
            return None
        kind = group.id.links.get_info(encoded).type
        if kind != h5py.h5l.TYPE_HARD:
            what = "an external link" if kind == h5py.h5l.TYPE_EXTERNAL else "a soft link"
            raise UnsafeModel(
                f"GEB904 linked-storage: {summary(f'{group.name}/{name}', 120)} is {what}; "
                "links in a model file are not followed"
            )
        member = group[name]
        return member if isinstance(member, (h5py.Group, h5py.Dataset)) else None

    def find(self, group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
        """The member at a path below a group, every segment checked; None when there is none."""
        found: h5py.Group | h5py.Dataset | None = group
        for segment in path.split("/"):
            if segment in ("", ".") or not isinstance(found, h5py.Group):
                return None
            found = self.child(found, segment)
        return found

    def tensor(self, dataset: h5py.Dataset, name: str) -> StoredTensor | None:
        """A dataset of numbers as a tensor with a lazy reader; None when it holds no numbers."""
        self._check(dataset)
        # HDF5 has no bfloat16: Keras writes its bytes, in .keras files with a note of the type.
        bfloat16 = dataset.dtype == np.dtype("V2")
        if dataset.dtype.kind not in "fiubc" and not bfloat16:
            return None
        shape = tuple(int(size) for size in dataset.shape)
        reader: TensorReader
        offset = self._offset(dataset)
        if offset is None:
            reader = Hdf5Tensor(
                stamp=self._stamp, member=self._member, dataset=dataset.name, bfloat16=bfloat16
            )
        else:
            reader = FileTensor(
                stamp=self._stamp,
                offset=offset,
                shape=shape,
                dtype=dataset.dtype.str,
                bfloat16=bfloat16,
            )
        dtype = "bfloat16" if bfloat16 else dataset.dtype.name
        return StoredTensor(name=name, shape=shape, dtype=dtype, read=reader)

    def _offset(self, dataset: h5py.Dataset) -> int | None:
        """Where in the file on disk the values stand in one piece; None when they do not."""
        if dataset.chunks is not None or dataset.dtype.kind == "b":
            return None
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        if not size or dataset.id.get_storage_size() != size:
            return None
        offset = dataset.id.get_offset()
        if offset is None or (self._member is not None and self._span is None):
            return None
        if self._span is None:
            return int(offset) if offset + size <= self._stamp.size else None
        return self._span.offset + int(offset) if offset + size <= self._span.size else None

    def _check(self, dataset: h5py.Dataset) -> None:
        place = summary(dataset.name, 120)
        if dataset.external:
            raise UnsafeModel(f"GEB904 linked-storage: {place} keeps its values in another file")
        if dataset.is_virtual:
            raise UnsafeModel(f"GEB904 linked-storage: {place} is a virtual dataset")
        if dataset.shape is None:
            raise UnreadableModel(f"{place} declares no shape; save the model again")
        declared = math.prod(dataset.shape) * dataset.dtype.itemsize
        stored = dataset.id.get_storage_size()
        if declared > BOMB_FLOOR and declared > BOMB_RATIO * stored:
            raise UnsafeModel(
                f"GEB905 resource-bomb: {place} declares {declared:,} bytes and holds {stored:,}"
            )


@contextmanager
def damaged_as_unreadable(place: str) -> Iterator[None]:
    """What h5py raises on damaged bytes (nearly any exception) as one `UnreadableModel`."""
    try:
        yield
    except GebAuditError:
        raise
    except Exception as error:
        raise UnreadableModel(
            f"{place} is truncated or damaged; save or copy the model again",
            detail=f"{type(error).__name__}: {error}",
        ) from error


def _texts(value: Any) -> list[str]:
    items = value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
    return [item for raw in items if (item := _text(raw))]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
