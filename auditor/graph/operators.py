"""The canonical operator vocabulary: what a layer call does, whatever its format calls it."""

from __future__ import annotations

import enum


class Op(enum.StrEnum):
    """What a layer call does. Keras layers, `keras.ops` nodes and ONNX nodes all map into this."""

    INPUT = "input"
    CONSTANT = "constant"
    # maps with a kernel
    DENSE = "dense"
    EINSUM_DENSE = "einsum-dense"
    CONV = "conv"
    DEPTHWISE_CONV = "depthwise-conv"
    SEPARABLE_CONV = "separable-conv"
    CONV_TRANSPOSE = "conv-transpose"
    LOCALLY_CONNECTED = "locally-connected"
    EMBEDDING = "embedding"
    SIMPLE_RNN = "simple-rnn"
    LSTM = "lstm"
    GRU = "gru"
    CONV_LSTM = "conv-lstm"
    RECURRENT = "recurrent"  # any other or custom cell
    ATTENTION = "attention"  # multi-head or grouped-query, with projections
    DOT_ATTENTION = "dot-attention"  # attention of given query, key, value; no projections
    MATMUL = "matmul"  # a product of two computed tensors
    # normalization
    BATCH_NORM = "batch-norm"
    LAYER_NORM = "layer-norm"
    GROUP_NORM = "group-norm"
    RMS_NORM = "rms-norm"
    UNIT_NORM = "unit-norm"
    INSTANCE_NORM = "instance-norm"
    # elementwise
    ACTIVATION = "activation"  # `LayerCall.activation` says which
    SCALE = "scale"  # multiplication and shift by constants: Rescaling, Normalization
    ELEMENTWISE = "elementwise"  # one tensor in, same shape out, not an activation: log, sqrt, …
    CAST = "cast"
    IDENTITY = "identity"
    # stochastic, active in training only
    DROPOUT = "dropout"
    NOISE = "noise"
    AUGMENTATION = "augmentation"
    REGULARIZATION = "regularization"  # ActivityRegularization
    # pooling and reductions
    MAX_POOL = "max-pool"
    AVERAGE_POOL = "average-pool"
    GLOBAL_MAX_POOL = "global-max-pool"
    GLOBAL_AVERAGE_POOL = "global-average-pool"
    REDUCE = "reduce"
    # shape only: every output element is an input element or a constant
    FLATTEN = "flatten"
    RESHAPE = "reshape"
    PERMUTE = "permute"
    PAD = "pad"
    CROP = "crop"
    UPSAMPLE = "upsample"
    REPEAT = "repeat"
    SLICE = "slice"
    SPLIT = "split"
    GATHER = "gather"
    MASKING = "masking"
    # merging
    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    DIVIDE = "divide"
    AVERAGE = "average"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    CONCATENATE = "concatenate"
    STACK = "stack"
    DOT = "dot"
    # the rest
    PREPROCESSING = "preprocessing"  # lookups, hashing, discretization: no derivative
    WHERE = "where"
    COMPARE = "compare"  # boolean or index results
    CONTROL = "control"  # If, Loop, Scan
    QUANTIZE = "quantize"
    OPAQUE = "opaque"  # not understood: custom, Lambda, unknown


#: Calls that multiply by a kernel of their own: what "a layer" means when depth is counted.
KERNEL_OPS = frozenset(
    {
        Op.DENSE,
        Op.EINSUM_DENSE,
        Op.CONV,
        Op.DEPTHWISE_CONV,
        Op.SEPARABLE_CONV,
        Op.CONV_TRANSPOSE,
        Op.LOCALLY_CONNECTED,
        Op.EMBEDDING,
        Op.SIMPLE_RNN,
        Op.LSTM,
        Op.GRU,
        Op.CONV_LSTM,
        Op.RECURRENT,
        Op.ATTENTION,
    }
)
#: Kernel maps that are affine before their fused activation.
AFFINE_OPS = frozenset(
    {
        Op.DENSE,
        Op.EINSUM_DENSE,
        Op.CONV,
        Op.DEPTHWISE_CONV,
        Op.SEPARABLE_CONV,
        Op.CONV_TRANSPOSE,
        Op.LOCALLY_CONNECTED,
    }
)
CONVOLUTION_OPS = frozenset(
    {Op.CONV, Op.DEPTHWISE_CONV, Op.SEPARABLE_CONV, Op.CONV_TRANSPOSE, Op.LOCALLY_CONNECTED}
)
RECURRENT_OPS = frozenset({Op.SIMPLE_RNN, Op.LSTM, Op.GRU, Op.CONV_LSTM, Op.RECURRENT})
NORMALIZATION_OPS = frozenset(
    {
        Op.BATCH_NORM,
        Op.LAYER_NORM,
        Op.GROUP_NORM,
        Op.RMS_NORM,
        Op.UNIT_NORM,
        Op.INSTANCE_NORM,
    }
)
POOLING_OPS = frozenset({Op.MAX_POOL, Op.AVERAGE_POOL, Op.GLOBAL_MAX_POOL, Op.GLOBAL_AVERAGE_POOL})
#: Every output element is an input element (or padding): values pass through unchanged.
SHAPE_OPS = frozenset(
    {
        Op.FLATTEN,
        Op.RESHAPE,
        Op.PERMUTE,
        Op.PAD,
        Op.CROP,
        Op.UPSAMPLE,
        Op.REPEAT,
        Op.SLICE,
        Op.SPLIT,
        Op.GATHER,
        Op.MASKING,
    }
)
#: Identity at inference; they act in training only.
TRAINING_ONLY_OPS = frozenset({Op.DROPOUT, Op.NOISE, Op.AUGMENTATION, Op.REGULARIZATION})
MERGE_OPS = frozenset(
    {
        Op.ADD,
        Op.SUBTRACT,
        Op.MULTIPLY,
        Op.DIVIDE,
        Op.AVERAGE,
        Op.MAXIMUM,
        Op.MINIMUM,
        Op.CONCATENATE,
        Op.STACK,
        Op.DOT,
        Op.MATMUL,
    }
)
#: Sums of branches: where residual connections end.
SUM_OPS = frozenset({Op.ADD, Op.SUBTRACT, Op.AVERAGE})

#: Activations flat on both sides, by canonical name.
SATURATING_ACTIVATIONS = frozenset(
    {"sigmoid", "tanh", "softsign", "hard_sigmoid", "hard_tanh", "softmax", "sparse_sigmoid"}
)
#: Activations whose output is never negative.
NONNEGATIVE_ACTIVATIONS = frozenset(
    {
        "relu",
        "relu6",
        "sigmoid",
        "hard_sigmoid",
        "sparse_sigmoid",
        "softmax",
        "softplus",
        "sparse_plus",
        "exponential",
        "sparsemax",
    }
)
#: The canonical activation names: those of keras.activations. "linear" is written as None.
ACTIVATIONS = frozenset(
    {
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "glu",
        "tanh",
        "tanh_shrink",
        "hard_tanh",
        "hard_shrink",
        "soft_shrink",
        "threshold",
        "sigmoid",
        "hard_sigmoid",
        "hard_silu",
        "log_sigmoid",
        "sparse_sigmoid",
        "sparse_plus",
        "squareplus",
        "softplus",
        "softsign",
        "softmax",
        "log_softmax",
        "sparsemax",
        "exponential",
    }
)
