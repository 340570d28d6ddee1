"""Whether the static forecast comes true: forecast and probe side by side over random models.

    python bench/forecast.py                          # all models, the table, the agreement
    python bench/forecast.py --families plain conv    # some of them
    python bench/forecast.py --rows rows.jsonl        # resumable: models in the file are not redone

A seeded family of small Keras models: plain, convolutional, residual, recurrent and attention
stacks × activation × initialization × depth × normalization. Each is audited live, curvature off,
on synthetic batches; the forecast is of the same weights.

- verdict: exploding, vanishing or stable by the thresholds of GEB501 and GEB502, of the probe's
  measured growth and ratio, and by those of GEB512 and GEB513, of the forecast's.
- rate: factor on ‖∂L/∂h‖ a kernel-bearing layer; the error is |log(forecast / probe)|.

Exits with 1 where verdicts agree in less than 90 % of the models, or where the rate is within 15 %
for less than 90 % of those the forecast covers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import layers

from auditor import audit

WITHIN, AGREED = math.log(1.15), 0.9
BATCH, BATCHES = 8, 2
FAMILIES = ("plain", "conv", "residual", "recurrent", "attention")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model: what was forecast, and what was measured."""

    name: str
    family: str
    covered: float
    forecast: str
    forecast_rate: float | None
    forecast_ratio: float | None
    probe: str
    rate: float | None
    ratio: float | None
    seconds: float

    @property
    def error(self) -> float | None:
        """|log(forecast / probe)| of the rate; None where one of the two has none."""
        if not self.forecast_rate or not self.rate:
            return None
        return abs(math.log(self.forecast_rate / self.rate))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model to be built."""

    name: str
    family: str
    build: Callable[[], keras.Model]


def initializer(name: str) -> keras.initializers.Initializer | str:
    """`he_normal` and the like, or `1.5x`: He's law at 1.5 times its standard deviation."""
    if not name.endswith("x"):
        return name
    scale = 2.0 * float(name[:-1]) ** 2
    return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal")


def normalization(name: str) -> keras.Layer | None:
    """A new normalization layer."""
    made: dict[str, Callable[[], keras.Layer]] = {
        "batch": layers.BatchNormalization,
        "layer": layers.LayerNormalization,
        "group": lambda: layers.GroupNormalization(4),
        "rms": layers.RMSNormalization,
    }
    return made[name]() if name in made else None


