"""Local gains of models exported to ONNX and imported again, against the original's.

    python bench/onnx_round_trip.py              # ten torch modules, ten of keras.applications
    python bench/onnx_round_trip.py mlp lstm VGG16

A row a model: calls measured, matched, and in the original with weights (of torch: the calls of
its modules), and the median and worst relative difference of
the forward gain, the backward gain and σ₁. The reference of a torch module are the singular values
of the whole Jacobian in double precision, at the inputs that forward hooks saw; calls are matched
by the path of the module, and a call with its activation by the paths of both. That of a Keras
model is the probe's own measurement of it, with the same random vectors; calls are matched by the
values of their weights. Both run in inference mode on the same inputs, with statistics and factors
of normalizations drawn at random. Fails where more than one in fifty differs by more than 2 %.
Needs torch; at most --calls calls a Keras model are measured.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from torch_modules import MODULES

from auditor.formats import read_model
from auditor.measurement import JacobianMeasurement
from auditor.onnx_import import to_keras
from auditor.probe.backends import load_backend
from auditor.probe.blocks import Linearizer
from auditor.probe.jacobians import measure_jacobians
from auditor.probe.model_io import ModelInputs
from auditor.probe.recording import RecordedCall, record
from auditor.probe.state import preserved, untrained_state

#: The bound that is held on each figure of a call.
BOUND = 0.02
BATCH = 2
APPLICATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "VGG16": (32, {"include_top": False}),
    "MobileNet": (64, {}),
    "MobileNetV2": (64, {}),
    "MobileNetV3Small": (64, {}),
    "ResNet50": (64, {}),
    "ResNet50V2": (64, {}),
    "NASNetMobile": (64, {}),
    "EfficientNetB0": (64, {}),
    "Xception": (72, {}),
    "InceptionV3": (75, {}),
}
Figures = tuple[float, float, float]


@dataclass(kw_only=True)
class Agreement:
    """Relative differences of (forward gain, backward gain, σ₁) by call.

    possible: calls of the original that there are to match; matched: those that were; the
    differences are of the measured ones among them.
    """

    possible: int
    matched: int = 0
    differences: dict[str, Figures] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def row(self, name: str) -> str:
        """The table's row."""
        counts = f"{len(self.differences):4} / {self.matched:4} / {self.possible:4}"
        cells = [f"{name:20} {counts}"]
        for place in range(3):
            values = [one[place] for one in self.differences.values()] or [float("nan")]
            cells.append(f"{np.median(values):9.1e} {max(values):9.1e}")
        return "   ".join(cells)


def figures(found: JacobianMeasurement) -> Figures:
    """Forward gain, backward gain and σ₁."""
    return found.forward_gain, found.backward_gain, found.spectral_norm.value


def relative(found: Figures, wanted: Figures) -> Figures:
    """|found − wanted| over wanted, 0 where both are."""
    one, two, three = (
        abs(a - b) / abs(b) if b else float(a != 0) for a, b in zip(found, wanted, strict=True)
    )
    return one, two, three


def recorded(model: Any, x: np.ndarray[Any, Any]) -> tuple[RecordedCall, ...]:
    """The calls of a model in inference."""
    backend = load_backend(keras.backend.backend())
    inputs = ModelInputs(specs=(), structure=None)
    return record(model, inputs, [x], backend=backend, training=False)


def measured(model: Any, calls: Sequence[RecordedCall]) -> Mapping[str, JacobianMeasurement]:
    """The probe's measurement of calls."""
    with preserved(model) as state:
        linearizer = Linearizer(
            backend=load_backend(keras.backend.backend()),
            variables=(*model.trainable_variables, *untrained_state(model)),
            restart=lambda: state.reseed(0),
        )
        return measure_jacobians(calls, linearizer, seed=0, progress=lambda _: None).found


def export(model: Any, x: torch.Tensor, path: Path) -> None:
    """Write a module as it stands: nothing folded, the batch left open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (x,),
            path,
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
            opset_version=18,
        )


def of_torch(name: str, folder: Path) -> Agreement:
    """One module of torch."""
    torch.manual_seed(0)
    make, shape = MODULES[name]
    module = make().eval()
    for layer in module.modules():
        shaken(layer)
    x = torch.randn(BATCH, *shape)
    path = folder / f"{name}.onnx"
    export(module, x, path)
    graph = read_model(path).graph
    model = to_keras(path)
    calls = recorded(model, x.numpy())
    found = measured(model, calls)
    seen = inputs_of(module, x)
    result = Agreement(possible=0)
    for call in calls:
        paths = list(dict.fromkeys(map(module_path, graph.by_id[call.id].nodes)))
        leaves = [path for path in paths if path in seen]
        if not leaves:
            continue
        result.possible += 1
        if len(leaves) < len(paths) or call.id not in found:
            result.skipped[call.id] = f"nodes of {', '.join(paths)}"
            continue
        result.matched += 1
        wanted = exact([module.get_submodule(leaf) for leaf in leaves], seen[leaves[0]])
        result.differences[call.id] = relative(figures(found[call.id]), wanted)
    return result


def shaken(layer: Any) -> None:
    """Draw factors and statistics of a normalization, which are 1 and 0 otherwise."""
    kind = type(layer).__name__
    if "Norm" not in kind:
        return
    with torch.no_grad():
        for name, low in (("weight", 0.5), ("bias", -0.5), ("running_var", 0.5)):
            if getattr(layer, name, None) is not None:
                getattr(layer, name).uniform_(low, low + 1.0)
        if getattr(layer, "running_mean", None) is not None:
            layer.running_mean.normal_()


def inputs_of(module: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What enters each module without children (or known as one layer), by path."""
    seen: dict[str, torch.Tensor] = {}

    def hook(path: str) -> Callable[..., None]:
        def keep(_: Any, args: tuple[Any, ...]) -> None:
            seen[path] = args[0].detach().clone()

        return keep

    hooks = [
        inner.register_forward_pre_hook(hook(path))
        for path, inner in module.named_modules()
        if path and not any(inner.children())
    ]
    with torch.no_grad():
        module(x)
    for one in hooks:
        one.remove()
    return seen


