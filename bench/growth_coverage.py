"""Whether the reported growth intervals hold the true rate: random models with known answers.

    python bench/growth_coverage.py                 # 200 models, a table by family
    python bench/growth_coverage.py --models 40 --seed 7

Each model is probed in process, on synthetic batches. Truth is the ensemble's: exp of the expected
growth of log ‖∂L/∂h‖ a layer (or block) at the model's own width, which the regression's slope
estimates without bias. It is not the growth of the expected square, which mean-field theory gives:
for a single draw of a net of finite width the logarithm is smaller by about 1/width (Jensen).

- orthogonal: dense layers Q·s, or convolutions with Q·s in the middle (delta-orthogonal, Xiao et
  al. 2018), without activation: every gradient grows by s exactly.
- relu: Gaussian dense layers of variance s²·2/n. ‖∂L/∂h‖² is multiplied by (2s²/n)·χ²_k with
  k ~ Binomial(n, ½), exactly (Hanin & Nica 2020, "Products of many large random matrices").
- tanh: Gaussian dense layers at their mean-field fixed point; the truth by simulating the same
  net in NumPy.
- residual: x + α·W₂ relu(W₁ x), x + α·W x; the growth of the squared norm is that of
  ‖g + α·v‖², v Gaussian given g, with χ = ‖v‖²/‖g‖² as for relu: √(1 + α²χ) in infinite width.

Prints, for each family: models, share whose 95 % interval holds the truth, medians of the
interval's relative width and of the error. Exits with 1 below `--least` of all models.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from auditor.formats.keras_live import read_live_model
from auditor.formats.limits import DEFAULT_LIMITS
from auditor.probe.backends import PassInputs, load_backend
from auditor.probe.prepare import prepare
from auditor.probe.propagation import Propagation, propagation
from auditor.probe.settings import ProbeSettings
from auditor.probe.state import preserved
from auditor.probe.tally import Tally
from auditor.probe.training_pass import TrainingPass

Array = np.ndarray[Any, Any]
Rng = np.random.Generator

#: Draws of the scalar laws that the truth of ReLU and residual nets is averaged over.
LAW_DRAWS = 200_000
#: Nets simulated for the truth of a tanh net.
TANH_NETS = 200
#: Layers simulated for a settled signal, and those behind them that are averaged over.
TANH_DEPTH = 12
BATCH = 8
BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A random model and the true growth: a layer's, or a block's for residual nets."""

    family: str
    model: keras.Model
    rate: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One chain, probed."""

    family: str
    rate: float
    found: float
    interval: tuple[float, float]

    @property
    def covered(self) -> bool:
        """Whether the reported interval holds the truth."""
        return self.interval[0] <= self.rate <= self.interval[1]

    @property
    def width(self) -> float:
        """The interval's width in the logarithm."""
        return math.log(self.interval[1] / self.interval[0])

    @property
    def error(self) -> float:
        """The estimate's error in the logarithm."""
        return abs(math.log(self.found / self.rate))


def orthogonal_dense(rng: Rng) -> Chain:
    """Dense layers s·Q, Q uniform over the orthogonal matrices."""
    width, depth = int(rng.integers(16, 97)), int(rng.integers(6, 25))
    gain = _gain(rng)
    made = [layers.Dense(width, use_bias=False, name=f"dense_{index}") for index in range(depth)]
    model = _classifier((width,), made)
    for layer in made:
        layer.set_weights([gain * _orthogonal(rng, width)])
    return Chain(family="orthogonal", model=model, rate=gain)


def orthogonal_convolution(rng: Rng) -> Chain:
    """3×3 convolutions with s·Q in the middle and zeros around it."""
    channels, depth = int(rng.integers(4, 17)), int(rng.integers(6, 17))
    gain = _gain(rng)
    made = [
        layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"conv_{index}")
        for index in range(depth)
    ]
    model = _classifier((6, 6, channels), [*made, layers.Flatten()])
    for layer in made:
        kernel = np.zeros((3, 3, channels, channels), np.float32)
        kernel[1, 1] = gain * _orthogonal(rng, channels)
        layer.set_weights([kernel])
    return Chain(family="orthogonal", model=model, rate=gain)


def relu_dense(rng: Rng) -> Chain:
    """Gaussian dense layers of variance s²·2/n, with ReLU."""
    width, depth = int(rng.integers(48, 129)), int(rng.integers(8, 31))
    gain = _gain(rng)
    made = [
        layers.Dense(width, activation="relu", use_bias=False, name=f"dense_{index}")
        for index in range(depth)
    ]
    model = _classifier((width,), made)
    for layer in made:
        layer.set_weights([gain * math.sqrt(2 / width) * _gaussian(rng, width)])
    return Chain(family="relu", model=model, rate=gain * relu_growth(rng, width))


