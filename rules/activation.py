"""GEB2: activations."""

from __future__ import annotations

import math
from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph
from auditor.graph.bypass import bypassed
from auditor.graph.dimensions import channels, dimension
from auditor.graph.saturating_runs import SaturatingRun, saturating_runs
from auditor.graph.trainable_reach import learned_calls
from auditor.rule import Context, Needs, Option, rule

from .hidden_activation import hidden_softmax, unbounded_growth_activation
from .output_activation import head_loss_mismatch, missing_output_activation
from .wording import ids, names

__all__ = [
    "dead_units",
    "head_loss_mismatch",
    "hidden_softmax",
    "missing_output_activation",
    "saturating_stack",
    "unbounded_growth_activation",
]


@rule(
    "GEB201",
    "saturating-stack",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(name="run", default=5, meaning="saturating activations in a row to be looked at"),
        Option(
            name="shrink",
            default=0.01,
            meaning="predicted factor on the gradient over the run, at or below which it fires",
            most=1.0,
        ),
    ),
)
def saturating_stack(context: Context) -> Iterator[Finding | Skipped]:
    """Saturating activations in a row that leave too little of the gradient.

    ## What it does
    Looks for `run` or more layers in a row whose activation is flat on both sides (sigmoid, tanh,
    softsign and their hard variants), with no normalization, branch or merge between them. Fires
    when the gradient is predicted to shrink to `shrink` or less on its way back through them.

    ## Why is this bad
    The slope of a sigmoid is at most 1/4, so with ordinary initial weights every such layer leaves
    a quarter of the gradient: 5 layers leave a thousandth, 20 a millionth of a millionth. The
    first layers then do not learn. tanh has slope 1 at zero and does far better: a stack of it
    fires only where its weights are badly scaled.

    ## Evidence
    The predicted factor on the gradient's norm from the last activation to the first, by
    mean-field theory from the weights the file holds (or their initializers), √E[φ′²]·√(fan-in·σ²)
    for each layer. Where the forecast does not cover a layer of the run, sigmoid runs alone are
    named, by their slope of at most 1/4, with low confidence.

    ## Example
    ```python
    keras.Sequential(
        [keras.Input((256,))]
        + [keras.layers.Dense(256, activation="sigmoid") for _ in range(20)]
        + [keras.layers.Dense(10, activation="softmax")]
    )
    ```

    ## Use instead
    ```python
    keras.Sequential(
        [keras.Input((256,))]
        + [
            keras.layers.Dense(256, activation="relu", kernel_initializer="he_normal")
            for _ in range(20)
        ]
        + [keras.layers.Dense(10, activation="softmax")]
    )
    ```

    ## Options
    - `run`: saturating activations in a row to be looked at, 5 by default.
    - `shrink`: predicted factor on the gradient over the run, at or below which the rule fires,
      0.01 by default. On plain networks trained on digits, ratios beyond a thousandth failed
      nearly always.

    ## Known problems
    The forecast takes weights as independent of the data, which trained weights are not; a model
    whose training succeeded despite a deep sigmoid stack may be named. Gates of recurrent and
    attention layers and squeeze-and-excite blocks are no part of a run.

    ## References
    - Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural
      networks.
    - Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation,
      https://arxiv.org/abs/1611.01232
    - Pennington, Schoenholz, Ganguli 2017, Resurrecting the sigmoid in deep learning through
      dynamical isometry, https://arxiv.org/abs/1711.04735
    """
    least, limit = context.number("run"), context.number("shrink")
    runs = [
        (run, shrink)
        for run in saturating_runs(context.graph, context.forecast)
        if len(run.activations) >= least and 0 < (shrink := _shrink(run)) <= limit
    ]
    if not runs:
        return
    run, shrink = min(runs, key=lambda pair: pair[1])
    predicted = all(run.shrink is not None for run, _ in runs)
    kinds = " and ".join(sorted({str(call.activation) for call in run.activations}))
    where = "" if len(runs) == 1 else f" (the worst of {len(runs)} runs)"
    yield context.finding(
        f"{len(run.activations)} {kinds} layers in a row, from `{run.activations[0].id}` to "
        f"`{run.activations[-1].id}`{where}, leave {shrink:.1g} of the gradient: the layers "
        "before them will hardly learn.",
        layers=ids([call for run, _ in runs for call in run.activations]),
        evidence=(
            Evidence(name="saturating activations in a row", value=len(run.activations)),
            Evidence(
                name="predicted factor on the gradient",
                value=shrink,
                method="mean-field forecast" if run.shrink is not None else "slope at most 1/4",
            ),
        ),
        remedy=(
            "Use ReLU or GELU with he_normal in the hidden layers, or put a BatchNormalization "
            "before each activation; keep sigmoid for the output.\n\n"
            "```python\n"
            f'x = keras.layers.Dense({_units(run.activations[0])}, activation="relu", '
            'kernel_initializer="he_normal")(x)\n'
            "```\n"
        ),
        confidence=Confidence.HIGH if predicted else Confidence.LOW,
    )


def _shrink(run: SaturatingRun) -> float:
    if run.shrink is not None:
        return run.shrink
    sigmoids = sum(call.activation in ("sigmoid", "hard_sigmoid") for call in run.activations)
    return float(0.25 ** max(sigmoids - 1, 0))


def _units(call: LayerCall) -> int | str:
    size = call.out_shape[-1] if call.out_shape else None
    return size if isinstance(size, int) else "units"


