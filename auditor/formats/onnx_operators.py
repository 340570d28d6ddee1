"""The operators of ONNX in the canonical vocabulary: one table, by domain and operator type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from auditor.graph.operators import Op

MAIN = ""
ML = "ai.onnx.ml"
PREVIEW = "ai.onnx.preview"
TRAINING = "ai.onnx.preview.training"
#: The domain of nodes that stand for what a control operator gives its body (`onnx_bodies`). No
#: file can name it: the decoder lets no NUL through.
BODY = "\0body"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What an ONNX operator is.

    `roles` gives the role of the weight at an input's position; an input without one is data, or
    a setting. `note` says what a reader of the report should know.
    """

    op: Op
    activation: str | None = None
    roles: Mapping[int, str] = field(default_factory=dict)
    note: str = ""


KERNEL = {1: "kernel", 2: "bias"}
RECURRENT = {1: "kernel", 2: "recurrent_kernel", 3: "bias"}
CLASSICAL = "classical machine learning: no gradient passes through it"

#: Operators with neither activation nor weights, by canonical operator.
PLAIN: Mapping[Op, str] = {
    Op.ELEMENTWISE: """
        Abs Acos Acosh Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
        Ceil Clip Cos Cosh CumProd CumSum Erf Floor Log Mod Neg Pow Reciprocal RotaryEmbedding
        Round Sign Sin Sinh Sqrt Tan""",
    Op.COMPARE: """
        And ArgMax ArgMin Equal Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual
        NonMaxSuppression NonZero Not Or OptionalHasElement SequenceLength Shape Size Unique
        Xor""",
    Op.CONSTANT: """
        BlackmanWindow Constant ConstantOfShape EyeLike HammingWindow HannWindow MelWeightMatrix
        RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range SequenceEmpty""",
    Op.CAST: "BitCast Cast CastLike",
    Op.IDENTITY: "Identity Optional OptionalGetElement",
    Op.DROPOUT: "Dropout",
    Op.ADD: "Add Sum",
    Op.SUBTRACT: "Sub",
    Op.MULTIPLY: "Mul SwiGLU",
    Op.DIVIDE: "Div",
    Op.AVERAGE: "Mean",
    Op.MAXIMUM: "Max",
    Op.MINIMUM: "Min",
    Op.CONCATENATE: "Concat ConcatFromSequence SequenceInsert",
    Op.STACK: "SequenceConstruct",
    Op.DOT: "Einsum",
    Op.MATMUL: "AffineGrid",
    Op.MAX_POOL: "MaxPool MaxRoiPool",
    Op.AVERAGE_POOL: "AveragePool LpPool RoiAlign",
    Op.GLOBAL_MAX_POOL: "GlobalMaxPool",
    Op.GLOBAL_AVERAGE_POOL: "GlobalAveragePool GlobalLpPool",
    Op.REDUCE: """
        Det NegativeLogLikelihoodLoss ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
        ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare SoftmaxCrossEntropyLoss""",
    Op.FLATTEN: "Flatten",
    Op.RESHAPE: "Col2Im DepthToSpace Reshape SpaceToDepth Squeeze Unsqueeze",
    Op.PERMUTE: "ReverseSequence Transpose",
    Op.PAD: "Pad",
    Op.CROP: "CenterCropPad",
    Op.UPSAMPLE: "MaxUnpool Resize Upsample",
    Op.REPEAT: "Expand Tile",
    Op.SLICE: "SequenceErase Slice",
    Op.SPLIT: "Split SplitToSequence",
    Op.GATHER: """
        Compress Gather GatherElements GatherND GridSample Scatter ScatterElements ScatterND
        SequenceAt TensorScatter TopK""",
    Op.MASKING: "Trilu",
    Op.WHERE: "Where",
    Op.QUANTIZE: "DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
    Op.PREPROCESSING: """
        Bernoulli DFT ImageDecoder Multinomial OneHot RegexFullMatch STFT StringConcat
        StringNormalizer StringSplit TfIdfVectorizer""",
    Op.UNIT_NORM: "LRN LpNormalization",
    Op.INSTANCE_NORM: "MeanVarianceNormalization",
    Op.DOT_ATTENTION: "Attention LinearAttention",
}

#: Operators that are an activation, whatever their parameters.
ACTIVATIONS: Mapping[str, str] = {
    "Celu": "celu",
    "Elu": "elu",
    "Exp": "exponential",
    "Gelu": "gelu",
    "HardSigmoid": "hard_sigmoid",
    "HardSwish": "hard_silu",
    "LeakyRelu": "leaky_relu",
    "LogSoftmax": "log_softmax",
    "Mish": "mish",
    "Relu": "relu",
    "Selu": "selu",
    "Shrink": "soft_shrink",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Swish": "silu",
    "Tanh": "tanh",
    "ThresholdedRelu": "threshold",
}

