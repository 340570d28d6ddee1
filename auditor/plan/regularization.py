"""Regularization: weight decay from measured steps, and dropout rates that findings accuse."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, Op
from auditor.plan.advice import Advice
from auditor.plan.case import Case, is_positive, rounded
from auditor.plan.optimizer import KERAS_OPTIMIZERS
from auditor.plan.settings import Setting

#: Share of a step that decay may make: value, low, high.
SHARE, SHARE_LOW, SHARE_HIGH = 1e-3, 1e-4, 1e-2
#: Decay in use: from nearly nothing to the 0.1 of large transformers (Touvron 2023).
DECAY_LOW, DECAY_HIGH = 1e-5, 1e-1
#: Decay without a measured step: Keras' own default for AdamW, and the decades around it.
USUAL_DECAY, USUAL_LOW, USUAL_HIGH = 4e-3, 1e-4, 1e-1
#: Rates of the dropout paper: 0.5 for hidden layers, 0.2 for the input (Srivastava 2014, §A.4).
HIDDEN_DROPOUT, INPUT_DROPOUT = 0.5, 0.2
#: Activations that are exactly zero on one side, and so sparse by themselves.
SPARSE_ACTIVATIONS = frozenset({"relu", "relu6"})
REGULARIZERS = (
    "kernel_regularizer",
    "bias_regularizer",
    "recurrent_regularizer",
    "depthwise_regularizer",
    "pointwise_regularizer",
    "embeddings_regularizer",
    "activity_regularizer",
)


def regularization(case: Case, *, trainable: bool, redrawn: bool) -> Advice:
    """Weight decay, and dropout rates; without anything to train, dropout only."""
    dropouts = tuple(_dropouts(case))
    if not trainable:
        return Advice(settings=dropouts)
    decay = _weight_decay(case, redrawn=redrawn)
    return Advice(settings=(*decay.settings, *dropouts), notes=(*decay.notes, *_sparsity(case)))


def _weight_decay(case: Case, *, redrawn: bool) -> Advice:
    """Decoupled decay λ, so that ‖λw‖ is a stated share of ‖Δw‖/η, the step at unit rate.

    Keras takes `weight_decay` in every optimizer and applies w ← w − ηλw beside the step
    (Loshchilov & Hutter 2019).
    """
    current = _declared_decay(case)
    others = _present(case.graph)
    if current is None and others:
        return Advice(
            notes=(f"weight decay: not added, the model is regularized by {', '.join(others)}",)
        )
    if current is None and case.optimizer_name not in KERAS_OPTIMIZERS:
        return Advice(notes=("weight decay: not advised for an optimizer geb-audit does not know",))
    step = None if redrawn else _step_at_unit_rate(case)
    if step is None:
        value, low, high = USUAL_DECAY, USUAL_LOW, USUAL_HIGH
        reason = "no step was measured that it could be set against"
        formula = "prior: Keras' default for AdamW, and the decades in use around it"
    else:
        value, low, high = (
            min(max(share * step, DECAY_LOW), DECAY_HIGH)
            for share in (SHARE, SHARE_LOW, SHARE_HIGH)
        )
        reason = (
            f"a step at unit rate measures {step:.3g} of the weights' norm (median over layers); "
            f"decay takes {SHARE:.1%} of it"
        )
        formula = (
            f"λ = {SHARE:g}·‖Δw‖/(η‖w‖), ‖Δw‖/‖w‖ measured, kept between {DECAY_LOW:g} and "
            f"{DECAY_HIGH:g}; decoupled decay (Loshchilov & Hutter 2019)"
        )
    if current is not None and low <= current <= high:
        value, reason = current, f"current value is inside the interval; {reason}"
    elif current is None:
        reason = f"nothing regularizes the model yet, so lightly; {reason}"
    return Advice(
        settings=(
            Setting(
                name="weight_decay",
                value=value if value == current else rounded(value),
                low=rounded(low),
                high=rounded(high),
                because=case.because("GEB405"),
                reason=reason,
                formula=formula,
                current=current,
            ),
        )
    )


def _declared_decay(case: Case) -> float | None:
    if case.declared is None:
        return None
    decay = case.declared.number("weight_decay")
    if decay is None and "weight_decay" not in case.declared.config:
        known = KERAS_OPTIMIZERS.get(case.declared.name)
        decay = known.weight_decay if known else None
    return decay if is_positive(decay) else None


def _step_at_unit_rate(case: Case) -> float | None:
    """Median over layers of ‖Δw‖/‖w‖ of the declared optimizer's first step, over its rate."""
    rate = case.declared_rate
    if case.probe is None or rate is None:
        return None
    ratios = [
        measured.update_ratio / rate
        for measured in case.probe.calls.values()
        if measured.update_ratio is not None and is_positive(measured.update_ratio)
    ]
    return statistics.median(ratios) if ratios else None


