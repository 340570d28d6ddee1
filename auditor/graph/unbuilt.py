"""Layers that were never built: they will have weights, and have none yet."""

from __future__ import annotations

from auditor.graph.layer_graph import LayerCall, LayerGraph
from auditor.graph.operators import KERNEL_OPS, Op

#: What a rule that needs weights or shapes says of such a model.
NOT_BUILT = "the model is not built: give it an Input or call it once"
#: Cells and layers of others may do without weights.
HOLDING_OPS = (KERNEL_OPS - {Op.RECURRENT}) | {Op.BATCH_NORM}
#: Where Keras' operations come from: `ops.conv` takes its kernel as an argument.
OPERATIONS = ("keras.ops", "keras.src.ops")


def unbuilt(graph: LayerGraph) -> tuple[LayerCall, ...]:
    """The layers of a Keras model whose kind has a kernel or statistics, and that have no weight.

    A Sequential saved before it knew its input is such a model: its file holds neither shapes nor
    weights. The kernels of ONNX nodes may be computed, so that none is missed there.
    """
    if graph.format == "onnx":
        return ()
    return tuple(
        call
        for call in graph.layers()
        if call.op in HOLDING_OPS and not call.weights and not call.module.startswith(OPERATIONS)
    )
