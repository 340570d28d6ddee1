"""How near the plan's learning rate comes to the best of a grid, and how wide its interval must be.

Small networks learn scikit-learn's digits for 150 steps at each of 11 rates, with plain SGD, heavy
ball and Adam; the best rate is the one with the lowest mean loss over the last steps, refined by a
parabola through its neighbours. Estimates are made from the state before the first step: batches of
16 as the probe takes them, once of digits and once synthetic (normal inputs, random targets).
Constants of the compared estimates are fitted on eight networks and checked on eight of other
families; the plan's own constants and widths were chosen with all sixteen in view.

    python bench/learning_rate.py            # about three minutes on one core; seeded
    python bench/learning_rate.py --steps 600
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from keras import layers as kl
from sklearn.datasets import load_digits

from auditor.graph import CompileSettings, LayerGraph, OptimizerSettings
from auditor.measurement import ProbeResult
from auditor.plan.case import Case
from auditor.plan.learning_rate import learning_rate

SEED = 0
BATCH = 32
PROBE_BATCH = 16
PROBE_BATCHES = 3
LAST_STEPS = 20
Builder = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Start:
    """The state before the first step, as a probe measures it: medians over batches."""

    loss: float
    slope: float
    curvature: float
    update_ratio: float
    gradient_norm: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One network under one optimizer: where it starts, and its last loss at each rate."""

    network: str
    family: str
    optimizer: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    digits: Start
    synthetic: Start

    @property
    def best(self) -> float:
        """The best rate, between grid points where a parabola can be laid."""
        logs = np.log10(self.rates)
        k = int(np.argmin(self.losses))
        if not (0 < k < len(logs) - 1 and np.isfinite(self.losses[k + 1])):
            return float(self.rates[k])
        left, middle, right = np.log(self.losses[k - 1 : k + 2])
        offset = 0.5 * (left - right) / (left - 2 * middle + right)
        return float(10 ** (logs[k] + offset * (logs[1] - logs[0])))

    def loss_at(self, rate: float) -> float:
        """The loss after training at a rate, interpolated on the grid in logarithms."""
        finite = np.minimum(np.asarray(self.losses), 1e6)
        return float(np.exp(np.interp(np.log(rate), np.log(self.rates), np.log(finite))))


def mlp(
    depth: int,
    activation: str = "relu",
    *,
    width: int = 64,
    normalized: bool = False,
    scale: float = 1.0,
    units: int = 10,
) -> Any:
    """A plain stack; relu kernels are he_normal times `scale`, others glorot_uniform."""
    initializer: Any = "glorot_uniform"
    if activation == "relu":
        initializer = keras.initializers.VarianceScaling(2.0 * scale**2)
    stack: list[Any] = [kl.Input((64,))]
    for _ in range(depth - 1):
        stack.append(kl.Dense(width, kernel_initializer=initializer, use_bias=not normalized))
        stack += [kl.BatchNormalization()] * normalized
        stack.append(kl.Activation(activation))
    return keras.Sequential([*stack, kl.Dense(units)])


