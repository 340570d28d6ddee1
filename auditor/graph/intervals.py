"""Which values calls can give: interval arithmetic through the graph.

Sound and not tight: every value a call gives with the weights as they are, in training or at
inference, on any input, lies inside its interval; not every value inside is reached. A call that
is not understood has none, nor has what follows from it; no claim is made there. The output of a
kernel (or of a normalization) that has something to work on may be any number, unless its input's
range is known.

Moore 1966, Interval analysis; of neural networks: Gowal et al. 2018, "On the effectiveness of
interval bound propagation", https://arxiv.org/abs/1810.12715.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from auditor.graph import interval_merges, interval_pointwise
from auditor.graph.dimensions import own_config
from auditor.graph.interval import EVERYTHING, Interval, hull
from auditor.graph.interval_kernels import affine, embedded
from auditor.graph.interval_pointwise import constants_of
from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import (
    AFFINE_OPS,
    NORMALIZATION_OPS,
    RECURRENT_OPS,
    SHAPE_OPS,
    Op,
)
from auditor.graph.scaling import scale_and_offset
from auditor.graph.transfer import PIXELS, SMALL_SCALE, activation_settings

#: Kinds of the operators that only move values that also compute something.
COMPUTING_KINDS = frozenset(
    {
        "AffineTransform",
        "ElasticTransform",
        "ExtractSequences",
        "MapCoordinates",
        "PerspectiveTransform",
        "ScaleAndTranslate",
        "Scatter",
        "ScatterUpdate",
        "SliceUpdate",
        "ScatterElements",
        "ScatterND",
        "TensorScatter",
        "GridSample",
        "Fold",
        "Col2Im",
        "MaxUnpool",
    }
)
#: Interpolations whose values lie between the pixels they are made of.
BETWEEN = frozenset({"nearest", "bilinear", "linear"})
#: Calls that may bring a zero in among the values they pass on.
ZEROING_OPS = frozenset({Op.PAD, Op.MASKING, Op.CROP})


def intervals(graph: LayerGraph, wanted: Iterable[str] | None = None) -> Mapping[str, Interval]:
    """Intervals by call id, of the `wanted` calls and what they follow from; of all by default.

    Inputs are unknown, but for bytes and what the model itself divides like bytes: 0 to 255.
    """
    needed = _needed(graph, wanted)
    found: dict[str, Interval] = {}
    for call in graph.calls:
        if call.id not in needed:
            continue
        sources = [found.get(source.id) for source in graph.predecessors(call.id)]
        made = _interval(graph, call, sources)
        if made is not None and made.low <= made.high:
            found[call.id] = made
    return found


def _needed(graph: LayerGraph, wanted: Iterable[str] | None) -> frozenset[str]:
    if wanted is None:
        return frozenset(call.id for call in graph.calls)
    needed = set(wanted)
    for call in reversed(graph.calls):
        if call.id in needed:
            needed.update(source.id for source in graph.predecessors(call.id))
    return frozenset(needed)


def _interval(
    graph: LayerGraph, call: LayerCall, sources: list[Interval | None]
) -> Interval | None:
    """The call's interval, its activation included."""
    if call.op is Op.INPUT:
        return _input(graph, call)
    if call.op in RECURRENT_OPS:
        return _recurrent(call)
    law = LAWS.get(call.op)
    made = law(graph, call, sources) if law is not None else None
    if call.activation is None:
        return made
    return interval_pointwise.activated(call.activation, activation_settings(call), made)


def _input(graph: LayerGraph, call: LayerCall) -> Interval | None:
    if call.dtype == "uint8":
        return PIXELS
    pairs = [scale_and_offset(graph, successor) for successor in graph.successors(call.id)]
    raw = all(pair is not None and abs(pair[0].mean) <= SMALL_SCALE for pair in pairs)
    return PIXELS if pairs and raw else None


def _recurrent(call: LayerCall) -> Interval | None:
    """A bounded activation bounds the state: gates lie in 0 … 1, and the first state is zero."""
    config = own_config(call)
    if call.op not in (Op.SIMPLE_RNN, Op.LSTM, Op.GRU, Op.CONV_LSTM):
        return None
    if config is not call.config and call.config.get("merge_mode", "concat") not in (
        "concat",
        "ave",
        None,
    ):
        return None
    state = interval_pointwise.activated(call.activation or "linear", config, None)
    if state is None or not state.bounded or len(call.in_shapes) > 1:
        return None
    if call.op is not Op.SIMPLE_RNN:
        gate = str(config.get("recurrent_activation", "sigmoid"))
        if gate not in ("sigmoid", "hard_sigmoid"):
            return None
    return state.with_zero()


