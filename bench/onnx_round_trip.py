"""Local gains of models exported to ONNX and imported again, against the original's.

    python bench/onnx_round_trip.py              # ten torch modules, ten of keras.applications
    python bench/onnx_round_trip.py mlp lstm VGG16

A row a model: calls of the imported model that stem from layers with weights (of Keras: that hold
a kernel), those of them that were matched with these layers, and those measured; the median and
worst relative difference of the forward gain, the backward gain and σ₁; and what the estimates of
‖J‖_F and σ₁ may be off by themselves at most, relative (the gains are ‖J‖_F over a root).

The reference of a torch module are the singular values of the whole Jacobian in double precision,
at the inputs that forward hooks saw; calls are matched by the path of the module, and a call with
its activation by the paths of both. That of a Keras model is the probe's measurement of the same
layers, with the same random vectors and more of them than the probe takes by itself; how they are
matched says `keras_round_trip`. There, measured counts what is compared: calls that one layer
became are measured as one, and a call that several layers became as the composition of these.
Both sides run in inference mode on the same inputs, with statistics and factors of normalizations
drawn at random.

Fails where a call has no match, or differs by more than 2 %. Needs torch; of a Keras model at most
--calls are measured, spread over it.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from keras_round_trip import layers_of_nodes, matched
from torch_modules import MODULES

from auditor.formats import read_model
from auditor.measurement import JacobianMeasurement
from auditor.onnx_import import to_keras
from auditor.probe import jacobians
from auditor.probe.backends import load_backend
from auditor.probe.blocks import Linearizer
from auditor.probe.jacobians import measure_jacobians
from auditor.probe.model_io import ModelInputs
from auditor.probe.recording import RecordedCall, record
from auditor.probe.state import preserved, untrained_state

#: The bound that is held on each figure of a call.
BOUND = 0.02
BATCH = 2
#: Golub–Kahan steps and draws of signs: many more than the probe's own, whose σ₁ of a large block
#: may be off by more than the bound.
STEPS, DRAWS = 64, 16
APPLICATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "VGG16": (64, {"include_top": False}),
    "MobileNet": (64, {}),
    "MobileNetV2": (64, {}),
    "MobileNetV3Small": (64, {}),
    "ResNet50": (64, {}),
    "ResNet50V2": (64, {}),
    "EfficientNetB0": (64, {}),
    "EfficientNetV2B0": (64, {}),
    "Xception": (72, {}),
    "InceptionV3": (75, {}),
}
#: With the batch left open, the exporter does not know how far their poolings pad.
FIXED_BATCH = frozenset({"Xception"})
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
    errors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def row(self, name: str) -> str:
        """The table's row."""
        counts = f"{self.possible:4} / {self.matched:4} / {len(self.differences):4}"
        cells = [f"{name:20} {counts}"]
        for place in range(3):
            values = [one[place] for one in self.differences.values()] or [float("nan")]
            cells.append(f"{np.median(values):9.1e} {max(values):9.1e}")
        for place in range(2):
            most = max((one[place] for one in self.errors.values()), default=float("nan"))
            cells.append(f"{most:7.1e}")
        return "   ".join(cells)


def figures(found: JacobianMeasurement) -> Figures:
    """Forward gain, backward gain and σ₁."""
    return found.forward_gain, found.backward_gain, found.spectral_norm.value


def errors(found: JacobianMeasurement) -> tuple[float, float]:
    """What ‖J‖_F, and with it the gains, and σ₁ may be off by, relative."""
    one, two = (
        estimate.error / estimate.value if estimate.value else 0.0
        for estimate in (found.frobenius_norm, found.spectral_norm)
    )
    return one, two


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
    thorough = mock.patch.multiple(jacobians, STEPS=STEPS, SMALL_STEPS=STEPS, DRAWS=DRAWS)
    with thorough, preserved(model) as state:
        linearizer = Linearizer(
            backend=load_backend(keras.backend.backend()),
            variables=(*model.trainable_variables, *untrained_state(model)),
            restart=lambda: state.reseed(0),
        )
        return measure_jacobians(calls, linearizer, seed=0, progress=lambda _: None).found


