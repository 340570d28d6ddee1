"""Initialization: for the layers that findings accuse, the law their activation asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from auditor.graph.depth_kind import OpenBranch, open_branches
from auditor.graph.initializers import TRUNCATED_VARIANCE, WeightLaw, keras_fans, weight_law
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import (
    NORMALIZATION_OPS,
    RECURRENT_OPS,
    SATURATING_ACTIVATIONS,
    SHAPE_OPS,
    TRAINING_ONLY_OPS,
    Op,
)
from auditor.graph.statistics import WeightStatistics
from auditor.graph.weight import Initializer, Weight
from auditor.plan.advice import Advice
from auditor.plan.case import Case, rounded
from auditor.plan.settings import Setting

#: Findings on the weights of a layer: what they name is redrawn.
WEIGHT_CODES = ("GEB301", "GEB305", "GEB306", "GEB205")
#: Findings on the recurrent kernel alone.
RECURRENT_CODES = ("GEB304",)
#: Findings that name a span of layers, some of which may be drawn rightly.
SCALE_CODES = ("GEB302",)
#: Findings on the model's propagation: a layer is redrawn when its law is the cause.
EXPLODING_CODES = ("GEB501", "GEB507", "GEB512")
VANISHING_CODES = ("GEB502", "GEB513")
#: Factor between a layer's variance and the right one from which it is a cause: glorot under
#: relu in a square layer is 2.
CAUSE = 1.5
#: Activations that grow faster than their input.
UNBOUNDED = frozenset({"exponential"})
RECTIFIERS = frozenset(
    {"relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "gelu", "silu", "mish", "hard_silu"}
)
#: The argument of a Keras layer that draws a weight of this role.
ARGUMENTS = {
    "kernel": "kernel_initializer",
    "depthwise_kernel": "depthwise_initializer",
    "pointwise_kernel": "pointwise_initializer",
    "recurrent_kernel": "recurrent_initializer",
    "query_kernel": "kernel_initializer",
    "key_kernel": "kernel_initializer",
    "value_kernel": "kernel_initializer",
    "output_kernel": "kernel_initializer",
    "embeddings": "embeddings_initializer",
    "bias": "bias_initializer",
}


@dataclass(frozen=True)
class Law:
    """An initializer by its snake_case Keras name, its arguments, and whence its variance.

    `branch` says that it is for the last kernel of a residual branch.
    """

    name: str
    source: str
    config: tuple[tuple[str, float], ...] = ()
    branch: bool = False

    def values(self, shape: tuple[int, ...]) -> WeightLaw | None:
        """The law of the values it draws for a weight of this shape."""
        return weight_law(Initializer(name=self.name, config=dict(self.config)), shape)


ZEROS = Law("zeros", "biases start at zero (Glorot & Bengio 2010)")
ORTHOGONAL = Law("orthogonal", "orthogonal: norms are kept over time (Saxe 2014)")
EMBEDDINGS = Law("random_uniform", "uniform ±0.05, Keras' own law for embeddings")
STILL = Law("zeros", "branches that start at nothing (Zhang 2019, Fixup)", branch=True)
LECUN = Law("lecun_normal", "Var w = 1/fan_in (Klambauer 2017)")
HE = Law("he_normal", "Var w = 2/fan_in (He 2015, eq. 10)")
GLOROT = Law("glorot_uniform", "Var w = 2/(fan_in + fan_out) (Glorot & Bengio 2010)")


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A weight, the `index`-th of its layer, the argument that draws it, and its right law."""

    argument: str
    index: int
    weight: Weight
    law: Law


@dataclass(kw_only=True)
class _Group:
    """Layers that want one law for one argument."""

    layers: list[str] = field(default_factory=list)
    because: dict[str, str] = field(default_factory=dict)


