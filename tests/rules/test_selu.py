"""GEB303: what SELU needs to normalize itself."""

from collections.abc import Callable

import numpy as np
import pytest
from builders import GraphBuilder, Kernel

from auditor.finding import Confidence
from auditor.graph import LayerGraph, Op

Judge = Callable[..., tuple]


def selu(
    kernel: Kernel = "lecun_normal",
    *,
    dropout: str = "AlphaDropout",
    norm: bool = False,
    activation: str = "selu",
    inputs: int = 64,
    values: bool = True,
) -> LayerGraph:
    build = GraphBuilder(values=values)
    x = build.input((inputs,))
    for _ in range(2):
        x = build.dense(x, 64, activation, kernel=kernel)
        x = build.batch_norm(x) if norm else x
        x = build.add(Op.DROPOUT, x, kind=dropout, config={"rate": 0.1})
    return build.graph(build.dense(x, 10, "softmax"), loss="categorical_crossentropy")


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize(
    ("kernel", "confidence"),
    [
        ("lecun_normal", None),
        ("lecun_uniform", None),
        ("glorot_uniform", None),  # as wide as its input: 2/(fan-in + fan-out) is 1/fan-in
        ("he_normal", Confidence.HIGH),
        ("random_normal", Confidence.HIGH),
    ],
)
def test_scale(findings: Judge, kernel: str, confidence: Confidence | None, values: bool) -> None:
    found = findings("GEB303", selu(kernel, values=values))
    assert [finding.confidence for finding in found] == ([confidence] if confidence else [])


def test_the_default_initializer_where_widths_differ(findings: Judge) -> None:
    (found,) = findings("GEB303", selu("glorot_uniform", inputs=512))
    assert found.layers == ("dense",)
    assert findings("GEB303", selu("glorot_uniform", inputs=512), factor=2.0) == ()


def test_plain_dropout(findings: Judge) -> None:
    (found,) = findings("GEB303", selu(dropout="Dropout"))
    assert found.layers == ("dropout", "dropout_1")
    assert "AlphaDropout(0.1)" in found.remedy


def test_normalization(findings: Judge) -> None:
    (found,) = findings("GEB303", selu(norm=True))
    assert "normalize" in found.message


def test_other_activations_have_no_such_contract(findings: Judge) -> None:
    graph = selu("he_normal", dropout="Dropout", norm=True, activation="relu")
    assert findings("GEB303", graph) == ()


def test_trained_kernels_are_what_they_are(findings: Judge) -> None:
    kernel = np.random.default_rng(0).normal(0, 0.4, (64, 64)).astype(np.float32)
    assert findings("GEB303", selu(kernel)) == ()
