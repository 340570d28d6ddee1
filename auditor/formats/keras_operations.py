"""`keras.ops` nodes, and Keras 2's TensorFlow operations, in the canonical vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from auditor.graph.operators import Op


def names(text: str) -> frozenset[str]:
    """The names in a text, between blanks."""
    return frozenset(text.split())


def _all(op: Op, text: str) -> dict[str, Op]:
    return dict.fromkeys(text.split(), op)


#: Class name of a `keras.ops` node → operator.
OPERATIONS: Mapping[str, Op] = {
    **_all(Op.ADD, "Add"),
    **_all(Op.SUBTRACT, "Subtract"),
    **_all(Op.MULTIPLY, "Multiply"),
    **_all(Op.DIVIDE, "Divide TrueDivide DivideNoNan"),
    **_all(Op.MAXIMUM, "Maximum Fmax"),
    **_all(Op.MINIMUM, "Minimum Fmin"),
    **_all(Op.CONCATENATE, "Concatenate Append Hstack Vstack Dstack"),
    **_all(Op.STACK, "Stack"),
    **_all(Op.MATMUL, "Matmul Einsum Tensordot Outer Inner Vdot Kron Correlate Cross CDist"),
    **_all(Op.DOT, "Dot"),
    **_all(Op.DOT_ATTENTION, "DotProductAttention"),
    **_all(Op.CONV, "Conv"),
    **_all(Op.DEPTHWISE_CONV, "DepthwiseConv"),
    **_all(Op.SEPARABLE_CONV, "SeparableConv"),
    **_all(Op.CONV_TRANSPOSE, "ConvTranspose"),
    **_all(Op.MAX_POOL, "MaxPool AdaptiveMaxPool"),
    **_all(Op.AVERAGE_POOL, "AveragePool AdaptiveAveragePool"),
    **_all(Op.BATCH_NORM, "BatchNorm"),
    **_all(Op.LAYER_NORM, "LayerNorm"),
    **_all(Op.RMS_NORM, "RMSNorm"),
    **_all(Op.UNIT_NORM, "Normalize"),
    **_all(
        Op.REDUCE,
        "All Any Amax Amin Argmax Argmin Average BinaryCrossentropy CTCLoss "
        "CategoricalCrossentropy CountNonzero Det Logdet Logsumexp Max Mean Median Min Moments "
        "Nanargmax Nanargmin Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod "
        "Nanquantile Nanstd Nansum Nanvar Norm "
        "PSNR Percentile Prod Ptp Quantile SSIM SegmentMax SegmentMin SegmentProd "
        "SegmentReduction SegmentSum Slogdet SparseCategoricalCrossentropy Std Sum Trace "
        "Trapezoid Var",
    ),
    **_all(Op.RESHAPE, "ExpandDims Fold Ravel Rearrange Reshape Squeeze View ViewAsReal"),
    **_all(Op.PERMUTE, "Flip Fliplr Flipud Moveaxis Roll Rot90 Swapaxes Transpose"),
    **_all(Op.PERMUTE, "DepthToSpace SpaceToDepth"),
    **_all(Op.PAD, "Pad PadImages"),
    **_all(Op.CROP, "CropImages"),
    **_all(Op.UPSAMPLE, "Resize"),
    **_all(Op.REPEAT, "BroadcastTo Meshgrid Repeat Tile"),
    **_all(Op.SLICE, "GetItem Slice Diagonal"),
    **_all(Op.SPLIT, "ArraySplit Dsplit Hsplit Split Unstack Vsplit"),
    **_all(
        Op.GATHER,
        "AffineTransform ElasticTransform ExtractPatches ExtractSequences MapCoordinates "
        "PerspectiveTransform ScaleAndTranslate Scatter ScatterUpdate SliceUpdate Take "
        "TakeAlongAxis TopK Sort Unfold",
    ),
    **_all(Op.CAST, "Cast SaturateCast ConvertToTensor"),
    **_all(Op.IDENTITY, "Array Conj Conjugate Copy Imag Real StopGradient"),
    **_all(Op.WHERE, "Where Select"),
    **_all(
        Op.COMPARE,
        "AllClose Argpartition Argsort Digitize Equal Greater GreaterEqual InTopK IsIn Isclose "
        "Isfinite Isinf Isnan Isneginf Isposinf Isreal Less LessEqual LogicalAnd LogicalNot "
        "LogicalOr LogicalXor MatrixRank Ndim Nonzero NotEqual SearchSorted Signbit Size "
        "UnravelIndex",
    ),
    **_all(
        Op.CONTROL, "AssociativeScan Cond ForiLoop Function Map Scan Switch VectorizedMap WhileLoop"
    ),
    **_all(
        Op.PREPROCESSING,
        "Bincount CTCDecode FFT FFT2 GaussianBlur HSVToRGB Histogram IFFT2 IRFFT ISTFT MultiHot "
        "OneHot RFFT RGBToGrayscale RGBToHSV STFT SobelEdges Unique",
    ),
    **_all(
        Op.ELEMENTWISE,
        "Abs Absolute Angle Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh BitwiseAnd "
        "BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor Cbrt "
        "Ceil Clip Cos Cosh Cumprod Cumsum Deg2rad Diff Erf Erfc Erfinv Exp Exp2 Expm1 Fabs "
        "Floor FloorDivide Fmod Gcd Heaviside Hypot I0 Lcm Ldexp LeftShift Log Log10 Log1p "
        "Log2 Logaddexp Logaddexp2 Mod NanToNum Nancumprod Nancumsum Nextafter Power Rad2deg "
        "Reciprocal RightShift Round Rsqrt Sign Sin Sinc Sinh Sqrt Square Tan Trunc Tril Triu "
        "Vander",
    ),
    **_all(Op.SCALE, "Negative"),
    **_all(
        Op.CONSTANT, "Arange EmptyLike Full FullLike Geomspace Linspace Logspace OnesLike ZerosLike"
    ),
    **_all(Op.PAD, "Diag Diagflat"),
}

_DECOMPOSITION = "a decomposition or inverse of a matrix"
_COMPLEX = "complex numbers, which are not followed"

#: Class name of a `keras.ops` node that is not understood on purpose → what it is.
OPAQUE_OPERATIONS: Mapping[str, str] = {
    **dict.fromkeys(
        names(
            "Cholesky CholeskyInverse Eig Eigh Inv Lstsq LuFactor Pinv Qr SVD Solve SolveTriangular"
        ),
        _DECOMPOSITION,
    ),
    **dict.fromkeys(("Polar", "ViewAsComplex"), _COMPLEX),
    "Corrcoef": "correlations between the rows of a matrix",
    "JVP": "a derivative of another function",
}

#: Class name of a `keras.ops` node → the activation it is.
OPERATION_ACTIVATIONS: Mapping[str, str] = {
    "Celu": "celu",
    "Elu": "elu",
    "Gelu": "gelu",
    "Glu": "glu",
    "HardShrink": "hard_shrink",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardTanh": "hard_tanh",
    "LeakyRelu": "leaky_relu",
    "LogSigmoid": "log_sigmoid",
    "LogSoftmax": "log_softmax",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "SoftShrink": "soft_shrink",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "SparsePlus": "sparse_plus",
    "SparseSigmoid": "sparse_sigmoid",
    "Sparsemax": "sparsemax",
    "Squareplus": "squareplus",
    "Tanh": "tanh",
    "TanhShrink": "tanh_shrink",
    "Threshold": "threshold",
}

#: The function a Keras 2 `TFOpLambda` names → the `keras.ops` class that does the same.
TENSORFLOW_OPERATIONS: Mapping[str, str] = {
    "__operators__.add": "Add",
    "math.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "math.divide": "Divide",
    "math.truediv": "Divide",
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
    "concat": "Concatenate",
    "stack": "Stack",
    "linalg.matmul": "Matmul",
    "math.reduce_mean": "Mean",
    "math.reduce_sum": "Sum",
    "math.reduce_max": "Max",
    "reshape": "Reshape",
    "expand_dims": "ExpandDims",
    "squeeze": "Squeeze",
    "compat.v1.squeeze": "Squeeze",
    "transpose": "Transpose",
    "compat.v1.transpose": "Transpose",
    "__operators__.getitem": "GetItem",
    "slice": "Slice",
    "split": "Split",
    "compat.v1.pad": "Pad",
    "cast": "Cast",
    "math.sqrt": "Sqrt",
    "math.square": "Square",
    "math.exp": "Exp",
    "math.log": "Log",
    "math.abs": "Abs",
    "math.pow": "Power",
    "math.negative": "Negative",
    "nn.relu": "Relu",
    "nn.relu6": "Relu6",
    "nn.sigmoid": "Sigmoid",
    "math.sigmoid": "Sigmoid",
    "math.tanh": "Tanh",
    "nn.softmax": "Softmax",
    "nn.silu": "Silu",
    "nn.swish": "Silu",
    "nn.gelu": "Gelu",
    "nn.elu": "Elu",
    "nn.softplus": "Softplus",
    "math.softplus": "Softplus",
}

#: Operators of two tensors that are a multiplication or shift by constants when one is no tensor.
_SCALING = frozenset({Op.ADD, Op.SUBTRACT, Op.MULTIPLY})
_ELEMENTWISE = frozenset({Op.MAXIMUM, Op.MINIMUM})


def operation(name: str, arguments: Iterable[bool]) -> tuple[Op, str | None]:
    """Operator and activation of a node.

    Args:
        name: its class name.
        arguments: for each leading argument, whether it is a tensor of the graph: x + 1 only
            shifts, x / 2 only scales, while 2 / x does neither.
    """
    activation = OPERATION_ACTIVATIONS.get(name)
    if activation is not None:
        return Op.ACTIVATION, activation
    op = OPERATIONS.get(name, Op.OPAQUE)
    tensors = tuple(arguments)[:2]
    if sum(tensors) == 1 and len(tensors) == 2:
        if op in _SCALING or (op is Op.DIVIDE and tensors[0]):
            return Op.SCALE, None
        if op in _ELEMENTWISE or op is Op.DIVIDE:
            return Op.ELEMENTWISE, None
    return op, None


def is_operation(name: str) -> bool:
    """Whether `keras.ops` has a node of this class name."""
    return name in OPERATIONS or name in OPERATION_ACTIVATIONS or name in OPAQUE_OPERATIONS