def tanh_dense(rng: Rng) -> Chain:
    """Gaussian dense layers of variance s²/n with tanh, its signal settled from the start."""
    width, depth = int(rng.choice([48, 64, 96])), int(rng.integers(8, 25))
    gain = float(rng.choice([0.7, 0.9, 1.3, 1.6, 2.0]))
    made = [
        layers.Dense(width, activation="tanh", use_bias=False, name=f"dense_{index}")
        for index in range(depth)
    ]
    # What stands before settles the signal; it has another width and so is a stage of its own.
    settling = [
        layers.Dense(width + 1, activation="tanh", use_bias=False, name=f"settle_{index}")
        for index in range(TANH_DEPTH)
    ]
    for layer in settling:
        layer.trainable = False
    model = _classifier((width + 1,), [*settling, *made])
    for layer in [*settling, *made]:
        shape = layer.kernel.shape
        layer.set_weights([gain * _gaussian(rng, *shape) / math.sqrt(shape[0])])
    return Chain(family="tanh", model=model, rate=tanh_growth(width, gain))


def residual_relu(rng: Rng) -> Chain:
    """A stack of x + α·W₂ relu(W₁ x), W₁ of variance 2/n and W₂ of 1/n: χ = 1."""
    width, depth = int(rng.integers(32, 97)), int(rng.integers(6, 25))
    branch_scale = float(np.exp(rng.uniform(math.log(0.1), math.log(1.0))))

    def branch(x: Any, index: int) -> Any:
        inner = layers.Dense(width, activation="relu", use_bias=False, name=f"inner_{index}")(x)
        return layers.Dense(width, use_bias=False, name=f"outer_{index}")(inner)

    model = _residual(width, depth, branch)
    for index in range(depth):
        model.get_layer(f"inner_{index}").set_weights(
            [math.sqrt(2 / width) * _gaussian(rng, width)]
        )
        model.get_layer(f"outer_{index}").set_weights(
            [branch_scale / math.sqrt(width) * _gaussian(rng, width)]
        )
    squares = 2 / width * rng.chisquare(rng.binomial(width, 0.5, LAW_DRAWS))
    return Chain(
        family="residual",
        model=model,
        rate=residual_growth(rng, width, branch_scale * np.sqrt(squares)),
    )


def residual_linear(rng: Rng) -> Chain:
    """A stack of x + α·W x, W of variance 1/n: χ = 1."""
    width, depth = int(rng.integers(32, 97)), int(rng.integers(6, 25))
    branch_scale = float(np.exp(rng.uniform(math.log(0.1), math.log(1.0))))
    model = _residual(
        width,
        depth,
        lambda x, index: layers.Dense(width, use_bias=False, name=f"inner_{index}")(x),
    )
    for index in range(depth):
        model.get_layer(f"inner_{index}").set_weights(
            [branch_scale / math.sqrt(width) * _gaussian(rng, width)]
        )
    return Chain(
        family="residual",
        model=model,
        rate=residual_growth(rng, width, np.full(LAW_DRAWS, branch_scale)),
    )


#: The families, and of how many models in ten each is.
MAKERS: tuple[Callable[[Rng], Chain], ...] = (
    orthogonal_dense,
    relu_dense,
    tanh_dense,
    residual_relu,
    orthogonal_convolution,
    relu_dense,
    tanh_dense,
    residual_linear,
)


def relu_growth(rng: Rng, width: int) -> float:
    """The factor exp E ½ log((2/n)·χ²_k), k ~ Binomial(n, ½)."""
    squares = 2 / width * rng.chisquare(rng.binomial(width, 0.5, LAW_DRAWS))
    return math.exp(float(np.mean(np.log(squares))) / 2)


def residual_growth(rng: Rng, width: int, sizes: Array) -> float:
    """The factor exp E ½ log‖e + r·z/√n‖² for a unit vector e, z ~ N(0, I_n) and drawn sizes r."""
    along = 1 + sizes * rng.normal(size=sizes.size) / math.sqrt(width)
    across = np.square(sizes) * rng.chisquare(width - 1, sizes.size) / width
    return math.exp(float(np.mean(np.log(np.square(along) + across))) / 2)