def cnn(*, normalized: bool) -> Any:
    """Three convolutions and a dense head."""
    stack: list[Any] = [kl.Input((64,)), kl.Reshape((8, 8, 1))]
    for filters in (16, 32, 32):
        stack.append(kl.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal"))
        if normalized:
            stack.append(kl.BatchNormalization())
        stack.append(kl.Activation("relu"))
        if filters == 16:
            stack.append(kl.MaxPooling2D())
    return keras.Sequential([*stack, kl.Flatten(), kl.Dense(10)])


def residual_mlp() -> Any:
    """Six pre-normalized residual blocks."""
    entry = kl.Input((64,))
    stream = kl.Dense(64)(entry)
    for _ in range(6):
        branch = kl.Dense(64, "relu", kernel_initializer="he_normal")(
            kl.LayerNormalization()(stream)
        )
        stream = kl.Add()([stream, kl.Dense(64)(branch)])
    return keras.Model(entry, kl.Dense(10)(kl.LayerNormalization()(stream)))


def residual_cnn() -> Any:
    """Two post-activation residual blocks with batch normalization."""
    entry = kl.Input((64,))
    stream = kl.Conv2D(8, 3, padding="same")(kl.Reshape((8, 8, 1))(entry))
    for _ in range(2):
        branch = kl.BatchNormalization()(kl.Conv2D(8, 3, padding="same")(stream))
        branch = kl.Conv2D(8, 3, padding="same")(kl.Activation("relu")(branch))
        stream = kl.Activation("relu")(kl.Add()([stream, kl.BatchNormalization()(branch)]))
    return keras.Model(entry, kl.Dense(10)(kl.GlobalAveragePooling2D()(stream)))


def transformer() -> Any:
    """One pre-normalized encoder block over the eight rows of an image."""
    entry = kl.Input((64,))
    stream = kl.Dense(32)(kl.Reshape((8, 8))(entry))
    normal = kl.LayerNormalization()(stream)
    stream = kl.Add()([stream, kl.MultiHeadAttention(4, 8)(normal, normal)])
    branch = kl.Dense(64, "gelu")(kl.LayerNormalization()(stream))
    stream = kl.Add()([stream, kl.Dense(32)(branch)])
    pooled = kl.GlobalAveragePooling1D()(kl.LayerNormalization()(stream))
    return keras.Model(entry, kl.Dense(10)(pooled))


def lstm() -> Any:
    """One recurrent layer over the eight rows of an image."""
    return keras.Sequential([kl.Input((64,)), kl.Reshape((8, 8)), kl.LSTM(32), kl.Dense(10)])


FITTED: Mapping[str, Builder] = {
    "mlp 2": partial(mlp, 2),
    "mlp 6": partial(mlp, 6),
    "mlp 12": partial(mlp, 12),
    "tanh 6": partial(mlp, 6, "tanh"),
    "batch norm 6": partial(mlp, 6, normalized=True),
    "cnn": partial(cnn, normalized=False),
    "cnn batch norm": partial(cnn, normalized=True),
    "mis-scaled 6": partial(mlp, 6, scale=1.6),
}
HELD_OUT: Mapping[str, Builder] = {
    "wide 3": partial(mlp, 3, width=512),
    "sigmoid 3": partial(mlp, 3, "sigmoid"),
    "selu 10": partial(mlp, 10, "selu"),
    "residual mlp": residual_mlp,
    "residual cnn": residual_cnn,
    "lstm": lstm,
    "transformer": transformer,
    "regression 4": partial(mlp, 4, units=1),
}
GRIDS: Mapping[str, tuple[float, ...]] = {
    "sgd": tuple(np.logspace(-3.5, 1.5, 11).tolist()),
    "heavy ball": tuple(np.logspace(-4, 1, 11).tolist()),
    "adam": tuple(np.logspace(-5, 0, 11).tolist()),
}
DECLARED: Mapping[str, OptimizerSettings] = {
    "sgd": OptimizerSettings(name="sgd", learning_rate=0.01, config={"momentum": 0.0}),
    "heavy ball": OptimizerSettings(name="sgd", learning_rate=0.01, config={"momentum": 0.9}),
    "adam": OptimizerSettings(name="adam", learning_rate=0.001),
}
CONSTANTS = tuple(np.logspace(-2, 0, 41).tolist())
#: Estimates to compare, each up to a constant, as log10 of a rate.
ESTIMATES: Mapping[str, Callable[[Start], float]] = {
    "one rate for all": lambda _: 0.0,
    "1 / update ratio": lambda start: -np.log10(start.update_ratio),
    "1 / gradient norm": lambda start: -np.log10(start.gradient_norm),
    "slope / |curvature|": lambda start: np.log10(start.slope / abs(start.curvature)),
    "Polyak: loss / slope": lambda start: np.log10(start.loss / start.slope),
    "√(1 / update ratio)": lambda start: -np.log10(start.update_ratio) / 2,
    "√(slope / |curvature|)": lambda start: np.log10(start.slope / abs(start.curvature)) / 2,
    "√(loss / slope)": lambda start: np.log10(start.loss / start.slope) / 2,
}


def train_on_grid(name: str, build: Builder, kind: str, family: str, steps: int) -> Outcome:
    """Train one network from one initial state at every rate of its optimizer's grid."""
    keras.utils.set_random_seed(SEED)
    digits = load_digits()
    x = tf.constant((digits.data / 16).astype("float32"))
    model = build()
    if model.output_shape[-1] == 1:
        loss_of: Any = keras.losses.MeanSquaredError()
        y = tf.constant(digits.target[:, None].astype("float32") / 9)
    else:
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        y = tf.constant(digits.target)
    momentum = 0.9 if kind == "heavy ball" else 0.0
    optimizer = keras.optimizers.Adam() if kind == "adam" else keras.optimizers.SGD(0.1, momentum)
    optimizer.build(model.trainable_variables)
    variables = [variable.value for variable in model.trainable_variables]
    rng = np.random.default_rng(SEED)
    order = tf.constant(
        np.stack([rng.choice(len(digits.target), BATCH, replace=False) for _ in range(steps)])
    )

    def gradients(bx: Any, by: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            loss = loss_of(by, model(bx, training=True))
        return loss, tape.gradient(loss, variables)

    @tf.function
    def train(count: Any) -> Any:
        losses = tf.TensorArray(tf.float32, count)
        for step in tf.range(count):
            loss, slope = gradients(tf.gather(x, order[step]), tf.gather(y, order[step]))
            optimizer.apply(slope)
            losses = losses.write(step, loss)
        return losses.stack()

    weights = model.get_weights()
    slots = [variable.numpy() for variable in optimizer.variables]
    draws = [
        rng.choice(len(digits.target), PROBE_BATCH, replace=False) for _ in range(PROBE_BATCHES)
    ]
    real = [(tf.gather(x, draw), tf.gather(y, draw)) for draw in draws]
    fake = [
        (
            tf.constant(rng.standard_normal(bx.shape).astype("float32")),
            tf.gather(y, rng.choice(len(digits.target), PROBE_BATCH)),
        )
        for bx, _ in real
    ]
    measure = partial(measured_start, tf.function(gradients), variables, adaptive=kind == "adam")
    starts = (measure(real), measure(fake))
    final = []
    for rate in GRIDS[kind]:
        model.set_weights(weights)
        for variable, value in zip(optimizer.variables, slots, strict=True):
            variable.assign(value)
        optimizer.learning_rate = rate
        curve = train(tf.constant(steps)).numpy()
        final.append(float(curve[-LAST_STEPS:].mean()) if np.isfinite(curve).all() else np.inf)
    return Outcome(
        network=name,
        family=family,
        optimizer=kind,
        rates=GRIDS[kind],
        losses=tuple(final),
        digits=starts[0],
        synthetic=starts[1],
    )


def measured_start(
    gradients: Any, variables: list[Any], batches: list[Any], *, adaptive: bool
) -> Start:
    """Slope, curvature and update ratio along the optimizer's first step, at unit rate."""
    rows = []
    for x, y in batches:
        loss, gradient = gradients(x, y)
        direction = [g / (tf.abs(g) + 1e-7) if adaptive else g for g in gradient]
        with tf.autodiff.ForwardAccumulator(variables, direction) as accumulator:
            _, again = gradients(x, y)
        product = [accumulator.jvp(g) for g in again]
        ratios = [
            float(tf.norm(d) / tf.norm(v))
            for d, v in zip(direction, variables, strict=True)
            if len(v.shape) > 1
        ]
        slope = sum(float(tf.reduce_sum(g * d)) for g, d in zip(gradient, direction, strict=True))
        bend = sum(float(tf.reduce_sum(h * d)) for h, d in zip(product, direction, strict=True))
        norm = float(tf.linalg.global_norm(gradient))
        rows.append((float(loss), slope, bend, float(np.median(ratios)), norm))
    loss, slope, bend, ratio, norm = (float(value) for value in np.median(rows, axis=0))
    return Start(loss=loss, slope=slope, curvature=bend, update_ratio=ratio, gradient_norm=norm)


def compare_estimates(outcomes: Iterable[Outcome]) -> None:
    """Print, for each estimate and optimizer, its fitted constant and its factor off the best."""
    rows = tuple(outcomes)
    print("\nfactor between an estimate and the best rate: median, worst | held-out networks")
    for kind in GRIDS:
        of_kind = [row for row in rows if row.optimizer == kind]
        best = np.log10([row.best for row in of_kind])
        fitted = np.array([row.family == "fitted" for row in of_kind])
        print(f"{kind}")
        for name, estimate in ESTIMATES.items():
            raw = np.array([estimate(row.digits) for row in of_kind])
            constant = np.median((best - raw)[fitted])
            off = 10 ** np.abs(best - raw - constant)
            fake = np.array([estimate(row.synthetic) for row in of_kind])
            off_fake = 10 ** np.abs(best - fake - constant)
            print(
                f"  {name:24s} constant {10**constant:8.4f}   "
                f"{np.median(off[fitted]):5.2f} {off[fitted].max():7.2f} | "
                f"{np.median(off[~fitted]):5.2f} {off[~fitted].max():9.2f} | "
                f"synthetic {np.median(off_fake):5.2f} {off_fake.max():9.2f}"
            )


def price_constants(outcomes: Iterable[Outcome]) -> None:
    """Print what a constant k in k·√(loss / slope) costs: loss reached over the best's loss."""
    rows = tuple(outcomes)
    print("\nk in k·√(loss / slope): geometric mean of the loss against the best rate's")
    print(f"  {'':12s}{'fitted':>22s}{'held out':>22s}    (cheapest k, its cost)")
    for kind in GRIDS:
        cells = []
        for family in ("fitted", "held out"):
            chosen = [row for row in rows if (row.optimizer, row.family) == (kind, family)]
            costs = [
                np.mean(
                    [
                        np.log(row.loss_at(k * (row.digits.loss / row.digits.slope) ** 0.5))
                        - np.log(min(row.losses))
                        for row in chosen
                    ]
                )
                for k in CONSTANTS
            ]
            cheapest = int(np.argmin(costs))
            cells.append(f"{CONSTANTS[cheapest]:12.3f} {np.exp(costs[cheapest]):9.2f}")
        print(f"  {kind:12s}{cells[0]}{cells[1]}")


def check_recommendation(outcomes: Iterable[Outcome]) -> None:
    """Print what the plan recommends for each network, from a probe and without one."""
    print("\nthe plan's recommendation (declared rate: Keras' default)")
    print(f"  {'':34s}{'best':>9s}{'plan':>9s}{'low':>9s}{'high':>9s}  loss: best, plan, declared")
    tally: dict[tuple[str, str], list[tuple[float, bool, float]]] = {}
    for row in outcomes:
        declared = DECLARED[row.optimizer]
        graph = LayerGraph(
            name=row.network,
            format="keras-live",
            writer="",
            calls=(),
            edges=(),
            inputs=(),
            outputs=(),
            compile=CompileSettings(optimizer=declared),
        )
        for source, start in (("digits", row.digits), ("synthetic", row.synthetic), ("none", None)):
            probe = None if start is None else as_probe(start, source)
            setting = learning_rate(Case(graph=graph, probe=probe), redrawn=False).setting
            if setting is None or setting.low is None or setting.high is None:
                raise AssertionError(f"no learning rate for {row.network}")
            value = float(setting.value or 0.0)
            held = setting.low <= row.best <= setting.high
            factor = max(value / row.best, row.best / value)
            cost = row.loss_at(value) / min(row.losses)
            tally.setdefault((source, row.family), []).append((factor, held, cost))
            if source == "digits":
                print(
                    f"  {row.network:16s}{row.optimizer:12s}"
                    f"{'kept' if value == declared.learning_rate else '':6s}"
                    f"{row.best:9.4f}{value:9.4f}{setting.low:9.4f}{setting.high:9.4f}"
                    f"  {min(row.losses):.3f} {row.loss_at(value):.3f} "
                    f"{row.loss_at(float(declared.learning_rate or 0.0)):.3f}"
                )
    for (source, family), cases in sorted(tally.items()):
        factors, held, costs = (np.array(column) for column in zip(*cases, strict=True))
        print(
            f"  from {source:10s} {family:9s} best rate inside the interval in {held.sum()} of "
            f"{len(held)}; "
            f"value off by {np.median(factors):.1f} (median), {factors.max():.1f} (worst); "
            f"loss against the best's {np.median(costs):.1f} (median), {costs.max():.1f} (worst)"
        )


def as_probe(start: Start, data: str) -> ProbeResult:
    """The measured start as the plan receives it."""
    return ProbeResult(
        backend="tensorflow",
        device="cpu",
        dtype="float32",
        seed=SEED,
        batch_size=PROBE_BATCH,
        batches=PROBE_BATCHES,
        data=data,
        targets=data,
        loss="as the network's head",
        seconds=0.0,
        loss_at_start=start.loss,
        step_slope=-start.slope,
        step_curvature=start.curvature,
    )


def main() -> None:
    """Train, then print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    steps = parser.parse_args().steps
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    outcomes = []
    for family, networks in (("fitted", FITTED), ("held out", HELD_OUT)):
        for name, build in networks.items():
            for kind in GRIDS:
                outcome = train_on_grid(name, build, kind, family, steps)
                losses = " ".join(f"{loss:8.3g}" for loss in outcome.losses)
                print(f"{name:16s}{kind:12s}best {outcome.best:8.5f}  {losses}", flush=True)
                outcomes.append(outcome)
    compare_estimates(outcomes)
    price_constants(outcomes)
    check_recommendation(outcomes)


if __name__ == "__main__":
    main()