def exact(layers: Sequence[Any], x: torch.Tensor) -> Figures:
    """Of modules run one after the other: medians over the samples of exact values."""
    doubles = [copy.deepcopy(layer).double() for layer in layers]

    def run(sample: torch.Tensor) -> torch.Tensor:
        for layer in doubles:
            made = layer(sample)
            sample = made[0] if isinstance(made, tuple) else made
        return sample

    norms = []
    for sample in x.double().split(1):
        jacobian = torch.autograd.functional.jacobian(run, sample)
        matrix = jacobian.reshape(-1, sample.numel())
        norms.append((torch.linalg.matrix_norm(matrix), torch.linalg.matrix_norm(matrix, 2)))
    whole, spectral = np.median(np.array(norms), axis=0)
    return float(whole / matrix.shape[0] ** 0.5), float(whole / matrix.shape[1] ** 0.5), spectral


def module_path(node: str) -> str:
    """The path of the module that an exported node belongs to, from its name."""
    found: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if found and part.startswith(f"{found[-1]}."):
            found[-1] = part  # of a list of modules, the list is named before its member
        else:
            found.append(part)
    return ".".join(found)


def of_keras(name: str, folder: Path, most: int) -> Agreement:
    """One model of keras.applications, on torch with the channels first as ONNX has them."""
    keras.config.set_image_data_format("channels_first")
    keras.utils.set_random_seed(0)
    pixels, options = APPLICATIONS[name]
    make = getattr(keras.applications, name)
    original = make(weights=None, input_shape=(3, pixels, pixels), **options)
    original.eval()
    rng = np.random.default_rng(0)
    for variable in original.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0.0, 0.2, variable.shape))
    x = rng.normal(size=(BATCH, 3, pixels, pixels)).astype(np.float32)
    path = folder / f"{name}.onnx"
    export(original, torch.from_numpy(x), path)
    model = to_keras(path)
    theirs, ours = (dict(by_weights(recorded(one, x))) for one in (original, model))
    both = [key for key in theirs if key in ours and same(theirs[key], ours[key])]
    chosen = both[:: max(1, -(-len(both) // most))]
    # By the same names, the random vectors are the same.
    sides = []
    for one, calls in ((original, theirs), (model, ours)):
        picked = [replace(calls[key], id=f"call {place}") for place, key in enumerate(chosen)]
        sides.append(measured(one, picked))
    result = Agreement(possible=len(theirs), matched=len(both))
    for place, key in enumerate(chosen):
        call = f"call {place}"
        if call in sides[0] and call in sides[1]:
            difference = relative(figures(sides[1][call]), figures(sides[0][call]))
            result.differences[theirs[key].id] = difference
    result.skipped = {
        theirs[key].id: "grouped with neighbours" if key in ours else "no call has its weights"
        for key in theirs
        if key not in both
    }
    return result


def same(one: RecordedCall, other: RecordedCall) -> bool:
    """Whether two calls begin and end at the same places: one may have its activation with it."""
    ends = []
    for call in (one, other):
        made = call.floating_outputs(call.inputs)
        ends.append([keras.ops.convert_to_numpy(t) for t in (*call.inputs, *made)])
    return len(ends[0]) == len(ends[1]) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())
        for a, b in zip(*ends, strict=True)
    )


def by_weights(calls: Sequence[RecordedCall]) -> Iterator[tuple[bytes, RecordedCall]]:
    """Calls by the values of their kernel, however it is laid out."""
    for call in calls:
        weights = [keras.ops.convert_to_numpy(w) for w in getattr(call.operation, "weights", ())]
        kernels = [np.sort(w, axis=None).tobytes() for w in weights if w.ndim > 1]
        if kernels:
            yield b"".join(sorted(kernels)), call


def main() -> int:
    """Print the table, and 1 where the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="MODEL")
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    head = (
        f"{'model':20} {'measured/matched/of':>20}   {'forward gain':>19}   {'backward gain':>19}"
    )
    print(f"{head}   {'largest singular':>19}")
    off = total = 0
    with tempfile.TemporaryDirectory(prefix="geb-bench-") as folder:
        for name in chosen.names or (*MODULES, *APPLICATIONS):
            if name in MODULES:
                found = of_torch(name, Path(folder))
            else:
                found = of_keras(name, Path(folder), chosen.calls)
            print(found.row(name), flush=True)
            far = {c: d for c, d in found.differences.items() if not max(d) <= BOUND}
            for call, difference in far.items():
                print(f"    {call}: {', '.join(f'{one:.3g}' for one in difference)}")
            if chosen.verbose:
                for call, why in found.skipped.items():
                    print(f"    {call}: not matched, {why}")
            off, total = off + len(far), total + len(found.differences)
    print(f"{off} of {total} calls differ by more than {BOUND:.0%}")
    return 1 if off > total / 50 else 0


if __name__ == "__main__":
    sys.exit(main())
