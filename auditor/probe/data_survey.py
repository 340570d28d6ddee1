"""The facts of a user's data: one pass over the arrays of an .npz file, in blocks, with NumPy."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from auditor.graph.heads import loss_of
from auditor.graph.layer_graph import LayerGraph
from auditor.measurement import ArrayFacts, DataFacts, FeatureFacts, RowFacts
from auditor.probe.data_file import archive_of_arrays, check_samples, names_of

Array = np.ndarray[Any, Any]

#: Values of a block. A block has a sample at least.
BLOCK_VALUES = 2**20
#: Values of one array that are looked at in full: NaN and infinities are counted in all of them.
MOST_VALUES = 2**25
#: An array in column order is read at once, and only up to so many bytes.
MOST_COLUMN_BYTES = 2**30
#: Different values that are told apart, and classes that one-hot rows are counted for.
MOST_DISTINCT = 4096
#: Floating-point targets beyond so many values are not searched for different ones.
MOST_SORTED = 2**24
#: Places in a sample that are followed one by one.
MOST_FEATURES = 2**20
#: What a value may lie beyond a bound, and a row's sum beside 1: the rounding of stored labels.
SLACK = 1e-3
MEMBER = ".npy"


def survey(path: Path, graph: LayerGraph, *, given: bool = False) -> DataFacts:
    """The facts of the data in an .npz file, for a model.

    Memory is bounded by a few blocks, but for arrays in column order, which are read at once. Of
    very large arrays an even spread of blocks is looked at, and `ArrayFacts.seen` says so. `given`
    says that the file stands for arrays handed over in Python.

    Raises `UsageError` for a file that holds no samples.
    """
    name, title = ("data", "given") if given else (str(path), path.name)
    with archive_of_arrays(path, name), zipfile.ZipFile(path) as archive:
        stored = {member.filename.removesuffix(MEMBER): member for member in archive.infolist()}
        headers = {}
        for array, member in stored.items():
            with archive.open(member) as stream:
                headers[array] = _header(stream)
        check_samples(name, headers)
        unbound: list[str] = []
        inputs = names_of("x", [spec.name for spec in graph.inputs], headers)
        if inputs is None:
            unbound.append("no array could be told to be the model's input")
        places = tuple(
            place
            for place in range(len(graph.outputs))
            if graph.compile is None or loss_of(graph, place) is not None
        )
        targets = _targets(graph, places, headers)
        if targets is None:
            unbound.append("no array could be told to be the targets of an output")
        facts = tuple(
            tuple(
                _surveyed(archive, stored[array], array, place, targets=are_targets)
                for array, place in zip(arrays or (), numbers, strict=False)
            )
            for arrays, numbers, are_targets in (
                (inputs, range(len(graph.inputs)), False),
                (targets, places, True),
            )
        )
    return DataFacts(
        title=title,
        samples=next(iter(headers.values())).shape[0],
        inputs=facts[0],
        targets=facts[1],
        unbound=tuple(unbound),
    )


def _targets(
    graph: LayerGraph, places: Sequence[int], stored: Mapping[str, object]
) -> tuple[str, ...] | None:
    """The arrays of these outputs, which may go by the name of a layer or of a nested model."""
    calls = [graph.by_id[graph.outputs[place][0]] for place in places]
    for names in ([call.path[0] for call in calls], [call.name for call in calls]):
        found = names_of("y", names, stored)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What an array's first bytes say of it."""

    shape: tuple[int, ...]
    by_column: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def _header(stream: IO[bytes]) -> _Header:
    """Read an array's header. Raises `ValueError` for what is none, or one of Python objects."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"an array of format {version}, with named fields")
    if dtype.hasobject:
        raise ValueError("an array of objects, which are stored by pickle")
    return _Header(shape=shape, by_column=by_column, dtype=dtype)


def _blocks(header: _Header, stream: IO[bytes]) -> Iterator[Array]:
    """The samples in blocks, in their order. Raises `ValueError` where some are missing."""
    sample = math.prod(header.shape[1:])
    if header.by_column and len(header.shape) > 1:
        if header.size * header.dtype.itemsize > MOST_COLUMN_BYTES:
            return
        values = _read(stream, header.dtype, header.size)
        whole = values.reshape(header.shape[::-1]).transpose()
        rows = max(1, BLOCK_VALUES // max(sample, 1))
        for begin in range(0, header.shape[0], rows):
            yield whole[begin : begin + rows]
        return
    rows = max(1, BLOCK_VALUES // max(sample, 1))
    for begin in range(0, header.shape[0], rows):
        count = min(rows, header.shape[0] - begin)
        yield _read(stream, header.dtype, count * sample).reshape(count, *header.shape[1:])


def _read(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> Array:
    wanted = count * dtype.itemsize
    content = stream.read(wanted)
    if len(content) < wanted:
        raise ValueError("an array that ends too early")
    return np.frombuffer(content, dtype=dtype, count=count)


def _surveyed(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, place: int, *, targets: bool
) -> ArrayFacts:
    """The facts of one stored array."""
    with archive.open(member) as stream:
        return _facts(name, place, _header(stream), stream, targets=targets)


def _facts(
    name: str, place: int, header: _Header, stream: IO[bytes], *, targets: bool
) -> ArrayFacts:
    numeric = header.dtype.kind in "biuf"
    if not numeric or header.size == 0:
        return ArrayFacts(
            name=name, place=place, dtype=str(header.dtype), shape=header.shape, seen=0
        )
    blocks = max(1, math.ceil(header.shape[0] / _rows_of(header)))
    wanted = min(blocks, max(1, math.ceil(MOST_VALUES / (header.size / blocks))))
    tally = _Tally(header=header, targets=targets)
    nonfinite = 0
    for index, block in enumerate(_blocks(header, stream)):
        finite = np.isfinite(block) if header.dtype.kind == "f" else None
        lost = 0 if finite is None else block.size - int(np.count_nonzero(finite))
        nonfinite += lost
        # Evenly spread and centred: as many as are wanted of all blocks, none twice.
        now, before = (i * wanted + blocks // 2 for i in (index, index - 1))
        if now // blocks > before // blocks:
            tally.add(block, finite if lost else None)
    return tally.facts(name, place, nonfinite)


def _rows_of(header: _Header) -> int:
    return max(1, BLOCK_VALUES // max(math.prod(header.shape[1:]), 1))


@dataclass(kw_only=True)
class _Tally:
    """What is gathered of one array, block by block."""

    header: _Header
    targets: bool
    seen: int = 0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    whole: int = 0
    beyond: list[int] = field(default_factory=lambda: [0, 0, 0])
    distinct: dict[float, int] | None = field(default_factory=dict)
    rows: _Rows | None = None
    features: _Features | None = None

    def __post_init__(self) -> None:
        shape = self.header.shape
        if self.targets and len(shape) > 1 and shape[-1] > 1:
            self.rows = _Rows(width=shape[-1])
        if not self.targets and len(shape) > 1 and 1 < math.prod(shape[1:]) <= MOST_FEATURES:
            self.features = _Features(math.prod(shape[1:]))
        searched = self.header.dtype.kind != "f" or self.header.size <= MOST_SORTED
        if not self.targets or not searched:
            self.distinct = None

    def add(self, block: Array, finite: Array | None) -> None:
        """Take in a block; `finite` says which of its values are, None if all."""
        self.seen += len(block)
        # Wide enough that sums of half precisions, and of whole numbers, do not overflow.
        values = block.astype(np.float64)
        usable = values.reshape(-1) if finite is None else values[finite]
        if usable.size:
            self._moments(usable)
            floating = self.header.dtype.kind == "f"
            fractions = np.count_nonzero(usable != np.floor(usable)) if floating else 0
            self.whole += usable.size - int(fractions)
            if self.targets:
                self._bounds(usable)
        if self.distinct is not None:
            self._told_apart(block if finite is None else block[finite])
        if self.rows is not None:
            self.rows.add(values.reshape(-1, self.rows.width))
        if self.features is not None:
            self.features.add(values.reshape(len(values), -1), finite)

    def facts(self, name: str, place: int, nonfinite: int) -> ArrayFacts:
        """What was gathered."""
        header, count = self.header, self.count
        base = ArrayFacts(
            name=name,
            place=place,
            dtype=str(header.dtype),
            shape=header.shape,
            seen=self.seen,
            nonfinite=nonfinite,
        )
        if not count:
            return base
        return replace(
            base,
            minimum=self.low,
            maximum=self.high,
            mean=self.mean,
            deviation=math.sqrt(max(self.squares, 0.0) / count),
            whole=self.whole / count,
            below_minus_one=self.beyond[0] / count,
            below_zero=self.beyond[1] / count,
            above_one=self.beyond[2] / count,
            distinct=tuple(sorted((self.distinct or {}).items())),
            rows=None if self.rows is None else self.rows.facts(),
            features=None if self.features is None else self.features.facts(),
        )

    def _moments(self, usable: Array) -> None:
        """Merge a block's mean and squares: Chan, Golub & LeVeque 1979."""
        self.low = min(self.low, float(usable.min()))
        self.high = max(self.high, float(usable.max()))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(usable.mean())
            squares = float(np.square(usable - mean).sum())
            total = self.count + usable.size
            apart = mean - self.mean
            self.squares += squares + apart * apart * self.count * usable.size / total
            self.mean += apart * usable.size / total
        self.count = total

    def _bounds(self, usable: Array) -> None:
        outside = (usable < -1.0 - SLACK, usable < -SLACK, usable > 1.0 + SLACK)
        for index, values in enumerate(outside):
            self.beyond[index] += int(np.count_nonzero(values))

    def _told_apart(self, usable: Array) -> None:
        found = self.distinct or {}
        values, counts = np.unique(usable, return_counts=True)
        if len(values) <= MOST_DISTINCT:
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                found[float(value)] = found.get(float(value), 0) + count
        few = max(len(values), len(found)) <= MOST_DISTINCT
        self.distinct = found if few else None


