"""Whether what is read of every model of keras.applications equals what Keras says of it itself.

Each constructor is called without weights, at the smallest of a few input sizes that it accepts;
all weights are drawn at random, the model is saved as `.keras` and as `.h5`, loaded by Keras, and
compared: calls in their order, edges, output shapes and types, numbers of values and of trainable
ones, and every weight's name and bits. One model at a time, its files deleted after it: the largest
needs 5 GB of memory and 1.4 GB of disk.

    python bench/keras_applications.py                  # the whole list, about half an hour
    python bench/keras_applications.py --only ResNet50  # may be given several times
    python bench/keras_applications.py --after NASNetLarge

Exits 1 on any difference.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import keras
from keras.src.applications.convnext import LayerScale
from keras_comparison import differences, randomize

from auditor.formats.read import read_model
from auditor.graph.operators import Op

#: Sides of an image, smallest first; a constructor takes the first that it allows.
SIDES = (32, 71, 75, 331)
SUFFIXES = (".keras", ".h5")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file: what was read, how long that took (seconds), and where it differs.

    `loads` is whether Keras could load it, or the model that was saved had to stand for it.
    """

    name: str
    suffix: str
    calls: int
    weights: int
    parameters: int
    seconds: float
    loads: bool
    differences: tuple[str, ...]


def constructors() -> dict[str, Any]:
    """The models of keras.applications, by name."""
    return {
        name: value
        for name, value in sorted(vars(keras.applications).items())
        if inspect.isfunction(value) and name[0].isupper()
    }


def smallest(make: Any) -> keras.Model:
    """A model without weights, of the first side of an image that the constructor allows."""
    for side in SIDES[:-1]:
        try:
            return make(weights=None, input_shape=(side, side, 3))
        except ValueError:
            keras.utils.clear_session()
    return make(weights=None, input_shape=(SIDES[-1], SIDES[-1], 3))


def compare(name: str, make: Any, folder: Path) -> Iterable[Row]:
    """Save a model in both formats and compare what is read with what Keras loads."""
    keras.utils.clear_session()
    model = smallest(make)
    randomize(model)
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    for path in paths:
        model.save(path)
    for path in paths:
        keras.utils.clear_session()
        gc.collect()
        start = time.perf_counter()
        file = read_model(path)
        seconds = time.perf_counter() - start
        graph = file.graph
        loaded = load(path)
        wrong = differences(model if loaded is None else loaded, graph)
        wrong += [f"{hazard.code} at {hazard.place}" for hazard in file.hazards]
        wrong += [f"{call.id}: {call.note}" for call in graph.calls if call.op is Op.OPAQUE]
        wrong += [f"note: {note}" for note in graph.notes]
        yield Row(
            name=name,
            suffix=path.suffix,
            calls=len(graph.calls),
            weights=sum(len(call.weights) for call in graph.layers()),
            parameters=graph.parameters,
            seconds=seconds,
            loads=loaded is not None,
            differences=tuple(wrong),
        )
        del loaded
        path.unlink()


def load(path: Path) -> keras.Model | None:
    """What Keras makes of the file; None where it cannot load what it saved itself.

    Keras 3.15 saves `x + 3.0` in an `.h5` and does not load it: it takes the operation Add for the
    layer of that name, as which its arguments make no sense.
    """
    try:
        return keras.saving.load_model(path, {"LayerScale": LayerScale}, compile=False)
    except (TypeError, ValueError):
        if path.suffix == ".h5":
            return None
        raise


def main() -> int:
    """Compare the models asked for; 1 when anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="this model")
    parser.add_argument("--after", default="", metavar="NAME", help="those after it in the list")
    parser.add_argument("--folder", type=Path, help="where files are written, and deleted again")
    options = parser.parse_args()
    models = constructors()
    names = options.only or [name for name in models if name > options.after]
    unknown = [name for name in names if name not in models]
    if unknown:
        parser.error(f"keras.applications has no {', '.join(unknown)}")
    print(
        f"{'model':22}{'file':8}{'calls':>7}{'weights':>9}{'values':>13}{'read s':>8}  differences"
    )
    total = 0
    for name in names:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for row in compare(name, models[name], Path(folder)):
                print(
                    f"{row.name:22}{row.suffix:8}{row.calls:7}{row.weights:9}"
                    f"{row.parameters:13,}{row.seconds:8.2f}  {len(row.differences) or 'none'}"
                    f"{'' if row.loads else ' (from the model saved: Keras cannot load it)'}",
                    flush=True,
                )
                for line in row.differences[:10]:
                    print(f"    {line}", flush=True)
                total += len(row.differences)
    print(f"{len(names)} models, {total} differences")
    return int(total > 0)


if __name__ == "__main__":
    raise SystemExit(main())