@functools.cache
def tanh_growth(width: int, gain: float) -> float:
    """The mean growth of log ‖Jᵀ r‖ a layer, over simulated nets behind a settled signal."""
    rng = np.random.default_rng([width, round(100 * gain)])
    steps = []
    for _ in range(TANH_NETS):
        weights = [gain * _gaussian(rng, width) / math.sqrt(width) for _ in range(2 * TANH_DEPTH)]
        h, slopes = _gaussian(rng, 1, width), []
        for weight in weights:
            h = np.tanh(h @ weight)
            slopes.append(1 - np.square(h))
        gradient, norms = _gaussian(rng, 1, width), []
        settled = list(zip(weights, slopes, strict=True))[TANH_DEPTH:]
        for weight, slope in reversed(settled):
            gradient = (gradient * slope) @ weight.T
            norms.append(float(np.linalg.norm(gradient)))
        steps.append(math.log(norms[-1] / norms[0]) / (len(norms) - 1))
    return math.exp(float(np.mean(steps)))


def examine(chain: Chain, seed: int) -> Outcome:
    """Probe one chain: passes over two batches, and the growth that a report gives."""
    found = _propagation(chain.model, seed)
    if chain.family == "residual":
        (growth,) = (stage for stage in found.stages if stage.residual)
        rate, interval = growth.rate, growth.interval
    else:
        assert found.growth is not None
        rate, interval = found.growth.rate, found.growth.interval
    assert interval is not None
    return Outcome(family=chain.family, rate=chain.rate, found=rate, interval=interval)


def sample(models: int, seed: int) -> Iterator[Outcome]:
    """Outcomes of this many random models, the families in turn."""
    for index in range(models):
        rng = np.random.default_rng([seed, index])
        chain = MAKERS[index % len(MAKERS)](rng)
        yield examine(chain, seed + index)
        keras.backend.clear_session()


def _propagation(model: keras.Model, seed: int) -> Propagation:
    """The passes of a probe that growth is read from, without all else that a probe measures."""
    graph = read_live_model(model, DEFAULT_LIMITS).graph
    settings = ProbeSettings(seed=seed, batch_size=BATCH, batches=BATCHES)
    with preserved(model) as state:
        prepared = prepare(model, graph, settings)
        program = TrainingPass(
            model=model,
            graph=graph,
            inputs=prepared.inputs,
            losses=prepared.losses,
            batch=prepared.batch_size,
        )
        run = load_backend(keras.backend.backend()).compile(program)
        tally = None
        for index, batch in enumerate(prepared.batches):
            state.begin_pass(seed + index)
            values = run(PassInputs(x=batch.x, y=batch.y, cotangents=prepared.no_cotangents)).values
            tally = tally or Tally(
                slots=program.slots,
                calls=graph.by_id,
                batch=prepared.batch_size,
                sample_factor=float(prepared.batch_size),
            )
            tally.add(values, 1.0)
    assert tally is not None
    return propagation(graph, tally)


def _classifier(shape: tuple[int, ...], stack: list[Any]) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *stack, layers.Dense(10, name="head")])
    return _compiled(model)


def _residual(width: int, depth: int, branch: Callable[[Any, int], Any]) -> keras.Model:
    x = inputs = keras.Input((width,))
    x = layers.Dense(width, use_bias=False, name="stem")(x)
    for index in range(depth):
        x = layers.Add(name=f"sum_{index}")([x, branch(x, index)])
    return _compiled(keras.Model(inputs, layers.Dense(10, name="head")(x)))


def _compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model


def _gain(rng: Rng) -> float:
    """1 for one model in three, else within a factor of 1.5."""
    return 1.0 if rng.random() < 1 / 3 else float(np.exp(rng.uniform(-0.4, 0.4)))


def _gaussian(rng: Rng, rows: int, columns: int | None = None) -> Array:
    return rng.normal(size=(rows, columns or rows))


def _orthogonal(rng: Rng, size: int) -> Array:
    """Uniform over the orthogonal matrices (Mezzadri 2007)."""
    q, r = np.linalg.qr(_gaussian(rng, size))
    uniform: Array = q * np.sign(np.diag(r))
    return uniform


def main() -> int:
    """Probe the models, print the table, compare with the least coverage."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=float, default=0.9, help="share that must be covered")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    started = time.perf_counter()
    outcomes = list(sample(options.models, options.seed))
    print(f"{'family':<12}{'models':>7}{'covered':>9}{'width':>11}{'error':>11}")
    families = sorted({outcome.family for outcome in outcomes})
    for family in [*families, "all"]:
        of = [outcome for outcome in outcomes if family in (outcome.family, "all")]
        covered = sum(outcome.covered for outcome in of) / len(of)
        width = statistics.median(outcome.width for outcome in of)
        error = statistics.median(outcome.error for outcome in of)
        print(f"{family:<12}{len(of):>7}{covered:>9.1%}{width:>11.2g}{error:>11.2g}")
    print(f"{time.perf_counter() - started:.0f} s")
    return 0 if covered >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
