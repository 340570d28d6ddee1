"""Pieces that the patterns of several layers have in common, in every spelling of exporters."""

from __future__ import annotations

from auditor.formats.onnx_patterns import (
    Data,
    Fixed,
    NodeTest,
    Number,
    Pattern,
    either,
    op,
    through,
)

X = Data("x")
GAMMA, BETA, KERNEL, BIAS = Fixed("gamma"), Fixed("beta"), Fixed("kernel"), Fixed("bias")
#: Takes part and is not kept.
UNKEPT = Fixed()


def square(of: Pattern) -> Pattern:
    """x²."""
    return either(op("Pow", of, Number(2)), op("Mul", of, of))


def root(of: Pattern) -> Pattern:
    """√x."""
    return either(op("Sqrt", of), op("Pow", of, Number(0.5)))


def inverse(of: Pattern) -> Pattern:
    """1/x."""
    return either(op("Reciprocal", of), op("Div", Number(1), of), op("Pow", of, Number(-1)))


def inverse_root(of: Pattern) -> Pattern:
    """1/√x."""
    return either(inverse(root(of)), op("Pow", of, Number(-0.5)), op("Sqrt", inverse(of)))


def negative(of: Pattern) -> Pattern:
    """−x."""
    return either(op("Neg", of), op("Mul", of, Number(-1)))


def scaled(of: Pattern, factor: float) -> Pattern:
    """X · factor."""
    return either(op("Mul", of, Number(factor)), op("Div", of, Number(1 / factor)))


def shifted(of: Pattern, summand: float) -> Pattern:
    """X + summand."""
    return either(op("Add", of, Number(summand)), op("Sub", of, Number(-summand)))


def relu(of: Pattern) -> Pattern:
    """max(x, 0)."""
    return either(op("Relu", of), op("Max", of, Number(0)))


def affine(core: Pattern) -> Pattern:
    """γ·x + β, without the one or the other, or neither."""
    return either(
        op("Add", op("Mul", core, GAMMA), BETA), op("Mul", core, GAMMA), op("Add", core, BETA), core
    )


def spread(of: Pattern) -> Pattern:
    """A statistic laid out over what it was taken of, as JAX does before it computes with it."""
    return through("Reshape Unsqueeze Expand", of)


def mean(of: Pattern, test: NodeTest) -> Pattern:
    """The mean over axes that pass `test`; a sum times "share" is for the layer to check."""
    total = op("ReduceSum", of, test=test)
    return either(
        op("ReduceMean GlobalAveragePool", of, test=test),
        op("Mul", total, Number(name="share")),
        op("Div", total, Number(name="share", inverse=True)),
    )


def softmax(of: Pattern, test: NodeTest) -> Pattern:
    """exp(x) / Σ exp(x), as one node or as exporters without it write it."""
    return either(op("Softmax", of, test=test), divided_exponentials(of))


def divided_exponentials(of: Pattern) -> Pattern:
    """exp(x − max x) / Σ exp(x − max x)."""
    powers = op("Exp", less_largest(of))
    return op("Div", powers, spread(op("ReduceSum", powers)))


def less_largest(of: Pattern) -> Pattern:
    """X − max x."""
    largest = op("ReduceMax", of)
    bounded = either(op("Max", largest, Number(float("-inf"))), largest)
    return op("Sub", of, spread(bounded))
