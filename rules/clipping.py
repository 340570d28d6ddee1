"""GEB4 and GEB6, gradient clipping: set wrongly, and missing where it is needed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.compile_settings import OptimizerSettings
from auditor.graph.dimensions import dimension
from auditor.graph.operators import RECURRENT_OPS
from auditor.graph.paths import reaching_outputs
from auditor.measurement import ProbeResult
from auditor.rule import Context, Needs, Option, rule

from .wording import ids, names

#: Keras' three ways to clip; an optimizer takes one of them.
MODES = ("global_clipnorm", "clipnorm", "clipvalue")
#: Optimizers whose step does not depend on the gradient's scale, but for their epsilon.
SCALE_FREE = frozenset(
    {"adam", "adamw", "adamax", "nadam", "rmsprop", "adadelta", "adafactor", "lamb", "lion", "muon"}
)
#: Gradients so many times an adaptive optimizer's epsilon still make full steps.
ABOVE_EPSILON = 10.0
DEFAULT_EPSILON = 1e-7


@rule(
    "GEB407",
    "clip-misuse",
    severity=Severity.WARNING,
    since="0.1",
    needs=Needs.COMPILED,
    options=(
        Option(
            name="orders",
            default=100.0,
            meaning="how many times below the measured gradient a clip no longer cuts spikes only",
        ),
    ),
)
def clip_misuse(context: Context) -> Iterator[Finding | Skipped]:
    """Gradient clipping that contradicts itself, does nothing, or cuts every gradient.

    ## What it does
    Warns when an optimizer has two of `clipnorm`, `clipvalue` and `global_clipnorm`, and when one
    of them is zero or negative, which Keras takes for none. With a probe, warns when the clip is
    more than `orders` times below what was measured: the global norm, the layers' norms or the
    size of single entries, as its kind is. For optimizers that divide by the gradient's size that
    is a warning only where what is left does not stand out from their epsilon, else information.

    ## Why is this bad
    Keras applies one mode and refuses to load a model with two: what was trained cannot be
    trained on. A clip is meant for the rare steep step. One far below every gradient shortens
    each step alike, so that the learning rate is in truth a fraction of the one declared; by
    value, it also turns every gradient into its sign.

    ## Evidence
    The settings, and the measured gradient they are held against.

    ## Example
    ```python
    keras.optimizers.SGD(0.1, global_clipnorm=1e-4)
    ```

    ## Use instead
    ```python
    keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    ```

    ## Options
    - `orders`: how many times below the measured gradient a clip no longer cuts spikes only, 100
      by default.

    ## Known problems
    The gradient is measured at the start, where it may be larger than later on. Normalized
    gradient descent, a clip far below on purpose, is accused wrongly.

    ## References
    - Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks,
      https://arxiv.org/abs/1211.5063
    - Seetharaman et al. 2020, AutoClip: adaptive gradient clipping for source separation networks,
      https://arxiv.org/abs/2007.14469
    - Keras issue 17278, Inconsistency in connection with setting both clipnorm and
      global_clipnorm, https://github.com/keras-team/keras/issues/17278
    """
    graph = context.graph
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    if optimizer is None:
        yield context.skip("the model was saved without an optimizer")
        return
    declared = {mode: value for mode in MODES if (value := optimizer.number(mode)) is not None}
    if len(declared) > 1:
        yield context.finding(
            f"{optimizer.name} is set to clip by {' and by '.join(declared)} at once: Keras knows "
            "one mode at a time, and refuses to load such an optimizer.",
            evidence=_settings(declared),
            remedy="Keep one of them; `global_clipnorm` leaves the step's direction as it is.",
        )
    idle = {mode: value for mode, value in declared.items() if value <= 0}
    if idle:
        yield context.finding(
            f"{' and '.join(f'{mode}={value:g}' for mode, value in idle.items())} clips nothing: "
            "Keras takes what is not above zero for no clipping.",
            evidence=_settings(idle),
            remedy="Set a clip above zero, such as `global_clipnorm=1.0`, or leave it out.",
        )
    probe = context.optional_probe
    if probe is None:
        return
    for mode, clip in declared.items():
        found = _measured(graph, probe, mode)
        if clip > 0 and found is not None and clip * context.number("orders") < found[0]:
            yield _too_tight(context, optimizer, mode, clip, found)


def _too_tight(
    context: Context, optimizer: OptimizerSettings, mode: str, clip: float, found: tuple[float, str]
) -> Finding:
    measured, what = found
    left = _entry(context.graph, mode, clip)
    epsilon = optimizer.number("epsilon") or DEFAULT_EPSILON
    harmless = optimizer.name in SCALE_FREE and (
        left is None or optimizer.name in ("lion", "muon") or left > ABOVE_EPSILON * epsilon
    )
    outcome = (
        f"{optimizer.name} divides by the gradient's size, so the steps stay as long, but steep "
        "and flat ones count alike"
        if harmless
        else f"every step is cut to about {clip / measured:.1g} of itself, and the learning rate "
        "with it"
    )
    return context.finding(
        f"{mode}={clip:g} lies {measured / clip:,.0f} times below {what} of {measured:.3g}: "
        f"{outcome}.",
        evidence=(*_settings({mode: clip}), Evidence(name=what, value=measured, method="probe")),
        remedy=(
            "Clip near what is usual for the model, so that only spikes are cut: "
            f"`{mode}={float(f'{measured:.1g}'):g}` or above."
        ),
        severity=Severity.INFO if harmless else Severity.WARNING,
        confidence=Confidence.MEDIUM,
    )


def _entry(graph: LayerGraph, mode: str, clip: float) -> float | None:
    """What a single entry of a clipped gradient is like, root mean square."""
    if mode == "clipvalue":
        return clip
    sizes = [call.trainable_parameters for call in graph.layers() if call.trainable_parameters]
    if not sizes:
        return None
    return clip / math.sqrt(sum(sizes) if mode == "global_clipnorm" else statistics.median(sizes))


def _measured(graph: LayerGraph, probe: ProbeResult, mode: str) -> tuple[float, str] | None:
    """What a clip of this mode is held against, and what that is."""
    if mode == "global_clipnorm":
        norms = probe.gradient_norm
        if norms is None or not math.isfinite(norms.p10):
            return None
        return norms.p10, "the measured gradient norm"
    layers = [
        (norm, call.trainable_parameters)
        for call in graph.layers()
        if call.id in probe.calls
        and (norm := probe.calls[call.id].weight_gradient_norm) is not None
        and math.isfinite(norm)
        and call.trainable_parameters
    ]
    if not layers:
        return None
    if mode == "clipnorm":
        return statistics.median(norm for norm, _ in layers), "the layers' median gradient norm"
    entries = [norm / math.sqrt(size) for norm, size in layers]
    return statistics.median(entries), "the gradient's median entry"


def _settings(declared: dict[str, float]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(name=mode, value=value, method="compile settings")
        for mode, value in declared.items()
    )


@rule(
    "GEB603",
    "clipping-advised",
    severity=Severity.WARNING,
    since="0.1",
    needs=Needs.COMPILED,
    options=(
        Option(
            name="tail",
            default=5.0,
            meaning="largest gradient norm of a few batches over their median that is a spike",
        ),
        Option(
            name="steps",
            default=100,
            meaning="time steps from which plain gradient descent on recurrent layers wants a clip",
        ),
    ),
)
def clipping_advised(context: Context) -> Iterator[Finding | Skipped]:
    """Gradients with spikes, and an optimizer that takes them as they come.

    ## What it does
    Where nothing is clipped: warns when one of three or more measured batches has a gradient norm
    of more than `tail` times the median, and, with or without a probe, when a recurrent layer runs
    over `steps` steps or more under an optimizer whose step is as long as the gradient (SGD).

    ## Why is this bad
    One steep batch throws the weights as far as a hundred ordinary ones bring them, and often to
    where nothing comes back from. Recurrent layers meet such walls by nature: the gradient is a
    product over all time steps. Adaptive optimizers divide a spike by its own size, and bear it.

    ## Evidence
    The measured norms, or the recurrent layers, their steps and the optimizer.

    ## Example
    ```python
    model = keras.Sequential([
        keras.Input((500, 8)), keras.layers.SimpleRNN(64), keras.layers.Dense(1)
    ])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    ```

    ## Use instead
    ```python
    model = keras.Sequential([
        keras.Input((500, 8)), keras.layers.SimpleRNN(64), keras.layers.Dense(1)
    ])
    model.compile(keras.optimizers.SGD(0.1, global_clipnorm=1.0), "mse")
    ```

    ## Options
    - `tail`: largest gradient norm over the median that counts as a spike, 5 by default.
    - `steps`: time steps from which plain gradient descent on recurrent layers wants a clip, 100
      by default.

    ## Known problems
    A few batches seldom hold the worst one. Clipping in a training loop of one's own is not in the
    file. Sequences of unknown length are not judged without a probe.

    ## References
    - Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks,
      https://arxiv.org/abs/1211.5063
    - Zhang, He, Sra, Jadbabaie 2020, Why gradient clipping accelerates training,
      https://arxiv.org/abs/1905.11881
    """
    graph = context.graph
    optimizer = graph.compile.optimizer if graph.compile is not None else None
    if optimizer is None:
        yield context.skip("the model was saved without an optimizer")
        return
    if any((optimizer.number(mode) or 0.0) > 0 for mode in MODES):
        return
    norms = context.optional_probe.gradient_norm if context.optional_probe is not None else None
    spiked = (
        norms is not None
        and norms.count > 2
        and math.isfinite(norms.max)
        and norms.max > context.number("tail") * norms.p50 > 0
    )
    if norms is not None and spiked:
        yield context.finding(
            f"One of {norms.count} batches has a gradient norm of {norms.max:.3g}, "
            f"{norms.max / norms.p50:.2g} times the median, and nothing clips it.",
            evidence=(
                Evidence(name="largest gradient norm", value=norms.max, method="probe"),
                Evidence(name="median gradient norm", value=norms.p50, method="probe"),
            ),
            remedy=_clip_at(norms.p50),
            confidence=Confidence.MEDIUM,
        )
        return
    if optimizer.name in SCALE_FREE:
        return
    long = _long(graph, context.number("steps"))
    if long:
        steps = max(_steps(call) or 0 for call in long)
        yield context.finding(
            f"{names(long)} {'runs' if len(long) == 1 else 'run'} over {steps} steps under "
            f"{optimizer.name}, whose step is as long as the gradient: one steep sequence throws "
            "the weights out of reach.",
            layers=ids(long),
            evidence=(
                Evidence(name="time steps", value=steps, method="graph"),
                Evidence(name="optimizer", value=optimizer.name, method="compile settings"),
            ),
            remedy=_clip_at(norms.p50 if norms is not None else math.nan),
            confidence=Confidence.MEDIUM,
        )


def _clip_at(norm: float) -> str:
    clip = float(f"{2 * norm:.1g}") if math.isfinite(norm) and norm > 0 else 1.0
    return f"Clip the global norm; the direction of the step stays: `global_clipnorm={clip:g}`."


def _long(graph: LayerGraph, least: float) -> list[LayerCall]:
    """The trained recurrent layers over that many steps or more."""
    used = reaching_outputs(graph)
    return [
        call
        for call in graph.layers()
        if call.op in RECURRENT_OPS
        and call.id in used
        and call.trainable_parameters
        and (_steps(call) or 0) >= least
    ]


def _steps(call: LayerCall) -> int | None:
    return dimension(call.in_shape, 1) if call.in_shape and len(call.in_shape) > 2 else None