def plain(activation: str, init: str, depth: int, norm: str, width: int = 64) -> keras.Model:
    """Dense layers in a row."""
    x = inputs = keras.Input((width,))
    for _ in range(depth):
        x = layers.Dense(width, kernel_initializer=initializer(init))(x)
        layer = normalization(norm)
        x = layer(x) if layer is not None else x
        x = layers.Activation(activation)(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def convolutional(activation: str, init: str, depth: int, norm: str) -> keras.Model:
    """3×3 convolutions on 12 pixels, pooled once half way."""
    x = inputs = keras.Input((12, 12, 3))
    for place in range(depth):
        x = layers.Conv2D(24, 3, padding="same", kernel_initializer=initializer(init))(x)
        layer = normalization(norm)
        x = layer(x) if layer is not None else x
        x = layers.Activation(activation)(x)
        if place == depth // 2:
            x = layers.MaxPooling2D()(x) if place % 2 else layers.AveragePooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def residual(activation: str, init: str, depth: int, norm: str) -> keras.Model:
    """Blocks of two dense layers around which a skip connection leads, normalized at the start."""
    inputs = keras.Input((64,))
    x = layers.Dense(64, kernel_initializer=initializer(init))(inputs)
    for _ in range(depth):
        layer = normalization(norm)
        y = layer(x) if layer is not None else x
        y = layers.Dense(64, activation=activation, kernel_initializer=initializer(init))(y)
        y = layers.Dense(64, kernel_initializer=initializer(init))(y)
        x = layers.Add()([x, y])
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def residual_convolutional(activation: str, init: str, depth: int, norm: str) -> keras.Model:
    """Blocks of two convolutions, with an activation behind each sum (He et al. 2016)."""
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(16, 3, padding="same", kernel_initializer=initializer(init))(inputs)
    for _ in range(depth):
        y = x
        for last in (False, True):
            y = layers.Conv2D(16, 3, padding="same", kernel_initializer=initializer(init))(y)
            layer = normalization(norm)
            y = layer(y) if layer is not None else y
            y = y if last else layers.Activation(activation)(y)
        x = layers.Activation(activation)(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def recurrent(cell: str, init: str, depth: int, norm: str, activation: str = "tanh") -> keras.Model:
    """Recurrent layers on one another, then the last step's state."""
    x = inputs = keras.Input((12, 24))
    make = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}[cell]
    for place in range(depth):
        x = make(
            24,
            activation=activation,
            kernel_initializer=initializer(init),
            return_sequences=place < depth - 1,
        )(x)
        layer = normalization(norm) if place < depth - 1 else None
        x = layer(x) if layer is not None else x
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def attention(activation: str, init: str, depth: int, norm: str, before: bool) -> keras.Model:
    """Transformer encoder blocks, normalized before or after each branch."""
    inputs = keras.Input((16, 32))
    x = layers.Dense(32)(inputs)

    def normed(x: keras.KerasTensor) -> keras.KerasTensor:
        layer = normalization(norm)
        return layer(x) if layer is not None else x

    for _ in range(depth):
        y = normed(x) if before else x
        y = layers.MultiHeadAttention(4, 8, kernel_initializer=initializer(init))(y, y)
        x = layers.Add()([x, y])
        x = x if before else normed(x)
        y = normed(x) if before else x
        y = layers.Dense(128, activation=activation, kernel_initializer=initializer(init))(y)
        y = layers.Dense(32, kernel_initializer=initializer(init))(y)
        x = layers.Add()([x, y])
        x = x if before else normed(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def cases() -> Iterator[Case]:
    """The whole family, in a fixed order."""

    def case(family: str, build: Callable[..., keras.Model], *settings: object) -> Case:
        name = f"{family} " + " ".join(str(setting) for setting in settings)
        if build is residual_convolutional:
            name = name.replace("residual", "residual conv")
        return Case(name=name, family=family, build=lambda: build(*settings))

    for activation, init in (
        ("relu", "he_normal"),
        ("relu", "glorot_uniform"),
        ("relu", "2x"),
        ("relu", "0.4x"),
        ("tanh", "glorot_uniform"),
        ("tanh", "2x"),
        ("sigmoid", "glorot_uniform"),
        ("gelu", "he_normal"),
        ("selu", "lecun_normal"),
        ("silu", "1.5x"),
    ):
        for depth in (8, 24):
            yield case("plain", plain, activation, init, depth, "none")
    for activation, norm in (("relu", "batch"), ("tanh", "layer"), ("gelu", "rms")):
        yield case("plain", plain, activation, "he_normal", 16, norm)
        yield case("plain", plain, activation, "2x", 8, norm)
    for activation, init, norm in (
        ("relu", "he_normal", "none"),
        ("relu", "glorot_uniform", "none"),
        ("relu", "2x", "none"),
        ("tanh", "glorot_uniform", "none"),
        ("relu", "he_normal", "batch"),
        ("silu", "he_normal", "group"),
        ("elu", "he_normal", "layer"),
    ):
        for depth in (6, 14):
            yield case("conv", convolutional, activation, init, depth, norm)
    for activation, init, norm in (
        ("relu", "he_normal", "none"),
        ("relu", "glorot_uniform", "none"),
        ("tanh", "glorot_uniform", "layer"),
        ("gelu", "he_normal", "batch"),
        ("relu", "0.4x", "none"),
    ):
        for depth in (4, 12):
            yield case("residual", residual, activation, init, depth, norm)
    for activation, init, norm in (
        ("relu", "he_normal", "batch"),
        ("relu", "he_normal", "none"),
        ("relu", "glorot_uniform", "group"),
    ):
        for depth in (3, 8):
            yield case("residual", residual_convolutional, activation, init, depth, norm)
    for cell in ("lstm", "gru", "rnn"):
        for depth in (4, 8):
            yield case("recurrent", recurrent, cell, "glorot_uniform", depth, "none")
        yield case("recurrent", recurrent, cell, "glorot_uniform", 6, "layer")
        yield case("recurrent", recurrent, cell, "2x", 5, "none")
    for activation, init, norm, before in (
        ("gelu", "glorot_uniform", "layer", True),
        ("relu", "he_normal", "layer", True),
        ("gelu", "glorot_uniform", "layer", False),
        ("gelu", "glorot_uniform", "none", True),
        ("silu", "glorot_uniform", "rms", True),
    ):
        for depth in (2, 5):
            yield case("attention", attention, activation, init, depth, norm, before)


def verdict(rate: float | None, ratio: float | None, depth: int) -> str:
    """By the thresholds of the propagation rules: 10³ either way, of ratio and rate both."""
    if not rate or not ratio:
        return "unknown"
    total = min(max(depth * math.log(rate), -700.0), 700.0)
    log_ratio = math.log(ratio)
    if min(log_ratio, total) >= math.log(1e3):
        return "exploding"
    if max(log_ratio, total) <= math.log(1e-3):
        return "vanishing"
    return "stable"


def measured(case: Case, seed: int) -> Row:
    """The model built, audited, and dropped again."""
    keras.utils.set_random_seed(seed)
    model = case.build()
    model.compile("sgd", "sparse_categorical_crossentropy")
    start = time.perf_counter()
    result = audit(model, probe=True, batch_size=BATCH, batches=BATCHES, curvature=0, seed=seed)
    seconds = time.perf_counter() - start
    predicted, probe = result.forecast, result.probe
    if predicted is None or probe is None:
        raise RuntimeError(f"{case.name}: neither may be missing")
    keras.backend.clear_session()
    return Row(
        name=case.name,
        family=case.family,
        covered=predicted.covered,
        forecast=verdict(predicted.growth_rate, predicted.gradient_ratio, predicted.depth),
        forecast_rate=predicted.growth_rate,
        forecast_ratio=predicted.gradient_ratio,
        probe=verdict(probe.growth_rate, probe.gradient_ratio, probe.depth),
        rate=probe.growth_rate,
        ratio=probe.gradient_ratio,
        seconds=seconds,
    )


def shown(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def report(rows: list[Row]) -> bool:
    """Print the table and what it comes to; whether both marks are reached."""
    print("| model | covered | verdict | probe | rate | probe | error | ratio | probe |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        error = "–" if row.error is None else f"{math.expm1(row.error):.1%}"
        print(
            f"| {row.name} | {row.covered:.0%} | {row.forecast} | {row.probe} "
            f"| {shown(row.forecast_rate)} | {shown(row.rate)} | {error} "
            f"| {shown(row.forecast_ratio)} | {shown(row.ratio)} |"
        )
    reached = True
    for family in (*FAMILIES, "all"):
        chosen = [row for row in rows if family in (row.family, "all")]
        judged = [row for row in chosen if row.probe != "unknown"]
        errors = [row.error for row in chosen if row.error is not None]
        if not judged or not errors:
            continue
        agreed = sum(row.forecast == row.probe for row in judged) / len(judged)
        near = sum(error <= WITHIN for error in errors) / len(errors)
        median = math.expm1(sorted(errors)[len(errors) // 2])
        print(
            f"{family}: {len(chosen)} models, verdicts agree {agreed:.1%}, rate within 15 % "
            f"{near:.1%} of {len(errors)}, median error {median:.1%}"
        )
        reached = agreed >= AGREED and near >= AGREED
    return reached


def main() -> int:
    """Run what is asked for, and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--rows", type=Path, help="a file of rows to add to and to leave out")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    done: dict[str, Row] = {}
    if arguments.rows is not None and arguments.rows.exists():
        lines = arguments.rows.read_text(encoding="utf-8").splitlines()
        done = {row.name: row for row in (Row(**json.loads(line)) for line in lines)}
    rows = []
    for index, case in enumerate(cases()):
        if case.family not in arguments.families:
            continue
        row = done.get(case.name) or measured(case, arguments.seed + index)
        rows.append(row)
        if case.name not in done and arguments.rows is not None:
            with arguments.rows.open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(row)) + "\n")
        print(f"{index + 1}: {row.name}: {row.seconds:.1f} s", file=sys.stderr)
    return 0 if report(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