def _present(graph: LayerGraph) -> tuple[str, ...]:
    """What regularizes the model already, named once each."""
    named = {
        Op.DROPOUT: "dropout",
        Op.NOISE: "noise",
        Op.BATCH_NORM: "batch normalization",
        Op.REGULARIZATION: "activity regularization",
    }
    found = dict.fromkeys(named[call.op] for call in graph.calls if call.op in named)
    if any(call.config.get(key) for call in graph.calls for key in REGULARIZERS):
        found["penalties of its layers"] = None
    return tuple(found)


def _dropouts(case: Case) -> Iterator[Setting]:
    """Rates for the dropouts GEB402 accuses, by where they stand."""
    accused = {
        layer: finding.fingerprint for finding in case.of("GEB402") for layer in finding.layers
    }
    before = _kernels_before(case.graph)
    after = _kernels_after(case.graph)
    for call in case.graph.calls:
        if call.id not in accused or call.op is not Op.DROPOUT:
            continue
        rate = call.config.get("rate")
        current = float(rate) if is_positive(rate) and isinstance(rate, (int, float)) else None
        yield _dropout(call, current, accused[call.id], call.id in before, call.id in after)


def _dropout(
    call: LayerCall, current: float | None, because: str, hidden_from: bool, hidden_to: bool
) -> Setting:
    if not hidden_to:
        value, high, reason = 0.0, 0.0, "nothing trainable follows: it erases predictions"
    elif not hidden_from:
        value = min(current or INPUT_DROPOUT, INPUT_DROPOUT)
        high, reason = INPUT_DROPOUT, "it acts on the raw input"
    else:
        value = min(current or HIDDEN_DROPOUT, HIDDEN_DROPOUT)
        high, reason = HIDDEN_DROPOUT, "it acts between layers"
    return Setting(
        name="dropout_rate",
        value=value,
        low=0.0,
        high=high,
        because=(because,),
        reason=reason,
        formula="none after the last trainable layer, up to 0.2 on the input, up to 0.5 between "
        "layers (Srivastava 2014)",
        current=current,
        layers=(call.id,),
    )


def _kernels_before(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls that some kernel-bearing call leads to."""
    reached: set[str] = set()
    for call in graph.calls:
        if any(s.op in KERNEL_OPS or s.id in reached for s in graph.predecessors(call.id)):
            reached.add(call.id)
    return frozenset(reached)


def _kernels_after(graph: LayerGraph) -> frozenset[str]:
    """Ids of the calls that lead to some kernel-bearing call."""
    leading: set[str] = set()
    for call in reversed(graph.calls):
        if any(t.op in KERNEL_OPS or t.id in leading for t in graph.successors(call.id)):
            leading.add(call.id)
    return frozenset(leading)


def _sparsity(case: Case) -> tuple[str, ...]:
    """What the activations' measured sparsity says about an L1 penalty on them."""
    if case.probe is None:
        return ()
    shares = [
        measured.zero_share
        for call in case.graph.calls
        if call.activation in SPARSE_ACTIVATIONS
        and (measured := case.probe.calls.get(call.id)) is not None
        and measured.zero_share is not None
    ]
    if not shares:
        return ()
    return (
        f"sparse activations: {statistics.median(shares):.0%} of the outputs are zero already "
        "(median over such layers), so no activity penalty is advised",
    )
