"""GEB406: where a stack that lives by normalization has none."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Confidence, Evidence, Finding, Severity, Skipped
from auditor.graph import LayerGraph, Op
from auditor.graph.depth_kind import open_branches
from auditor.graph.normalization_spans import NormalizationSpan, normalization_spans
from auditor.graph.operators import MERGE_OPS, NORMALIZATION_OPS
from auditor.graph.paths import reaching_outputs
from auditor.graph.residual_blocks import Block, NormPlacement, residual_blocks
from auditor.rule import Context, Option, rule

from .wording import ids, names, plural

ATTENTION_OPS = frozenset({Op.ATTENTION, Op.DOT_ATTENTION})
#: In a branch these may be the learned gain that stands in for normalization (ReZero, LayerScale).
GAINS = frozenset({Op.MULTIPLY, Op.SCALE, Op.OPAQUE})


@rule(
    "GEB406",
    "missing-normalization",
    severity=Severity.WARNING,
    since="0.1",
    options=(
        Option(
            name="attention-blocks",
            default=2,
            meaning="residual attention blocks that need normalization",
        ),
        Option(
            name="depth",
            default=30,
            meaning="layers with weights in a row, where there are skips or other normalizations",
        ),
    ),
)
def missing_normalization(context: Context) -> Iterator[Finding | Skipped]:
    """Transformer blocks, or a deep part of a model, without any normalization.

    ## What it does
    Warns when `attention-blocks` or more residual blocks hold attention, and neither the branch
    nor the sum is normalized or scaled. For information, names a way through `depth` or more
    layers with weights that crosses no normalization, in a model that has skips or normalizes
    elsewhere; plain stacks with neither are GEB109's.

    ## Why is this bad
    Attention multiplies two projections of its input, so that a stream that has grown to twice its
    size has logits four times as large: the softmax saturates on single tokens and its gradient
    dies. Every block adds to the stream. Normalization before each branch is what keeps the
    logits where they were at the first block, however deep the stack.

    ## Evidence
    The blocks, and where they normalize; the layers on the longest way without normalization.

    ## Example
    ```python
    for _ in range(4):
        x = x + keras.layers.MultiHeadAttention(4, 16)(x, x)
        x = x + keras.layers.Dense(64)(keras.layers.Dense(256, activation="gelu")(x))
    ```

    ## Use instead
    ```python
    for _ in range(4):
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(4, 16)(y, y)
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.Dense(64)(keras.layers.Dense(256, activation="gelu")(y))
    ```

    ## Options
    - `attention-blocks`: residual attention blocks that need normalization, 2 by default.
    - `depth`: layers with weights in a row, where the model has skips or normalizes elsewhere, 30
      by default: the U-Net of 2015 was trained with 23.

    ## Known problems
    Blocks with a learned gain in their branch, and normalization inside custom layers, do
    without, and are let pass where the graph shows them. Residual sums without normalization are
    GEB307's. Exporters fold batch normalization into the weights before it: ONNX graphs are not
    judged.

    ## References
    - Vaswani et al. 2017, Attention is all you need, https://arxiv.org/abs/1706.03762
    - Xiong et al. 2020, On layer normalization in the transformer architecture,
      https://arxiv.org/abs/2002.04745
    - Bachlechner et al. 2021, ReZero is all you need, https://arxiv.org/abs/2003.04887
    """
    graph = context.graph
    if graph.format == "onnx":
        yield context.skip("an exporter may have folded normalization into the weights")
        return
    bare = _bare_attention(graph)
    if len(bare) >= context.number("attention-blocks"):
        attention = [call for block in bare for call in block.calls if call.op in ATTENTION_OPS]
        yield context.finding(
            f"{plural(len(bare), 'residual block')} with attention ({names(attention)}) "
            "normalize neither their branch nor their sum: the stream grows from block to block, "
            "and the logits of attention with its square.",
            layers=ids([block.merge for block in bare]),
            evidence=(Evidence(name="blocks without normalization", value=len(bare)),),
            remedy=(
                "Normalize what each branch takes.\n\n"
                "```python\n"
                "y = keras.layers.LayerNormalization()(x)\n"
                "x = x + keras.layers.MultiHeadAttention(heads, size)(y, y)\n"
                "```\n"
            ),
            confidence=Confidence.MEDIUM,
        )
        return
    spans = [span for span in _bare_spans(graph) if span.kernels >= context.number("depth")]
    if spans:
        longest = max(spans, key=lambda span: span.kernels)
        yield context.finding(
            f"From `{longest.calls[0].id}` to `{longest.calls[-1].id}` {longest.kernels} layers "
            "with weights follow each other without normalization.",
            layers=(longest.calls[0].id, longest.calls[-1].id),
            evidence=(Evidence(name="layers without normalization", value=longest.kernels),),
            remedy=(
                "Put BatchNormalization (LayerNormalization for sequences) behind the layers of "
                "that part, before their activation."
            ),
            severity=Severity.INFO,
            confidence=Confidence.LOW,
        )


def _bare_attention(graph: LayerGraph) -> list[Block]:
    """The residual blocks with attention that nothing normalizes or scales."""
    used = reaching_outputs(graph)
    bare = [
        block
        for block in residual_blocks(graph)
        if block.merge.id in used
        and block.normalization is NormPlacement.NONE
        and any(call.op in ATTENTION_OPS for call in block.calls)
        and not any(call.op in GAINS for call in block.calls)
        and not any(_normalized(graph, source.id) for source in graph.successors(block.merge.id))
    ]
    normalizations = sum(call.op in NORMALIZATION_OPS for call in graph.calls)
    # As many normalizations as blocks normalize them in a way that the blocks do not show.
    return bare if len(bare) > normalizations else []


def _normalized(graph: LayerGraph, call_id: str) -> bool:
    """Whether a call behind a sum is a normalization, or a dropout that leads to one."""
    call = graph.by_id[call_id]
    if call.training_only:
        return any(after.op in NORMALIZATION_OPS for after in graph.successors(call_id))
    return call.op in NORMALIZATION_OPS


def _bare_spans(graph: LayerGraph) -> list[NormalizationSpan]:
    """Spans without normalization that neither GEB109 nor GEB307 speaks of."""
    elsewhere = any(call.op in NORMALIZATION_OPS for call in graph.calls)
    merges = any(call.op in MERGE_OPS for call in graph.calls)
    if not (elsewhere or merges) or open_branches(graph):
        return []
    return [
        span
        for span in normalization_spans(graph)
        if not any(call.activation == "selu" or call.op in GAINS for call in span.calls)
    ]
