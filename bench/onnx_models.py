"""Reads every ONNX model it is pointed at, and holds every tensor against onnx's own reading.

    python bench/onnx_models.py                        # the test data of the installed onnx
    python bench/onnx_models.py FOLDER ... FILE ...    # and the models in these

Prints a row a source: models read, models refused (which must be 0), hazards seen (0), tensors
(initializers and constants, those of graphs within nodes too) compared byte for byte with
`onnx.numpy_helper.to_array`, those that differ (0), those not read, bytes compared, seconds that
geb-audit's reading took. Exits 1 where a figure that must be 0 is not.

The node tests that a release of onnx ships no files for are built by its own generator and read as
they would be from a file.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from auditor.errors import UnreadableModel
from auditor.finding import Severity
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.formats.onnx_file import TensorPlace, read_onnx, read_tensors
from auditor.formats.onnx_tensors import StoredTensor

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
#: Folders of onnx's data that are named as one source each.
KINDS = ("node", "simple", "light", "real", "pytorch-converted", "pytorch-operator")


@dataclass
class Tally:
    """What was seen of the models of one source."""

    models: int = 0
    refused: list[str] = field(default_factory=list)
    hazards: list[str] = field(default_factory=list)
    compared: int = 0
    different: list[str] = field(default_factory=list)
    unread: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether all figures that must be 0 are."""
        return not (self.refused or self.hazards or self.different)


def compare(path: Path, tally: Tally) -> None:
    """Read one model, and compare its tensors."""
    tally.models += 1
    begun = time.perf_counter()
    try:
        file = read_onnx(path, DEFAULT_LIMITS)
        ours = read_tensors(path, DEFAULT_LIMITS)
    except UnreadableModel as error:
        tally.refused.append(str(error))
        return
    finally:
        tally.seconds += time.perf_counter() - begun
    for hazard in file.hazards:
        if hazard.severity is not Severity.INFO:  # GEB910: operators of other domains
            tally.hazards.append(f"{path}: {hazard.code} {hazard.place}: {hazard.what}")
    model = onnx.load(path)
    theirs = dict(stored(model.graph, ()))
    if set(ours) != set(theirs):
        tally.different.append(f"{path}: other tensors: {set(ours) ^ set(theirs)}")
    for place in set(ours) & set(theirs):
        _compare(f"{path}: {place}", ours[place], theirs[place], tally)


def stored(
    graph: onnx.GraphProto, place: TensorPlace
) -> Iterator[tuple[TensorPlace, onnx.TensorProto | onnx.SparseTensorProto]]:
    """Tensors by place, as `read_tensors` names it."""
    for tensor in graph.initializer:
        yield (*place, tensor.name), tensor
    for sparse in graph.sparse_initializer:
        yield (*place, sparse.values.name), sparse
    for index, node in enumerate(graph.node):
        for attribute in node.attribute:
            name = attribute.name
            if attribute.HasField("t"):
                yield (*place, index, name), attribute.t
            if attribute.HasField("sparse_tensor"):
                yield (*place, index, name), attribute.sparse_tensor
            if attribute.HasField("g"):
                yield from stored(attribute.g, (*place, index, name))
            for number, inner in enumerate(attribute.graphs):
                yield from stored(inner, (*place, index, f"{name}_{number}"))


def _compare(
    place: str,
    ours: StoredTensor,
    theirs: onnx.TensorProto | onnx.SparseTensorProto,
    tally: Tally,
) -> None:
    if isinstance(theirs, onnx.SparseTensorProto):
        wanted = _dense(theirs)
    else:
        wanted = np.asarray(numpy_helper.to_array(theirs))
    if ours.read is None:
        tally.unread += 1
        return
    found = ours.read()
    tally.compared += 1
    tally.bytes += wanted.nbytes
    same = found.dtype == wanted.dtype and found.shape == wanted.shape == ours.shape
    if wanted.dtype.kind == "O":
        same = same and found.tolist() == wanted.tolist()
    else:
        same = same and found.tobytes() == wanted.tobytes()
    if not same:
        tally.different.append(place)


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    values = numpy_helper.to_array(sparse.values)
    indices = numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense


def sources(arguments: list[str], built: Path) -> Iterator[tuple[str, list[Path]]]:
    """(name, model files) of everything to read."""
    for kind in KINDS:
        files = sorted((DATA / kind).glob("**/*.onnx"))
        if files:
            yield f"onnx {onnx.__version__}: {kind}", files
    yield f"onnx {onnx.__version__}: node tests, built", _built(built)
    for argument in arguments:
        path = Path(argument)
        files = sorted(path.glob("**/*.onnx")) if path.is_dir() else [path]
        yield path.name, files


def _built(folder: Path) -> list[Path]:
    """The models of onnx's node tests, written to a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests' own expected outputs overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = {case.name: case.model for case in collect_testcases(None) if case.model}
    for name, model in cases.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return sorted(folder.glob("*.onnx"))


def main(arguments: list[str]) -> int:
    """Print the table; 1 where a figure that must be 0 is not."""
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="onnx-models-") as folder:
        for name, files in sources(arguments, Path(folder)):
            tally = tallies[name] = Tally()
            for path in files:
                compare(path, tally)
    print(table(tallies))
    for tally in tallies.values():
        for line in (*tally.refused, *tally.hazards, *tally.different):
            print(line)
    return 0 if all(tally.sound for tally in tallies.values()) else 1


def table(tallies: Mapping[str, Tally]) -> str:
    """The figures, a row a source."""
    head = ("source", "read", "refused", "hazards", "tensors", "differ", "unread", "MiB", "seconds")
    rows = [
        (
            name,
            f"{t.models - len(t.refused)}",
            f"{len(t.refused)}",
            f"{len(t.hazards)}",
            f"{t.compared}",
            f"{len(t.different)}",
            f"{t.unread}",
            f"{t.bytes / 2**20:.1f}",
            f"{t.seconds:.1f}",
        )
        for name, t in tallies.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
