"""What is known of a call's Jacobian by its kind alone: diagonal, a selection, affine, coupled.

Only Keras' own classes are taken at their word; of a subclass or a custom layer nothing is known.
Of a call of an imported ONNX model its operators tell.
"""

from __future__ import annotations

import enum
from typing import Any

import keras

from auditor.onnx_import.dependence import UNKNOWN, Dependence, dependence
from auditor.onnx_import.layer_run import LayerRun
from auditor.probe.recording import RecordedCall
from auditor.probe.statistics import is_floating


class Structure(enum.Enum):
    """The pattern of a Jacobian's non-zero entries.

    DIAGONAL: each output value depends on the value at its own place of each input. SELECTION:
    each output value is one input value, or a constant. Both are known exactly from Jᵀ1.
    """

    DIAGONAL = "diagonal"
    SELECTION = "selection"
    GENERAL = "general"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Activation functions that work value by value.
ELEMENTWISE_FUNCTIONS = _words(
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh "
    "leaky_relu linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus "
    "softsign sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink threshold"
)
DIAGONAL_LAYERS = _words(
    "ActivityRegularization Add AlphaDropout Average Dropout ELU GaussianDropout "
    "GaussianNoise Identity LeakyReLU Masking Maximum Minimum Multiply Normalization PReLU "
    "ReLU Rescaling SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract"
)
#: Of an equal maximum at several places, every framework's pooling passes the gradient to one.
SELECTION_LAYERS = _words(
    "Concatenate Cropping1D Cropping2D Cropping3D Flatten MaxPooling1D MaxPooling2D "
    "MaxPooling3D Permute RepeatVector Reshape UpSampling1D UpSampling3D ZeroPadding1D "
    "ZeroPadding2D ZeroPadding3D"
)
#: Nodes of `keras.ops`.
DIAGONAL_OPERATIONS = _words(
    "Abs Absolute Add Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Cbrt Celu Clip Cos "
    "Cosh Divide DivideNoNan Elu Erf Erfc Exp Exp2 Expm1 Gelu HardShrink HardSigmoid HardSilu "
    "HardTanh Hypot LeakyRelu Log Log10 Log1p Log2 LogSigmoid Logaddexp Logaddexp2 Maximum "
    "Minimum Multiply Negative Power Reciprocal Relu Relu6 Rsqrt Selu Sigmoid Silu Sin Sinh "
    "SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus Subtract "
    "Tan Tanh TanhShrink Threshold TrueDivide"
)
SELECTION_OPERATIONS = _words(
    "BroadcastTo Concatenate DepthToSpace ExpandDims Flip GetItem MaxPool Moveaxis Pad Ravel "
    "Repeat Reshape Roll SpaceToDepth Squeeze Stack Swapaxes Take Tile Transpose Tril Triu"
)
#: Linear in their input where they have no activation; J is the same for every sample.
AFFINE_LAYERS = _words(
    "AveragePooling1D AveragePooling2D AveragePooling3D Conv1D Conv1DTranspose Conv2D "
    "Conv2DTranspose Conv3D Conv3DTranspose Dense DepthwiseConv1D DepthwiseConv2D EinsumDense "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D SeparableConv1D "
    "SeparableConv2D"
)

#: Layers of Keras that work on the batch, or run a function of somebody else's.
COUPLING_LAYERS = _words(
    "BatchNormalization CutMix FlaxLayer JaxLayer Lambda MixUp TFSMLayer TorchModuleWrapper"
)


def structure_of(call: RecordedCall) -> Structure:
    """The pattern of the call's Jacobian, as far as its kind tells."""
    name = _own_class(call.operation)
    outputs = [shape for shape, _ in call.outputs]
    if len(outputs) != 1:
        return Structure.GENERAL
    # Broadcasting sums what it pulls back.
    aligned = all(tuple(tensor.shape) == outputs[0] for tensor in call.inputs)
    onnx = _onnx_dependence(call)
    if aligned and (_is_diagonal(call, name) or onnx.in_place):
        return Structure.DIAGONAL
    if onnx.selects:
        return Structure.SELECTION
    layer = isinstance(call.operation, keras.layers.Layer)
    if name in (SELECTION_LAYERS if layer else SELECTION_OPERATIONS):
        return Structure.SELECTION
    if name in ("Resizing", "UpSampling2D") and call.operation.interpolation == "nearest":
        return Structure.SELECTION
    return Structure.GENERAL


