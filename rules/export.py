"""GEB805: what a file exported for inference no longer shows."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.finding import Evidence, Finding, Severity, Skipped
from auditor.graph import LayerCall, LayerGraph, Op
from auditor.graph.operators import CONVOLUTION_OPS, KERNEL_OPS, NORMALIZATION_OPS
from auditor.rule import Context, Option, rule

from .wording import ids, plural

QUANTIZED = ("int4", "uint4", "int8", "uint8", "float8")


@rule(
    "GEB805",
    "inference-export",
    severity=Severity.INFO,
    since="0.1",
    options=(
        Option(
            name="convolutions",
            default=8,
            meaning="convolutions with a bias, and without any normalization, that look folded",
        ),
    ),
)
def inference_export(context: Context) -> Iterator[Finding | Skipped]:
    """The file is an export for inference: parts of what was trained are not in it.

    ## What it does
    Looks for quantized weights, in any format; and in ONNX files for `convolutions` or more that
    have a bias each and no normalization anywhere, as they are left when batch normalization is
    folded into them, and for the absence of dropout beside that.

    ## Why is this bad
    It is not: the file does what it was made for. But the probe then measures a network that was
    never trained in this form. Folded normalization no longer adapts to its batch, dropout adds no
    noise, and quantized weights have no gradient: what is said of propagation and learning rates
    holds for fine-tuning this file, and not for the training of the model it came from.

    ## Evidence
    How many calls hold quantized weights; how many convolutions have a bias and no normalization.

    ## Example
    ```python
    torch.onnx.export(model.eval(), sample, "model.onnx")  # folds batch normalization
    ```

    ## Use instead
    ```python
    torch.onnx.export(
        model.train(),
        sample,
        "model.onnx",
        training=torch.onnx.TrainingMode.TRAINING,
        do_constant_folding=False,
    )
    ```

    ## Options
    - `convolutions`: convolutions with a bias, and without any normalization, that look folded; 8
      by default, since smaller networks are often built without normalization.

    ## Known problems
    A network that was built without normalization (VGG) looks the same as one whose normalization
    was folded.

    ## References
    - Jacob et al. 2018, Quantization and training of neural networks for efficient
      integer-arithmetic-only inference, https://arxiv.org/abs/1712.05877
    - PyTorch documentation, torch.onnx, https://pytorch.org/docs/stable/onnx_torchscript.html
    """
    graph = context.graph
    quantized = [call for call in graph.layers() if _quantized(call)]
    folded = _folded(graph) if graph.format == "onnx" else []
    if len(folded) < context.number("convolutions"):
        folded = []
    if not quantized and not folded:
        return
    signs = []
    if quantized:
        signs.append(f"{plural(len(quantized), 'layer')} with quantized weights")
    if folded:
        signs.append(
            f"{plural(len(folded), 'convolution')} with a bias and no normalization, as folding "
            "leaves them"
        )
        if not any(call.op is Op.DROPOUT for call in graph.calls):
            signs.append("no dropout")
    yield context.finding(
        f"This looks like an export for inference: {', '.join(signs)}. What is said of training "
        "holds for this file, not for the model it came from.",
        layers=ids([*quantized, *folded]),
        evidence=(
            Evidence(name="layers with quantized weights", value=len(quantized)),
            Evidence(name="convolutions with a bias and no normalization", value=len(folded)),
        ),
        remedy=(
            "To judge how the model trains, audit the file that training saves, or export it in "
            "training mode, without constant folding."
        ),
    )


def _quantized(call: LayerCall) -> bool:
    if call.op is Op.QUANTIZE:
        return True
    return call.op in KERNEL_OPS and any(
        "kernel" in weight.role and weight.dtype.startswith(QUANTIZED) for weight in call.weights
    )


def _folded(graph: LayerGraph) -> list[LayerCall]:
    """The convolutions of a graph in which nothing is normalized, if each has a bias."""
    if any(call.op in NORMALIZATION_OPS for call in graph.calls):
        return []
    found = [call for call in graph.layers() if call.op in CONVOLUTION_OPS]
    return found if all(call.weight("bias") is not None for call in found) else []