#: Operators with weights, and what each input is.
WEIGHTED: Mapping[str, tuple[Op, Mapping[int, str]]] = {
    "Conv": (Op.CONV, KERNEL),
    "ConvInteger": (Op.CONV, {1: "kernel"}),
    "ConvTranspose": (Op.CONV_TRANSPOSE, KERNEL),
    "CausalConvWithState": (Op.CONV, KERNEL),
    "DeformConv": (Op.CONV, {1: "kernel", 3: "bias"}),
    "QLinearConv": (Op.CONV, {3: "kernel", 8: "bias"}),
    "Gemm": (Op.DENSE, KERNEL),
    "MatMul": (Op.DENSE, {0: "kernel", 1: "kernel"}),
    "MatMulInteger": (Op.DENSE, {0: "kernel", 1: "kernel"}),
    "QLinearMatMul": (Op.DENSE, {0: "kernel", 3: "kernel"}),
    "LSTM": (Op.LSTM, RECURRENT),
    "GRU": (Op.GRU, RECURRENT),
    "RNN": (Op.SIMPLE_RNN, RECURRENT),
    "BatchNormalization": (
        Op.BATCH_NORM,
        {1: "gamma", 2: "beta", 3: "moving_mean", 4: "moving_variance"},
    ),
    "InstanceNormalization": (Op.INSTANCE_NORM, {1: "gamma", 2: "beta"}),
    "LayerNormalization": (Op.LAYER_NORM, {1: "gamma", 2: "beta"}),
    "GroupNormalization": (Op.GROUP_NORM, {1: "gamma", 2: "beta"}),
    "RMSNormalization": (Op.RMS_NORM, {1: "gamma"}),
}

#: Operators with graphs within them, and what to know of the calls these graphs become.
CONTROL: Mapping[str, str] = {
    "If": "one of its branches runs, as its condition says",
    "Loop": "its body repeats, and stands here once: what one repetition hands to the next is not "
    "followed",
    "Scan": "its body repeats, and stands here once: what one repetition hands to the next is not "
    "followed",
    "SequenceMap": "its body runs once for each element, and stands here once",
}
#: What these give their bodies.
GIVEN: Mapping[str, tuple[Op, str]] = {
    "LoopCount": (Op.CONSTANT, ""),
    "LoopCondition": (Op.CONTROL, ""),
    "LoopState": (Op.CONTROL, "as it comes in: later repetitions take what the body gave"),
    "ScanState": (Op.CONTROL, "as it comes in: later repetitions take what the body gave"),
    "ScanElement": (Op.SLICE, ""),
    "SequenceElement": (Op.GATHER, ""),
    "BodyInputs": (Op.OPAQUE, "what an operator not known here gives the graph within it"),
}
#: Experimental operators of early releases, since withdrawn, which files from then still have.
WITHDRAWN: Mapping[str, Op] = {
    "ATen": Op.OPAQUE,
    "Affine": Op.SCALE,
    "ConstantFill": Op.CONSTANT,
    "Crop": Op.CROP,
    "DynamicSlice": Op.SLICE,
    "GRUUnit": Op.RECURRENT,
    "GivenTensorFill": Op.CONSTANT,
    "ImageScaler": Op.SCALE,
    "Scale": Op.SCALE,
}
WITHDRAWN_ACTIVATIONS: Mapping[str, str] = {"ParametricSoftplus": "softplus", "ScaledTanh": "tanh"}

CLASSICAL_OPAQUE = """
    LinearClassifier LinearRegressor SVMClassifier SVMRegressor TreeEnsemble
    TreeEnsembleClassifier TreeEnsembleRegressor"""
CLASSICAL_PREPROCESSING = """
    ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer
    LabelEncoder OneHotEncoder ZipMap"""
TRAINING_STEPS = "Adagrad Adam Gradient Momentum"


def _entries() -> Iterator[tuple[tuple[str, str], Operator]]:
    for op, names in PLAIN.items():
        for name in names.split():
            yield (MAIN, name), Operator(op=op)
    for name, note in CONTROL.items():
        yield (MAIN, name), Operator(op=Op.CONTROL, note=note)
    for name, (op, note) in GIVEN.items():
        yield (BODY, name), Operator(op=op, note=note)
    for name, op in WITHDRAWN.items():
        note = "an operator ONNX has withdrawn" if op is Op.OPAQUE else ""
        yield (MAIN, name), Operator(op=op, note=note)
    for name, activation in (*ACTIVATIONS.items(), *WITHDRAWN_ACTIVATIONS.items()):
        yield (MAIN, name), Operator(op=Op.ACTIVATION, activation=activation)
    for name, (op, roles) in WEIGHTED.items():
        yield (MAIN, name), Operator(op=op, roles=roles)
    yield (MAIN, "PRelu"), Operator(op=Op.ACTIVATION, activation="prelu", roles={1: "other"})
    for name in CLASSICAL_OPAQUE.split():
        yield (ML, name), Operator(op=Op.OPAQUE, note=CLASSICAL)
    for name in CLASSICAL_PREPROCESSING.split():
        yield (ML, name), Operator(op=Op.PREPROCESSING)
    yield (ML, "Scaler"), Operator(op=Op.SCALE)
    yield (ML, "Normalizer"), Operator(op=Op.UNIT_NORM)
    yield (PREVIEW, "FlexAttention"), Operator(op=Op.DOT_ATTENTION)
    for name in TRAINING_STEPS.split():
        yield (TRAINING, name), Operator(op=Op.OPAQUE, note="a training step, not a layer")


#: (domain, operator type) → what it is.
OPERATORS: Mapping[tuple[str, str], Operator] = dict(_entries())


def operator(domain: str, op_type: str) -> Operator:
    """What an operator is; OPAQUE, with the reason, for one that ONNX itself does not define."""
    known = OPERATORS.get((domain, op_type))
    if known is not None:
        return known
    if domain == MAIN:
        return Operator(op=Op.OPAQUE, note=f"{op_type!r} is no operator of ai.onnx known here")
    return Operator(op=Op.OPAQUE, note=f"custom operator {op_type!r} of domain {domain!r}")
