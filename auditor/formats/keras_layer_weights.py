"""The weights of Keras' layers that hold no other layers of the user's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from auditor.formats.keras_fans import FanRule, einsum_axes
from auditor.formats.keras_initializer import initializer_of
from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_weight_variants import variants
from auditor.formats.untrusted import flag, integer, integers, text
from auditor.formats.weight_spec import Pattern, WeightSpec, below
from auditor.graph.weight import Initializer

Builder = Callable[[LayerConfig], tuple[WeightSpec, ...]]


def _own(layer: LayerConfig, *specs: WeightSpec | None) -> tuple[WeightSpec, ...]:
    """The specs there are, numbered."""
    present = [spec for spec in specs if spec is not None]
    return tuple(
        replace(spec, index=index, trainable=spec.trainable and layer.trainable)
        for index, spec in enumerate(present)
    )


def _kernel(
    config: Mapping[str, Any],
    pattern: Pattern | None,
    fans: FanRule,
    role: str = "kernel",
    name: str = "",
    initializer: str = "",
) -> WeightSpec:
    return WeightSpec(
        name=name or role,
        role=role,
        pattern=pattern,
        fans=fans,
        initializer=initializer_of(config.get(initializer or f"{role}_initializer")),
    )


def _bias(config: Mapping[str, Any], pattern: Pattern | None) -> WeightSpec | None:
    if not flag(config.get("use_bias"), True):
        return None
    return WeightSpec(
        name="bias",
        role="bias",
        pattern=pattern,
        initializer=initializer_of(config.get("bias_initializer")),
    )


def _dense(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    units = integer(layer.config.get("units"))
    return _own(
        layer,
        _kernel(layer.config, (None, units), FanRule(kind="dense")),
        _bias(layer.config, (units,)),
    )


def _einsum_dense(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    axes = einsum_axes(text(layer.config.get("equation")))
    rule = FanRule() if axes is None else FanRule(kind="axes", inward=axes[0], outward=axes[1])
    bias = None
    if layer.config.get("bias_axes") is not None:
        bias = _bias({**layer.config, "use_bias": True}, None)
    return _own(layer, _kernel(layer.config, None, rule), bias)


def _conv_size(config: Mapping[str, Any], kind: str) -> tuple[int | None, ...]:
    rank = next((int(digit) for digit in kind if digit in "123"), 2)
    return integers(config.get("kernel_size"), rank) or (None,) * rank


def _conv(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config, size = layer.config, _conv_size(layer.config, layer.kind)
    filters = integer(config.get("filters"))
    groups = max(integer(config.get("groups")) or 1, 1)
    return _own(
        layer,
        _kernel(config, (*size, None, filters), FanRule(kind="conv", groups=groups)),
        _bias(config, (filters,)),
    )


def _conv_transpose(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config, size = layer.config, _conv_size(layer.config, layer.kind)
    filters = integer(config.get("filters"))
    strides = math.prod(integers(config.get("strides"), len(size)) or (1,))
    return _own(
        layer,
        _kernel(
            config, (*size, filters, None), FanRule(kind="conv-transpose", strides=max(strides, 1))
        ),
        _bias(config, (filters,)),
    )


def _depthwise(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config, size = layer.config, _conv_size(layer.config, layer.kind)
    multiplier = integer(config.get("depth_multiplier"))
    return _own(
        layer,
        _kernel(
            config,
            (*size, None, multiplier),
            FanRule(kind="depthwise"),
            role="depthwise_kernel",
            name="kernel",
            initializer="depthwise_initializer",
        ),
        _bias(config, (None,)),
    )


def _separable(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config, size = layer.config, _conv_size(layer.config, layer.kind)
    multiplier, filters = integer(config.get("depth_multiplier")), integer(config.get("filters"))
    return _own(
        layer,
        _kernel(
            config,
            (*size, None, multiplier),
            FanRule(kind="depthwise"),
            role="depthwise_kernel",
            initializer="depthwise_initializer",
        ),
        _kernel(
            config,
            (*(1 for _ in size), None, filters),
            FanRule(kind="conv"),
            role="pointwise_kernel",
            initializer="pointwise_initializer",
        ),
        _bias(config, (filters,)),
    )


def _locally_connected(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    return _own(
        layer,
        _kernel(layer.config, None, FanRule(kind="local")),
        _bias(layer.config, None),
    )


def _embedding(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config = layer.config
    tokens, width = integer(config.get("input_dim")), integer(config.get("output_dim"))
    reverse = None
    if layer.kind == "ReversibleEmbedding" and not flag(config.get("tie_weights"), True):
        reverse = WeightSpec(
            name="reverse_embeddings",
            role="kernel",
            pattern=(width, tokens),
            fans=FanRule(kind="dense"),
            initializer=initializer_of(config.get("embeddings_initializer")),
        )
    table = _kernel(
        config,
        (tokens, width),
        FanRule(kind="embedding"),
        role="embeddings",
        initializer="embeddings_initializer",
    )
    return _own(layer, table, reverse)


def _vector(
    config: Mapping[str, Any], role: str, *, trainable: bool = True, name: str = ""
) -> WeightSpec:
    return WeightSpec(
        name=name or role,
        role=role,
        trainable=trainable,
        initializer=initializer_of(config.get(f"{name or role}_initializer")),
    )


def _batch_norm(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config = layer.config
    specs = [
        _vector(config, "gamma") if flag(config.get("scale"), True) else None,
        _vector(config, "beta") if flag(config.get("center"), True) else None,
        _vector(config, "moving_mean", trainable=False),
        _vector(config, "moving_variance", trainable=False),
    ]
    if flag(config.get("renorm"), False):
        specs.extend(
            _vector(config, "other", trainable=False, name=name)
            for name in ("moving_stddev", "renorm_mean", "renorm_stddev")
        )
    return _own(layer, *specs)


def _scaled_norm(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config = layer.config
    scaled = flag(config.get("scale"), True) or flag(config.get("rms_scaling"), False)
    centered = flag(config.get("center"), True) and not flag(config.get("rms_scaling"), False)
    return _own(
        layer,
        _vector(config, "gamma") if scaled else None,
        _vector(config, "beta") if centered else None,
    )


def _rms_norm(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    return _own(
        layer,
        WeightSpec(name="scale", role="gamma", initializer=Initializer(name="ones")),
    )


def _normalization(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    given = layer.config.get("mean") is not None
    names = () if given else ("mean", "variance", "count")
    return _own(layer, *(WeightSpec(name=n, role="other", trainable=False) for n in names))


def _prelu(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    return _own(layer, _vector(layer.config, "other", name="alpha"))


def _spectrogram(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    names = {"real": ("real_kernel",), "imag": ("imag_kernel",)}.get(
        text(layer.config.get("mode")), ("real_kernel", "imag_kernel")
    )
    return _own(layer, *(WeightSpec(name=name, role="other") for name in names))


_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def _cell(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config, units = layer.config, integer(layer.config.get("units"))
    gates = next((n for stem, n in _GATES.items() if stem in layer.kind), 1)
    width = None if units is None else gates * units
    rule = FanRule(kind="dense")
    return _own(
        layer,
        _kernel(config, (None, width), rule),
        _kernel(
            config,
            (units, width),
            rule,
            role="recurrent_kernel",
            initializer="recurrent_initializer",
        ),
        _bias(config, None),
    )


def _layer_scale(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    start = Initializer(name="constant", config={"value": layer.config.get("init_values")})
    return _own(layer, WeightSpec(name="gamma", role="gamma", initializer=start))


def _recurrent(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    return below("cell", _cell(layer))


def _conv_lstm(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config, size = layer.config, _conv_size(layer.config, layer.kind)
    filters = integer(config.get("filters"))
    width = None if filters is None else 4 * filters
    rule = FanRule(kind="conv")
    specs = _own(
        layer,
        _kernel(config, (*size, None, width), rule),
        _kernel(
            config,
            (*(None for _ in size), filters, width),
            rule,
            role="recurrent_kernel",
            initializer="recurrent_initializer",
        ),
        _bias(config, (width,)),
    )
    return below("cell", specs)


def _attention(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config = layer.config
    grouped = layer.kind != "MultiHeadAttention"
    mark = "_" if grouped else ""
    parts = [("query", f"{mark}query_dense"), ("key", f"{mark}key_dense")]
    if flag(config.get("use_gate"), False):
        parts.append(("gate", "_gate_dense"))
    parts += [("value", f"{mark}value_dense"), ("output", f"{mark}output_dense")]
    specs: list[WeightSpec] = []
    for part, child in parts:
        role = "other" if part == "gate" else f"{part}_kernel"
        rule = (
            FanRule(kind="axes", inward=(0, 1), outward=(2,))
            if part == "output"
            else FanRule(kind="axes", inward=(0,), outward=(1, 2))
        )
        kernel = _kernel(
            config, None, rule, role=role, name="kernel", initializer="kernel_initializer"
        )
        specs.extend(below(child, _own(layer, kernel, _bias(config, None)), part))
    return tuple(specs)


def _dot_attention(layer: LayerConfig) -> tuple[WeightSpec, ...]:
    config = layer.config
    names = ["scale"] if flag(config.get("use_scale"), layer.kind == "AdditiveAttention") else []
    if text(config.get("score_mode")) == "concat":
        names.append("concat_score_weight")
    return _own(layer, *(WeightSpec(name=name, role="other") for name in names))


def _per_rank(build: Builder, *stems: str, suffix: str = "") -> dict[str, Builder]:
    return {f"{stem}{rank}D{suffix}": build for stem in stems for rank in (1, 2, 3)}


#: Class name → what weights its layers have. A class that is missing has none.
LAYER_WEIGHTS: Mapping[str, Builder] = {
    "Dense": variants(_dense),
    "EinsumDense": variants(_einsum_dense),
    **_per_rank(variants(_conv), "Conv", "Convolution"),
    **_per_rank(_conv_transpose, "Conv", "Convolution", suffix="Transpose"),
    **_per_rank(_depthwise, "DepthwiseConv"),
    **_per_rank(_separable, "SeparableConv", "SeparableConvolution"),
    **_per_rank(_locally_connected, "LocallyConnected"),
    **dict.fromkeys(("Embedding", "ReversibleEmbedding"), variants(_embedding)),
    **dict.fromkeys(
        ("BatchNormalization", "BatchNormalizationV1", "SyncBatchNormalization"), _batch_norm
    ),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization"), _scaled_norm),
    "RMSNormalization": _rms_norm,
    "Normalization": _normalization,
    "LayerScale": _layer_scale,
    "PReLU": _prelu,
    "STFTSpectrogram": _spectrogram,
    **dict.fromkeys(("SimpleRNN", "LSTM", "GRU"), _recurrent),
    **dict.fromkeys(("SimpleRNNCell", "LSTMCell", "GRUCell", "CuDNNLSTM", "CuDNNGRU"), _cell),
    **_per_rank(_conv_lstm, "ConvLSTM"),
    **dict.fromkeys(
        ("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention"), _attention
    ),
    **dict.fromkeys(("Attention", "AdditiveAttention"), _dot_attention),
}