def initialization(case: Case) -> Advice:
    """New initial laws, one setting for all layers that want the same one.

    Layers that findings on weights name are redrawn in any case; of a mis-scaled span, those
    whose values the right law does not explain. A finding on propagation redraws every layer whose
    law is off the right one in the direction found. Redrawing from the same law changes nothing.
    Where the sums of residual branches explode, it is the branches that are scaled.
    """
    branches = {branch.last.layer: branch for branch in open_branches(case.graph)}
    groups: dict[tuple[str, Law, str | None], _Group] = {}
    for call in case.graph.layers():
        if not call.trainable:
            continue
        for drawn in _laws(case, call, branches):
            accusers = _accusers(case, call, drawn)
            if accusers:
                initializer = drawn.weight.initializer
                current = initializer.name if initializer else None
                group = groups.setdefault((drawn.argument, drawn.law, current), _Group())
                if call.id not in group.layers:
                    group.layers.append(call.id)
                group.because |= accusers
    settings = tuple(
        _setting(argument, law, current, group)
        for (argument, law, current), group in groups.items()
    )
    return Advice(settings=settings, notes=tuple(_notes(case)))


def _setting(argument: str, law: Law, current: str | None, group: _Group) -> Setting:
    codes = ", ".join(sorted(set(group.because.values())))
    count = f"{len(group.layers)} layer" + ("s" if len(group.layers) > 1 else "")
    reason = (
        f"{codes}: the weights of {count} are off the scale their activation asks for"
        if current != law.name
        else f"{codes}: the weights of {count} are bad, whatever law drew them"
    )
    if law.branch:
        reason = (
            f"{codes}: {count} end residual branches, and the sums grow block by block; with "
            "branches this small they stay at the scale of what they began with"
        )
    return Setting(
        name=argument,
        value=law.name,
        because=tuple(group.because),
        reason=reason,
        formula=law.source,
        current=current,
        layers=tuple(group.layers),
        config=dict(law.config),
    )


def _accusers(case: Case, call: LayerCall, drawn: _Drawn) -> Mapping[str, str]:
    """Fingerprint to code of the findings that a new draw of this weight answers."""
    named = [
        finding
        for finding in case.of(*WEIGHT_CODES, *RECURRENT_CODES, *SCALE_CODES)
        if call.layer
        in {case.graph.by_id[id_].layer for id_ in finding.layers if id_ in case.graph.by_id}
    ]
    codes: tuple[str, ...] = WEIGHT_CODES
    if drawn.weight.role == "recurrent_kernel":
        codes += RECURRENT_CODES
    seen = case.graph.weight_statistics.get((call.layer, drawn.index))
    target = drawn.law.values(drawn.weight.shape)
    if drawn.weight.role != "bias" and target is not None:
        if _differs(drawn.weight, seen, target):
            codes += SCALE_CODES
        return {f.fingerprint: f.code for f in named if f.code in codes} | {
            f.fingerprint: f.code for f in case.of(*_effects(drawn.weight, seen, target))
        }
    return {f.fingerprint: f.code for f in named if f.code in codes}


def _differs(weight: Weight, seen: WeightStatistics | None, target: WeightLaw) -> bool:
    """Whether the weight's values, or the law they come from, are other than the right law's."""
    if seen is not None:
        return not target.explains(seen)
    present = _present(weight)
    return present is None or not math.isclose(present.variance, target.variance, rel_tol=0.01)


def _effects(weight: Weight, seen: WeightStatistics | None, target: WeightLaw) -> tuple[str, ...]:
    """Codes of the findings on propagation that this weight is a cause of.

    Values that are no fresh draw of their law have been trained: redrawing them is no remedy.
    """
    present = _present(weight)
    if present is None or (seen is not None and not present.explains(seen)):
        return ()
    if target.variance == 0:
        return EXPLODING_CODES if present.variance > 0 else ()
    if present.variance > CAUSE * target.variance:
        return EXPLODING_CODES
    return VANISHING_CODES if present.variance * CAUSE < target.variance else ()


def _present(weight: Weight) -> WeightLaw | None:
    return weight_law(weight.initializer, weight.shape) if weight.initializer else None