@rule(
    "GEB205",
    "dead-units",
    severity=Severity.WARNING,
    needs=Needs.PROBE,
    since="0.1",
    options=(
        Option(
            name="share",
            default=0.5,
            meaning="share of a layer's units that may be dead",
            zero=True,
            most=1.0,
        ),
    ),
)
def dead_units(context: Context) -> Iterator[Finding | Skipped]:
    """Units that give zero for every sample.

    ## What it does
    Counts, in each layer that ends in ReLU or its kin, the units that gave zero for every sample
    of the probe. Fires when more than `share` of a layer's units are dead by a margin that chance
    does not explain, and as an error when a whole layer is dead and there is no way around it.

    ## Why is this bad
    Below zero ReLU is flat: a unit that is there for every sample gets no gradient, so nothing
    moves it back. Its weights are lost to the model. When a whole layer is dead no signal passes
    and no gradient returns: everything before it stays as it is for good.

    ## Evidence
    The share of dead units in each layer, measured on the probe's batches; for convolutions a unit
    is a channel, and it is dead when it is zero at every position. Shares near one half are what a
    deep stack without normalization shows when all samples look alike to it; only what lies three
    standard errors above `share` counts.

    ## Example
    ```python
    keras.layers.Dense(
        64, activation="relu", bias_initializer=keras.initializers.Constant(-10.0)
    )
    ```

    ## Use instead
    ```python
    keras.layers.Dense(64, activation="relu", kernel_initializer="he_normal")
    ```

    ## Options
    - `share`: share of a layer's units that may be dead, 0.5 by default.

    ## Known problems
    Synthetic batches may leave units silent that real data wakes: confidence is high only for
    data given with `--data`. With few samples a rarely active unit counts as dead. Units of frozen
    layers stay as they are; only a layer of them that is dead as a whole is named, as a warning.

    ## References
    - Lu, Shin, Su, Karniadakis 2020, Dying ReLU and initialization: theory and numerical examples,
      https://arxiv.org/abs/1903.06733
    - Maas, Hannun, Ng 2013, Rectifier nonlinearities improve neural network acoustic models.
    """
    graph, probe = context.graph, context.probe
    samples = probe.batch_size * probe.batches
    measured = [
        (call, share)
        for call in graph.calls
        if (seen := probe.calls.get(call.id)) is not None
        and (share := seen.dead_share) is not None
        and not (_silenced(graph, call) and bypassed(graph, (call.id,)))
    ]
    if not measured:
        yield context.skip("no layer with a one-sided activation was measured")
        return
    sure = Confidence.HIGH if probe.data != "synthetic" else Confidence.MEDIUM
    confidence = Confidence.LOW if samples < 16 else sure
    learned = learned_calls(graph)
    dead = [call for call, share in measured if share >= 1.0]
    all_blocking = [call for call in dead if not bypassed(graph, (call.id,))]
    fixed = [call for call in all_blocking if call.id not in learned]
    if fixed and any(call.id in learned for call in graph.output_calls):
        yield context.finding(
            f"Every unit of {names(fixed)} gave zero for all {samples} samples, and the layers are "
            "frozen: what is trained behind them always gets the same.",
            layers=ids(fixed),
            evidence=(Evidence(name="dead units", value=1.0, unit="share", method="probe"),),
            remedy="Load the weights these layers were trained with, or unfreeze them.",
            confidence=confidence,
        )
    blocking = [call for call in all_blocking if call.id in learned]
    if blocking:
        yield context.finding(
            f"Every unit of {names(blocking)} gave zero for all {samples} samples: no signal "
            "passes, and no gradient comes back to the layers before.",
            layers=ids(blocking),
            evidence=(
                Evidence(name="dead units", value=1.0, unit="share", method="probe"),
                Evidence(name="samples", value=samples, method="probe"),
            ),
            remedy=(
                "Look at the bias and the scale of the kernel before it; re-initialize with "
                "he_normal and a bias of zero, lower the learning rate if it died in training, "
                "or use LeakyReLU, which has no flat side."
            ),
            severity=Severity.ERROR,
            confidence=Confidence.HIGH if samples >= 16 else Confidence.MEDIUM,
        )
    limit = context.number("share")
    partly = [
        (call, share)
        for call, share in measured
        if call.id in learned and call not in blocking and share > limit + _chance(call, limit)
    ]
    if partly:
        worst, share = max(partly, key=lambda pair: pair[1])
        calls = [call for call, _ in partly]
        yield context.finding(
            f"In {names(calls)} most units gave zero for all {samples} samples; in `{worst.id}` "
            f"{share:.0%} of them.",
            layers=ids(calls),
            evidence=(
                *(
                    Evidence(name=f"dead units of {call.id}", value=value, unit="share")
                    for call, value in partly
                ),
                Evidence(name="samples", value=samples, method="probe"),
            ),
            remedy=(
                "Use he_normal with a bias of zero, normalize before the activation, lower the "
                "learning rate if they died in training, or use LeakyReLU or GELU."
            ),
            confidence=confidence,
        )


def _chance(call: LayerCall, share: float) -> float:
    """Three standard errors of a share among as many units as the call has."""
    shape = call.out_shape or ()
    units = (channels(shape, call) if len(shape) > 2 else dimension(shape, -1)) or 1
    return 3 * math.sqrt(share * (1 - share) / units)


def _silenced(graph: LayerGraph, call: LayerCall) -> bool:
    """Whether a zero scale just before the activation silences it, as in residual branches."""
    sources = (call, *graph.predecessors(call.id))
    return any(
        weight.role == "gamma"
        and (seen := graph.weight_statistics.get((source.layer, index))) is not None
        and seen.zero
        for source in sources
        for index, weight in enumerate(source.weights)
    )