def _anything(_: LayerGraph, __: LayerCall, sources: list[Interval | None]) -> Interval | None:
    return EVERYTHING if sources else None


def _same(_: LayerGraph, __: LayerCall, sources: list[Interval | None]) -> Interval | None:
    return sources[0] if sources else None


def _moved(_: LayerGraph, call: LayerCall, sources: list[Interval | None]) -> Interval | None:
    if not sources or sources[0] is None or call.kind in COMPUTING_KINDS:
        return None
    first = sources[0]
    if call.op is Op.UPSAMPLE:
        config = own_config(call)
        how = config.get("interpolation", config.get("mode", "nearest"))
        return first if how in BETWEEN else None
    if call.op in ZEROING_OPS:
        filler = call.config.get("value", call.config.get("constant", 0.0))
        other = constants_of(filler)
        return hull([first.with_zero(), *([other] if other is not None else [])])
    return first


def _dropped(_: LayerGraph, call: LayerCall, sources: list[Interval | None]) -> Interval | None:
    """Dropout keeps a value, scaled up, or gives zero; at inference it changes nothing."""
    if not sources or sources[0] is None:
        return None
    rate = call.config.get("rate", call.config.get("ratio", 0.5))
    if call.kind in ("AlphaDropout", "GaussianDropout") or not isinstance(rate, (int, float)):
        return None
    if not 0 <= rate < 1:
        return None
    return hull([sources[0], sources[0].with_zero().scaled(1 / (1 - rate))])


def _pooled(_: LayerGraph, call: LayerCall, sources: list[Interval | None]) -> Interval | None:
    if not sources or sources[0] is None or call.kind in ("LpPool", "GlobalLpPool", "RoiAlign"):
        return None
    # ONNX may count its padding among what it averages; and MaxRoiPool gives zero for no region.
    return sources[0].with_zero() if call.nodes else sources[0]


def _unit(_: LayerGraph, call: LayerCall, __: list[Interval | None]) -> Interval | None:
    if call.kind not in ("UnitNormalization", "LpNormalization"):
        return None
    return Interval(low=-1.0, high=1.0)


def _cast(_: LayerGraph, call: LayerCall, sources: list[Interval | None]) -> Interval | None:
    """To whole numbers a value is cut off towards zero; to booleans it becomes 0 or 1."""
    if not sources or sources[0] is None:
        return None
    if call.dtype == "bool":
        return Interval(low=0.0, high=1.0)
    if call.dtype.startswith(("int", "uint")):
        return None if call.dtype.startswith("uint") else sources[0].with_zero()
    return sources[0]


Law = Callable[[LayerGraph, LayerCall, list[Interval | None]], Interval | None]
LAWS: Mapping[Op, Law] = {
    **dict.fromkeys(AFFINE_OPS, affine),
    **dict.fromkeys(NORMALIZATION_OPS, _anything),
    **dict.fromkeys(SHAPE_OPS, _moved),
    Op.ATTENTION: _anything,
    Op.EMBEDDING: embedded,
    Op.UNIT_NORM: _unit,
    Op.ACTIVATION: _same,
    Op.IDENTITY: _same,
    Op.REGULARIZATION: _same,
    Op.CAST: _cast,
    Op.DROPOUT: _dropped,
    Op.MAX_POOL: _pooled,
    Op.AVERAGE_POOL: _pooled,
    Op.GLOBAL_MAX_POOL: _pooled,
    Op.GLOBAL_AVERAGE_POOL: _pooled,
    Op.SCALE: interval_pointwise.scaled,
    Op.ELEMENTWISE: interval_pointwise.elementwise,
    Op.REDUCE: interval_merges.reduced,
    Op.ADD: interval_merges.added,
    Op.SUBTRACT: interval_merges.subtracted,
    Op.MULTIPLY: interval_merges.multiplied,
    Op.DIVIDE: interval_merges.divided,
    Op.AVERAGE: interval_merges.averaged,
    Op.MAXIMUM: interval_merges.largest,
    Op.MINIMUM: interval_merges.smallest,
    Op.CONCATENATE: interval_merges.joined,
    Op.STACK: interval_merges.joined,
    Op.MATMUL: interval_merges.contracted,
    Op.DOT: interval_merges.contracted,
    Op.DOT_ATTENTION: interval_merges.attended,
}