def export(model: Any, x: torch.Tensor, path: Path, *, fixed: bool = False) -> None:
    """Write a module as it stands: nothing folded, the batch left open unless it is `fixed`."""
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
            dynamic_axes=None if fixed else {"x": {0: "batch"}},
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
        result.errors[call.id] = errors(found[call.id])
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


def of_application(name: str, folder: Path, most: int) -> Agreement:
    """One model of keras.applications, on torch with the channels first as ONNX has them."""
    keras.config.set_image_data_format("channels_first")
    keras.utils.set_random_seed(0)
    pixels, options = APPLICATIONS[name]
    make = getattr(keras.applications, name)
    original = make(weights=None, input_shape=(3, pixels, pixels), **options)
    rng = np.random.default_rng(0)
    for variable in original.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0.0, 0.2, variable.shape))
    x = rng.normal(size=(BATCH, 3, pixels, pixels)).astype(np.float32)
    return of_keras(original, x, folder / name, most, fixed=name in FIXED_BATCH)


def of_keras(
    original: Any,
    x: np.ndarray[Any, Any],
    stem: Path,
    most: int | None = None,
    *,
    fixed: bool = False,
) -> Agreement:
    """A functional model on torch; files are written that begin with `stem`."""
    original.eval()
    path, scoped = stem.with_suffix(".onnx"), stem.with_suffix(".scoped.onnx")
    write = partial(export, fixed=fixed)
    write(original, torch.from_numpy(x), path)
    layers = layers_of_nodes(write, original, torch.from_numpy(x), scoped, path)
    graph = read_model(path).graph
    model = to_keras(path)
    theirs, ours = ({call.id: call for call in recorded(one, x)} for one in (original, model))
    pairs, without = matched(original, theirs, graph, ours, layers)
    count = sum(len(pair.held(ours)) for pair in pairs)
    result = Agreement(possible=count + len(without), matched=count, skipped=without)
    most = min(most or len(pairs), len(pairs))
    places = np.linspace(0, len(pairs) - 1, most).round().astype(int)
    chosen = [pairs[place] for place in places]
    # By the same names, the random vectors are the same.
    wanted = measured(original, [replace(pair.original, id=pair.title) for pair in chosen])
    found = measured(model, [replace(pair.imported, id=pair.title) for pair in chosen])
    for pair in chosen:
        result.differences[pair.title] = (float("nan"),) * 3
        if pair.title in wanted and pair.title in found:
            sides = found[pair.title], wanted[pair.title]
            one, other = map(figures, sides)
            result.differences[pair.title] = relative(one, other)
            result.errors[pair.title] = tuple(map(max, *map(errors, sides)))
    return result


def main() -> int:
    """Print the table, and 1 where the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="MODEL")
    parser.add_argument("--calls", type=int, default=24)
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    head = f"{'':20} {'calls: all, matched,':>18}   {'forward gain':>19}   {'backward gain':>19}"
    print(f"{head}   {'largest singular':>19}   own error of")
    twice = f"{'median':>9} {'worst':>9}"
    print(f"{'model':20} {'measured':>18}   {twice}   {twice}   {twice}     gains       σ₁")
    off = total = unmatched = 0
    with tempfile.TemporaryDirectory(prefix="geb-bench-") as folder:
        for name in chosen.names or (*MODULES, *APPLICATIONS):
            if name in MODULES:
                found = of_torch(name, Path(folder))
            else:
                found = of_application(name, Path(folder), chosen.calls)
            print(found.row(name), flush=True)
            far = {c: d for c, d in found.differences.items() if not max(d) <= BOUND}
            shown = found.differences if chosen.verbose else far
            for call, difference in shown.items():
                print(f"    {call}: {', '.join(f'{one:.3g}' for one in difference)}")
            if chosen.verbose:
                for call, why in found.skipped.items():
                    print(f"    {call}: not matched, {why}")
            off, total = off + len(far), total + len(found.differences)
            unmatched += found.possible - found.matched
    print(f"{off} of {total} differ by more than {BOUND:.0%}; {unmatched} calls without a match")
    return 1 if off or unmatched else 0


if __name__ == "__main__":
    sys.exit(main())
