"""Keras' layer classes in the canonical vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.graph.operators import Op


def _ranks(stem: str, op: Op, suffix: str = "") -> dict[str, Op]:
    return {f"{stem}{rank}D{suffix}": op for rank in (1, 2, 3)}


def _all(op: Op, names: str) -> dict[str, Op]:
    return dict.fromkeys(names.split(), op)


#: Class name → operator, for every class of keras.layers and those only Keras 2 had.
LAYERS: Mapping[str, Op] = {
    "InputLayer": Op.INPUT,
    # maps with a kernel
    "Dense": Op.DENSE,
    "EinsumDense": Op.EINSUM_DENSE,
    **_ranks("Conv", Op.CONV),
    **_ranks("Convolution", Op.CONV),
    **_ranks("Conv", Op.CONV_TRANSPOSE, "Transpose"),
    **_ranks("Convolution", Op.CONV_TRANSPOSE, "Transpose"),
    **_ranks("DepthwiseConv", Op.DEPTHWISE_CONV),
    **_ranks("SeparableConv", Op.SEPARABLE_CONV),
    **_ranks("SeparableConvolution", Op.SEPARABLE_CONV),
    **_ranks("LocallyConnected", Op.LOCALLY_CONNECTED),
    "Embedding": Op.EMBEDDING,
    "ReversibleEmbedding": Op.EMBEDDING,
    "SimpleRNN": Op.SIMPLE_RNN,
    "SimpleRNNCell": Op.SIMPLE_RNN,
    "LSTM": Op.LSTM,
    "LSTMCell": Op.LSTM,
    "CuDNNLSTM": Op.LSTM,
    "GRU": Op.GRU,
    "GRUCell": Op.GRU,
    "CuDNNGRU": Op.GRU,
    **_ranks("ConvLSTM", Op.CONV_LSTM),
    "RNN": Op.RECURRENT,
    "StackedRNNCells": Op.RECURRENT,
    "MultiHeadAttention": Op.ATTENTION,
    "GroupQueryAttention": Op.ATTENTION,
    "GroupedQueryAttention": Op.ATTENTION,
    "Attention": Op.DOT_ATTENTION,
    "AdditiveAttention": Op.DOT_ATTENTION,
    # normalization
    "BatchNormalization": Op.BATCH_NORM,
    "BatchNormalizationV1": Op.BATCH_NORM,
    "SyncBatchNormalization": Op.BATCH_NORM,
    "LayerNormalization": Op.LAYER_NORM,
    "GroupNormalization": Op.GROUP_NORM,
    "RMSNormalization": Op.RMS_NORM,
    "UnitNormalization": Op.UNIT_NORM,
    # elementwise
    "Activation": Op.ACTIVATION,
    "ReLU": Op.ACTIVATION,
    "LeakyReLU": Op.ACTIVATION,
    "PReLU": Op.ACTIVATION,
    "ELU": Op.ACTIVATION,
    "Softmax": Op.ACTIVATION,
    "ThresholdedReLU": Op.ACTIVATION,
    "Rescaling": Op.SCALE,
    "Normalization": Op.SCALE,
    "LayerScale": Op.SCALE,
    "Identity": Op.IDENTITY,
    # stochastic
    "Dropout": Op.DROPOUT,
    "AlphaDropout": Op.DROPOUT,
    "GaussianDropout": Op.DROPOUT,
    **_ranks("SpatialDropout", Op.DROPOUT),
    "GaussianNoise": Op.NOISE,
    "ActivityRegularization": Op.REGULARIZATION,
    **_all(
        Op.AUGMENTATION,
        "AugMix CutMix MixUp RandAugment RandomApply RandomBrightness "
        "RandomColorDegeneration RandomColorJitter RandomContrast RandomElasticTransform "
        "RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHeight "
        "RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation "
        "RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth "
        "RandomZoom Solarization",
    ),
    # pooling
    **_ranks("MaxPooling", Op.MAX_POOL),
    **_ranks("MaxPool", Op.MAX_POOL),
    **_ranks("AdaptiveMaxPooling", Op.MAX_POOL),
    **_ranks("AveragePooling", Op.AVERAGE_POOL),
    **_ranks("AvgPool", Op.AVERAGE_POOL),
    **_ranks("AdaptiveAveragePooling", Op.AVERAGE_POOL),
    **_ranks("GlobalMaxPooling", Op.GLOBAL_MAX_POOL),
    **_ranks("GlobalMaxPool", Op.GLOBAL_MAX_POOL),
    **_ranks("GlobalAveragePooling", Op.GLOBAL_AVERAGE_POOL),
    **_ranks("GlobalAvgPool", Op.GLOBAL_AVERAGE_POOL),
    # shape
    "Flatten": Op.FLATTEN,
    "Reshape": Op.RESHAPE,
    "Permute": Op.PERMUTE,
    "RepeatVector": Op.REPEAT,
    **_ranks("ZeroPadding", Op.PAD),
    **_ranks("Cropping", Op.CROP),
    "CenterCrop": Op.CROP,
    "RandomCrop": Op.CROP,
    **_ranks("UpSampling", Op.UPSAMPLE),
    "Resizing": Op.UPSAMPLE,
    "Masking": Op.MASKING,
    # merging
    "Add": Op.ADD,
    "CustomScaleLayer": Op.ADD,  # of keras.applications: x + scale·y
    "Subtract": Op.SUBTRACT,
    "Multiply": Op.MULTIPLY,
    "Average": Op.AVERAGE,
    "Maximum": Op.MAXIMUM,
    "Minimum": Op.MINIMUM,
    "Concatenate": Op.CONCATENATE,
    "Dot": Op.DOT,
    # preparation of data
    **_all(
        Op.PREPROCESSING,
        "AutoContrast CategoryEncoding ContrastLimitedAdaptiveHistogramEqualization "
        "Discretization Equalization HashedCrossing Hashing IntegerLookup "
        "MaxNumBoundingBoxes MelSpectrogram Pipeline STFTSpectrogram StringLookup "
        "TextVectorization",
    ),
}

#: Classes that stand for another class's layer, kept under these keys of their configuration.
WRAPPERS: Mapping[str, str] = {
    "TimeDistributed": "layer",
    "Bidirectional": "layer",
    "SpectralNormalization": "layer",
    "Wrapper": "layer",
    "RNN": "cell",
}

#: Classes whose code is not in the file as a graph: nothing can be said about what they compute.
OPAQUE_LAYERS: Mapping[str, str] = {
    "Lambda": "a Lambda layer: Python code, which is not run and not judged",
    "TFSMLayer": "a TensorFlow SavedModel elsewhere on disk, which is not opened",
    "TorchModuleWrapper": "a pickled torch module, which is not opened",
    "JaxLayer": "a JAX function, which is not run and not judged",
    "FlaxLayer": "a Flax module, which is not run and not judged",
}

#: Layers that are active in training only do not change what flows through them otherwise, and
#: these neither: output shape and type are the input's.
SAME_SHAPE_OPS = frozenset(
    {
        Op.BATCH_NORM,
        Op.LAYER_NORM,
        Op.GROUP_NORM,
        Op.RMS_NORM,
        Op.UNIT_NORM,
        Op.INSTANCE_NORM,
        Op.ACTIVATION,
        Op.SCALE,
        Op.ELEMENTWISE,
        Op.CAST,
        Op.IDENTITY,
        Op.DROPOUT,
        Op.NOISE,
        Op.AUGMENTATION,
        Op.REGULARIZATION,
        Op.MASKING,
        Op.QUANTIZE,
    }
)

#: Top-level packages whose classes are Keras' own, under all names Keras has gone by.
KERAS_PACKAGES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")


def is_keras_module(module: str) -> bool:
    """Whether a module name belongs to Keras itself."""
    return any(module == package or module.startswith(f"{package}.") for package in KERAS_PACKAGES)


def is_operation_module(module: str) -> bool:
    """Whether a module name is one of those that hold `keras.ops` nodes."""
    return module == "keras.ops" or module.startswith(("keras.src.ops", "keras.ops."))
