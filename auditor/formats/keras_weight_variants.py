"""Weights of layers that are quantised, or fine-tuned by low-rank matrices (LoRA).

Orders are those of `variable_serialization_spec` of Keras' Dense, EinsumDense, Embedding and
ReversibleEmbedding. Quantised kernels are frozen, and packed ones have another shape than the
configuration says. Low-rank matrices are merged into the kernel when a `.keras` is saved, and are
zero after loading; an HDF5 file holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from auditor.formats.keras_fans import FanRule
from auditor.formats.keras_model import LayerConfig
from auditor.formats.untrusted import integer, mapping, text
from auditor.formats.weight_spec import WeightSpec

Builder = Callable[[LayerConfig], tuple[WeightSpec, ...]]

_FLOAT8 = (
    "inputs_scale",
    "inputs_amax_history",
    "kernel_scale",
    "kernel_amax_history",
    "outputs_grad_scale",
    "outputs_grad_amax_history",
)


def quantization(layer: LayerConfig) -> tuple[str, int | None]:
    """Mode ("int8", "int4", "float8", "gptq", "awq", "" for none) and, for int4, its block size.

    The dtype policy states both: "int8", "int4/128" (-1 for one scale a channel), "gptq/4/128".
    """
    policy = layer.config.get("dtype")
    fields = mapping(mapping(policy).get("config"))
    stated = text(fields.get("mode"))
    name = text(fields.get("name")) or text(policy)
    if not stated and "_from_" in name:
        stated = name.partition("_from_")[0]
    mode, _, rest = stated.partition("/")
    block = rest.rpartition("/")[2]
    return mode, int(block) if block.removeprefix("-").isdigit() and len(block) < 10 else None


def variants(build: Builder) -> Builder:
    """A builder of weights that knows of quantization and of low-rank matrices."""

    def varied(layer: LayerConfig) -> tuple[WeightSpec, ...]:
        specs = build(layer)
        if not specs:
            return specs
        rank = integer(layer.config.get("lora_rank"))
        mode, block = quantization(layer)
        if layer.kind in ("Embedding", "ReversibleEmbedding"):
            found = _embeddings(specs, mode, blocked=block is not None and block > 0)
        elif mode:
            found = _kernel(specs, mode, blocked=block is not None and block > 0)
        else:
            found = specs
        if rank is not None and rank > 0:
            found = _low_rank(found, rank)
        return tuple(
            replace(spec, index=index, trainable=spec.trainable and layer.trainable)
            for index, spec in enumerate(found)
        )

    return varied


def _scale(name: str, *, trainable: bool = False) -> WeightSpec:
    return WeightSpec(name=name, role="other", trainable=trainable)


def _packed(spec: WeightSpec) -> WeightSpec:
    """Two numbers in a byte: neither the configuration's shape nor its fans."""
    return replace(spec, trainable=False, pattern=None, fans=FanRule(), role="other")


def _kernel(specs: tuple[WeightSpec, ...], mode: str, *, blocked: bool) -> tuple[WeightSpec, ...]:
    kernel, bias = specs[0], specs[1:]
    if mode == "int8":
        return (replace(kernel, trainable=False), *bias, _scale("kernel_scale"))
    if mode == "int4":
        blocks = (_scale("kernel_zero"), _scale("g_idx")) if blocked else ()
        return (_packed(kernel), *bias, _scale("kernel_scale"), *blocks)
    if mode == "float8":
        # Keras keeps scales and histories as trainable: their "gradients" are their next values.
        return (kernel, *bias, *(_scale(name, trainable=True) for name in _FLOAT8))
    if mode in ("gptq", "awq"):
        scales = [
            "kernel_scale",
            "kernel_zero",
            *(["awq_scales"] if mode == "awq" else []),
            "g_idx",
        ]
        return (*bias, _packed(kernel), *(_scale(name) for name in scales))
    return specs


def _embeddings(
    specs: tuple[WeightSpec, ...], mode: str, *, blocked: bool
) -> tuple[WeightSpec, ...]:
    table, reverse = specs[0], specs[1:]
    if mode not in ("int8", "int4"):
        return specs
    held = _packed if mode == "int4" else _frozen
    found = [held(table), _scale("embeddings_scale")]
    if mode == "int4" and blocked:
        found += [_scale("embeddings_zero"), _scale("g_idx")]
    for spec in reverse:
        found += [held(spec), _scale("reverse_embeddings_scale")]
        if mode == "int4" and blocked:
            found.append(_scale("reverse_embeddings_zero"))
    return tuple(found)


def _frozen(spec: WeightSpec) -> WeightSpec:
    return replace(spec, trainable=False)


def _low_rank(specs: tuple[WeightSpec, ...], rank: int) -> tuple[WeightSpec, ...]:
    """The kernel frozen, and the two matrices whose product is added to it."""
    kernel = next(spec for spec in specs if spec.role in ("kernel", "embeddings", "other"))
    name = f"lora_{kernel.name}"
    rest = tuple(replace(spec, trainable=False) if spec is kernel else spec for spec in specs)
    return (
        *rest,
        WeightSpec(name=f"{name}_a", role="other", low_rank=rank),
        WeightSpec(name=f"{name}_b", role="other", low_rank=rank),
    )