def is_affine(call: RecordedCall) -> bool:
    """Whether J is the same for every sample, and samples do not meet."""
    onnx = _onnx_dependence(call)
    if onnx.affine and onnx.any_batch:
        return True
    if _own_class(call.operation) not in AFFINE_LAYERS or len(call.inputs) != 1:
        return False
    # Quantized weights and adapters change what the layer does to its input.
    if getattr(call.operation, "quantization_mode", None):
        return False
    return has_no_activation(call.operation)


def has_no_activation(layer: Any) -> bool:
    """Whether a layer applies no activation of its own, or the linear one."""
    return getattr(layer, "activation", None) in (None, keras.activations.linear)


def normalizes_batch(call: RecordedCall) -> bool:
    """Whether the call is Keras' own batch normalization by the statistics of its batch."""
    return _own_class(call.operation) == "BatchNormalization" and not _uses_moving(call)


def may_couple_samples(call: RecordedCall) -> bool:
    """Whether a sample's output may depend on other samples of the batch, for all that is known."""
    operation = call.operation
    if not isinstance(operation, keras.layers.Layer):
        return True
    if _onnx_dependence(call).by_sample:
        return False
    rank = max((len(tensor.shape) for tensor in call.inputs), default=1)
    layers = operation._flatten_layers()  # noqa: SLF001
    return any(_may_couple_samples(layer, rank) for layer in layers)


def _may_couple_samples(layer: Any, rank: int) -> bool:
    name = _own_class(layer)
    if not name or name in COUPLING_LAYERS:
        return True
    activation = getattr(layer, "activation", None)
    if activation is not None and not _is_keras(activation):
        return True
    axes = getattr(layer, "axis", None)
    axes = axes if isinstance(axes, (list, tuple)) else (axes,)
    return any(isinstance(axis, int) and axis in (0, -rank) for axis in axes)


def runs_by_sample(call: RecordedCall) -> bool:
    """Whether the call surely runs with fewer samples as well."""
    if onnx_run(call) is not None:
        return _onnx_dependence(call).any_batch
    operation = call.operation
    if not isinstance(operation, keras.layers.Layer) or may_couple_samples(call):
        return False
    if any(getattr(layer, "stateful", False) for layer in operation._flatten_layers()):  # noqa: SLF001
        return False
    tensors = keras.tree.flatten((call.args, dict(call.kwargs)))
    return all(is_floating(t) for t in tensors if keras.ops.is_tensor(t))


def onnx_run(call: RecordedCall) -> LayerRun | None:
    """What a call of an imported ONNX model ran on; None for any other."""
    run = call.kwargs.get("run")
    return run if isinstance(run, LayerRun) else None


def _onnx_dependence(call: RecordedCall) -> Dependence:
    """What the operators of an imported call tell of all its outputs."""
    run = onnx_run(call)
    outputs = () if run is None else dependence(run)
    if len(outputs) == 1:
        return outputs[0]
    by_sample = bool(outputs) and all(one.by_sample for one in outputs)
    any_batch = bool(outputs) and all(one.any_batch for one in outputs)
    return Dependence(by_sample=by_sample, any_batch=any_batch) if outputs else UNKNOWN


def _is_diagonal(call: RecordedCall, name: str) -> bool:
    operation = call.operation
    if not isinstance(operation, keras.layers.Layer):
        return name in DIAGONAL_OPERATIONS
    if name == "Activation":
        return getattr(operation.activation, "__name__", "") in ELEMENTWISE_FUNCTIONS and (
            _is_keras(operation.activation)
        )
    if name == "BatchNormalization":
        return _uses_moving(call)
    return name in DIAGONAL_LAYERS


def _uses_moving(call: RecordedCall) -> bool:
    return not (call.training and call.operation.trainable)


def _own_class(operation: Any) -> str:
    """The name of a class of Keras; "" for any other, subclasses of them included."""
    return type(operation).__name__ if _is_keras(type(operation)) else ""


def _is_keras(thing: Any) -> bool:
    module = getattr(thing, "__module__", "") or ""
    return bool(module.startswith("keras.src."))