def _laws(case: Case, call: LayerCall, branches: Mapping[str, OpenBranch]) -> Iterator[_Drawn]:
    """The right law for each weight of a layer that a plan may redraw."""
    bad_bias = any(call.id in finding.layers for finding in case.of("GEB305", "GEB205"))
    activation = activation_after(case.graph, call)
    arguments: set[str] = set()
    for index, weight in enumerate(call.weights):
        argument = ARGUMENTS.get(weight.role)
        if argument is None or argument in arguments or not weight.trainable:
            continue
        if weight.role == "bias" and not bad_bias:
            continue
        arguments.add(argument)  # an attention layer draws all its projections by one argument
        law = _law(call, weight, activation)
        branch = branches.get(call.layer)
        if branch is not None and weight.role == "kernel" and case.of(*EXPLODING_CODES):
            law = _branch_law(branch, weight, len(branches))
        yield _Drawn(argument=argument, index=index, weight=weight, law=law)


def _law(call: LayerCall, weight: Weight, activation: str | None) -> Law:
    """The law for one weight, by its role and the activation that follows."""
    match weight.role:
        case "bias":
            return ZEROS
        case "recurrent_kernel":
            return ORTHOGONAL
        case "embeddings":
            return EMBEDDINGS
    if activation == "selu":
        return _fitted(LECUN, call, weight, 1.0, weight.fan_in)
    if activation in RECTIFIERS:
        return _fitted(HE, call, weight, 2.0, weight.fan_in)
    return _fitted(GLOROT, call, weight, 2.0, (weight.fan_in or 0) + (weight.fan_out or 0))


def _branch_law(branch: OpenBranch, weight: Weight, count: int) -> Law:
    """Zeros; where an activation follows that is flat there, σ² = 2/fan-in a share of the sums."""
    if not branch.activated or not weight.fan_in:
        return STILL
    deviation = rounded(math.sqrt(2 / weight.fan_in / count / TRUNCATED_VARIANCE), 4)
    return Law(
        "truncated_normal",
        f"Var w = 2/fan_in, over {count} branches (Hanin & Rolnick 2018: 1/√L each)",
        (("mean", 0.0), ("stddev", deviation)),
        branch=True,
    )


def _fitted(law: Law, call: LayerCall, weight: Weight, scale: float, fan: int | None) -> Law:
    """The law, or the deviation it means where Keras counts this weight's fan-in otherwise.

    Keras takes every axis but the last two for the receptive field, which is wrong for depthwise,
    transposed and projection kernels.
    """
    if not fan or weight.fan_in == keras_fans(weight.shape)[0] or call.op in RECURRENT_OPS:
        return law
    deviation = rounded(math.sqrt(scale / fan / TRUNCATED_VARIANCE), 4)
    return Law(
        "truncated_normal",
        f"{law.source}, with the {call.op} kernel's own fan-in of {weight.fan_in}",
        (("mean", 0.0), ("stddev", deviation)),
    )


def activation_after(graph: LayerGraph, call: LayerCall) -> str | None:
    """The activation a layer's output meets first, through normalization and shape; or None."""
    passed = NORMALIZATION_OPS | SHAPE_OPS | TRAINING_ONLY_OPS | {Op.IDENTITY, Op.ACTIVATION}
    if call.op in RECURRENT_OPS:
        return None
    while call.activation is None:
        following = graph.successors(call.id)
        if len(following) != 1 or following[0].op not in passed:
            return None
        call = following[0]
    return call.activation


def _notes(case: Case) -> Iterator[str]:
    unbounded = sorted({str(c.activation) for c in case.graph.calls if c.activation in UNBOUNDED})
    if case.of("GEB507", "GEB501") and unbounded:
        yield (
            f"initialization: none bounds what {', '.join(unbounded)} makes of a signal: replace "
            "it by relu or gelu with he_normal in the hidden layers"
        )
    if not case.of(*VANISHING_CODES):
        return
    saturating = sorted(
        {
            call.activation
            for call in case.graph.calls
            if call.activation in SATURATING_ACTIVATIONS - {"softmax"}
        }
    )
    if saturating:
        yield (
            f"initialization: none rescues a deep stack of {', '.join(saturating)}: replace it by "
            "relu or gelu with he_normal, or put a BatchNormalization before each"
        )
