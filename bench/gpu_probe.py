"""The probe on a GPU: its cost in training steps, its memory, and its agreement with the CPU.

    KERAS_BACKEND=jax python bench/gpu_probe.py                  # ResNet50, a 24-layer transformer
    KERAS_BACKEND=jax python bench/gpu_probe.py --device cpu --small   # a trial run without a GPU

For each model, in one process: the median of compiled training steps, the whole probe on the
device, split into its phases, the device's peak memory before and after, and the probe of the same
file on the CPU with the same seed. Agreement is the largest relative difference over all calls of
σ₁, ‖J‖_F and ‖∂L/∂h‖, against what the probe itself says a number may be off by. Figures with
their date are kept in docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import keras
import numpy as np

from auditor.formats import read_model
from auditor.measurement import Estimate, ProbeResult
from auditor.probe.backends import load_backend
from auditor.probe.measure import measure
from auditor.probe.settings import ProbeSettings

STEPS = 20


def models(*, small: bool) -> Iterator[tuple[str, Any, int]]:
    """A name, a compiled model and the batch it is trained with."""
    side = 64 if small else 224
    model = keras.applications.ResNet50(weights=None, input_shape=(side, side, 3))
    model.compile("adam", "categorical_crossentropy")
    yield f"ResNet50, {side} pixels", model, 2 if small else 32
    layers, width, length = (2, 64, 32) if small else (24, 1024, 512)
    model = transformer(layers=layers, width=width, length=length)
    model.compile("adam", "sparse_categorical_crossentropy")
    yield f"transformer, {layers} layers of {width}, {length} tokens", model, 2 if small else 8


def transformer(*, layers: int, width: int, length: int) -> Any:
    """A pre-norm encoder over token ids, with a classifier over the vocabulary at each place."""
    tokens = keras.Input((length,), dtype="int32")
    x = keras.layers.Embedding(8192, width)(tokens)
    for _ in range(layers):
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.MultiHeadAttention(width // 64, 64)(y, y)
        x = keras.layers.Add()([x, y])
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(4 * width, activation="gelu")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(width)(y)])
    x = keras.layers.LayerNormalization()(x)
    return keras.Model(tokens, keras.layers.Dense(8192, activation="softmax")(x))


def training_step(model: Any, batch: int) -> float:
    """Seconds of a compiled training step, the median of some."""
    spec, output = model.inputs[0], model.outputs[0]
    rng = np.random.default_rng(0)
    shape = (batch, *spec.shape[1:])
    if "int" in spec.dtype:
        x = rng.integers(0, 8192, shape).astype("int32")
        y = rng.integers(0, output.shape[-1], (batch, *output.shape[1:-1]))
    else:
        x = rng.normal(size=shape).astype("float32")
        y = np.eye(output.shape[-1], dtype="float32")[rng.integers(0, output.shape[-1], batch)]
    took = []
    for _ in range(STEPS + 3):
        begun = time.perf_counter()
        model.train_on_batch(x, y)
        took.append(time.perf_counter() - begun)
    return statistics.median(took[3:])


def probed(path: Path, batch: int, device: str) -> tuple[ProbeResult, dict[str, float]]:
    """The probe of a file on a device, and the seconds of each of its phases."""
    told: list[tuple[float, str]] = []
    model = keras.saving.load_model(path)
    result = measure(
        model,
        read_model(path).graph,
        ProbeSettings(backend="jax", device=device, batch_size=batch),
        load_backend("jax"),
        lambda words: told.append((time.perf_counter(), words)),
    )
    told.append((time.perf_counter(), ""))
    spent: dict[str, float] = {}
    for (begun, words), (ended, _) in pairwise(told):
        phase = words.partition(",")[0].rstrip("0123456789 of")
        spent[phase] = spent.get(phase, 0.0) + ended - begun
    return result, spent


def differences(one: ProbeResult, other: ProbeResult) -> dict[str, tuple[float, float]]:
    """Largest relative difference of each measure, and how often it is within the stated errors."""
    found: dict[str, list[tuple[float, bool]]] = {}
    for call_id, call in one.calls.items():
        twin = other.calls[call_id]
        if call.jacobian is not None and twin.jacobian is not None:
            for name in ("spectral_norm", "frobenius_norm"):
                a, b = getattr(call.jacobian, name), getattr(twin.jacobian, name)
                found.setdefault(name, []).append((_relative(a.value, b.value), _within(a, b)))
        if call.gradient_norm is not None and twin.gradient_norm is not None:
            apart = _relative(call.gradient_norm, twin.gradient_norm)
            found.setdefault("gradient_norm", []).append((apart, apart < 1e-2))
    return {
        name: (max(apart for apart, _ in pairs), statistics.mean(held for _, held in pairs))
        for name, pairs in found.items()
    }


def _relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(one), abs(other), 1e-30)


def _within(one: Estimate, other: Estimate) -> bool:
    return abs(one.value - other.value) <= one.error + other.error + 1e-2 * abs(other.value)


def _peak_mib() -> float | None:
    statistics_of = jax.local_devices()[0].memory_stats() or {}
    peak = statistics_of.get("peak_bytes_in_use")
    return None if peak is None else peak / 2**20


def main() -> None:
    """Print the figures of each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    print(f"{jax.local_devices()[0].device_kind}, jax {jax.__version__}, keras {keras.__version__}")
    for name, model, batch in models(small=chosen.small):
        step = training_step(model, batch)
        trained = _peak_mib()
        with tempfile.TemporaryDirectory(prefix="geb-bench-") as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            del model
            result, spent = probed(path, batch, chosen.device)
            peak = _peak_mib()
            reference, _ = probed(path, min(batch, 2), "cpu")
            same, _ = probed(path, min(batch, 2), chosen.device)
        print(f"\n{name}, batches of {batch}")
        print(f"  a training step {step * 1e3:.1f} ms")
        print(f"  the probe {result.seconds:.1f} s = {result.seconds / step:.0f} steps; by phase:")
        for phase, seconds in spent.items():
            print(f"    {phase:48} {seconds:6.2f} s = {seconds / step:6.1f} steps")
        if peak is not None and trained is not None:
            print(f"  peak memory {trained:.0f} MiB in training, {peak:.0f} MiB with the probe")
        for measure_name, (apart, held) in differences(same, reference).items():
            print(
                f"  {measure_name:16} within {apart:.1e} of the CPU's; {held:.0%} within the error"
            )


if __name__ == "__main__":
    main()