class _Rows:
    """Rows along the last axis."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.seen = self.one_hot = self.several = self.empty = self.distributions = 0
        self.counts = np.zeros(width, np.int64) if width <= MOST_DISTINCT else None

    def add(self, rows: Array) -> None:
        """Take in rows, `(rows, width)`. One with NaN in it is of no kind."""
        self.seen += len(rows)
        ones = (rows == 1.0).sum(axis=1)
        marks = ones + (rows == 0.0).sum(axis=1) == self.width
        single = marks & (ones == 1)
        self.one_hot += int(single.sum())
        self.several += int((marks & (ones > 1)).sum())
        self.empty += int((marks & (ones == 0)).sum())
        with np.errstate(over="ignore", invalid="ignore"):
            sums = np.abs(rows.sum(axis=1) - 1.0) <= SLACK
            self.distributions += int((sums & (rows >= -SLACK).all(axis=1)).sum())
        if self.counts is not None:
            self.counts += rows[single].sum(axis=0).astype(np.int64)

    def facts(self) -> RowFacts:
        """What was gathered."""
        return RowFacts(
            one_hot=self.one_hot / self.seen,
            several=self.several / self.seen,
            empty=self.empty / self.seen,
            distributions=self.distributions / self.seen,
            counts=() if self.counts is None else tuple(self.counts.tolist()),
        )


class _Features:
    """The places in a sample, each over all samples."""

    def __init__(self, count: int) -> None:
        self.low = np.full(count, math.inf)
        self.high = np.full(count, -math.inf)
        self.mean = np.zeros(count)
        self.squares = np.zeros(count)
        self.seen = np.zeros(count)

    def add(self, values: Array, finite: Array | None) -> None:
        """Take in samples, `(samples, places)`."""
        if finite is None:
            known = np.full(values.shape[1], float(len(values)))
            shown = values
        else:
            finite = finite.reshape(values.shape)
            known = finite.sum(axis=0).astype(np.float64)
            shown = np.where(finite, values, 0.0)
        low = values if finite is None else np.where(finite, values, math.inf)
        high = values if finite is None else np.where(finite, values, -math.inf)
        self.low = np.minimum(self.low, low.min(axis=0))
        self.high = np.maximum(self.high, high.max(axis=0))
        with np.errstate(over="ignore", invalid="ignore"):
            divisor = np.maximum(known, 1.0)
            mean = shown.sum(axis=0) / divisor
            off = shown - mean if finite is None else np.where(finite, shown - mean, 0.0)
            apart = mean - self.mean
            total = np.maximum(self.seen + known, 1.0)
            self.squares += (
                np.square(off).sum(axis=0) + np.square(apart) * self.seen * known / total
            )
            self.mean += apart * known / total
        self.seen += known

    def facts(self) -> FeatureFacts:
        """What was gathered."""
        varying = np.flatnonzero(self.low < self.high)
        constant = int(np.count_nonzero(self.low == self.high))
        count = len(self.low)
        if not varying.size:
            return FeatureFacts(count=count, constant=constant)
        deviations = np.sqrt(self.squares[varying] / np.maximum(self.seen[varying], 1.0))
        narrow, wide = int(np.argmin(deviations)), int(np.argmax(deviations))
        return FeatureFacts(
            count=count,
            constant=constant,
            narrowest=(int(varying[narrow]), float(deviations[narrow])),
            widest=(int(varying[wide]), float(deviations[wide])),
        )
