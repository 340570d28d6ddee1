"""The words a report uses for what the types name in code."""

from __future__ import annotations

import re
from collections.abc import Mapping

from auditor.finding import Bound, Confidence, Severity
from auditor.graph.operators import Op
from auditor.result import Verdict

SEVERITIES: Mapping[Severity, str] = {
    Severity.ERROR: "Error",
    Severity.WARNING: "Warning",
    Severity.INFO: "Note",
}
PLURALS: Mapping[Severity, tuple[str, str]] = {
    Severity.ERROR: ("error", "errors"),
    Severity.WARNING: ("warning", "warnings"),
    Severity.INFO: ("note", "notes"),
}
CONFIDENCES: Mapping[Confidence, str] = {
    Confidence.HIGH: "high confidence",
    Confidence.MEDIUM: "medium confidence",
    Confidence.LOW: "low confidence",
}
BOUNDS: Mapping[Bound, str] = {
    Bound.NONE: "",
    Bound.LOWER: "lower bound",
    Bound.UPPER: "upper bound",
}
VERDICTS: Mapping[Verdict, str] = {
    Verdict.STABLE: "Stable",
    Verdict.EXPLODING: "Exploding",
    Verdict.VANISHING: "Vanishing",
    Verdict.BROKEN: "Broken",
    Verdict.UNKNOWN: "Unknown",
}
FORMATS: Mapping[str, str] = {
    "keras": "Keras (.keras)",
    "keras-h5": "Keras (HDF5)",
    "keras-live": "Keras (in memory)",
    "onnx": "ONNX",
}
SETTINGS: Mapping[str, str] = {
    "learning_rate": "Learning rate",
    "optimizer": "Optimizer",
    "clipnorm": "Clip each gradient",
    "global_clipnorm": "Clip the global gradient",
    "clipvalue": "Clip gradient values",
    "weight_decay": "Weight decay",
    "kernel_regularizer": "Kernel penalty",
    "kernel_initializer": "Kernel initializer",
    "recurrent_initializer": "Recurrent initializer",
    "schedule": "Schedule",
    "gradient_accumulation_steps": "Gradient accumulation",
    "dtype_policy": "Precision",
    "dropout": "Dropout",
}
#: What a small call is labelled with in the drawing of the graph.
SHORT_OPS: Mapping[Op, str] = {
    Op.INPUT: "in",
    Op.CONSTANT: "const",
    Op.BATCH_NORM: "BN",
    Op.LAYER_NORM: "LN",
    Op.GROUP_NORM: "GN",
    Op.RMS_NORM: "RMS",
    Op.UNIT_NORM: "norm",
    Op.INSTANCE_NORM: "IN",
    Op.SCALE: "scale",
    Op.ELEMENTWISE: "f(x)",
    Op.CAST: "cast",
    Op.IDENTITY: "id",
    Op.DROPOUT: "drop",
    Op.NOISE: "noise",
    Op.AUGMENTATION: "aug",
    Op.REGULARIZATION: "reg",
    Op.MAX_POOL: "max",
    Op.AVERAGE_POOL: "avg",
    Op.GLOBAL_MAX_POOL: "max",
    Op.GLOBAL_AVERAGE_POOL: "avg",
    Op.REDUCE: "Σ",
    Op.FLATTEN: "flat",
    Op.RESHAPE: "shape",
    Op.PERMUTE: "perm",
    Op.PAD: "pad",
    Op.CROP: "crop",
    Op.UPSAMPLE: "up",
    Op.REPEAT: "rep",
    Op.SLICE: "slice",
    Op.SPLIT: "split",
    Op.GATHER: "gather",
    Op.MASKING: "mask",
    Op.ADD: "+",
    Op.SUBTRACT: "−",
    Op.MULTIPLY: "×",
    Op.DIVIDE: "÷",
    Op.AVERAGE: "mean",
    Op.MAXIMUM: "max",
    Op.MINIMUM: "min",
    Op.CONCATENATE: "cat",
    Op.STACK: "stack",
    Op.DOT: "dot",
    Op.MATMUL: "A·B",
    Op.WHERE: "where",
    Op.COMPARE: "cmp",
    Op.QUANTIZE: "quant",
}
ACTIVATIONS: Mapping[str, str] = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "LReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "glu": "GLU",
    "mish": "Mish",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "softmax": "softmax",
    "hard_silu": "h-swish",
    "hard_sigmoid": "h-sigm",
}


OPTIMIZERS: Mapping[str, str] = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "adamax": "Adamax",
    "nadam": "Nadam",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "lion": "Lion",
    "ftrl": "FTRL",
    "lamb": "LAMB",
    "muon": "Muon",
    "adafactor": "Adafactor",
}
#: A hyphen between words, not one that belongs to a word such as mis-scaled.
WORD_BREAK = re.compile(r"_|(?<!\bmis)(?<!\bnon)-")


def words(identifier: str) -> str:
    """An identifier as words: "growth_rate" gives "growth rate"."""
    return WORD_BREAK.sub(" ", identifier).strip()


def optimizer(identifier: str) -> str:
    """An optimizer's name as its authors write it."""
    return OPTIMIZERS.get(identifier.lower(), identifier)


def setting(identifier: str) -> str:
    """A setting's title."""
    known = SETTINGS.get(identifier)
    return known or words(identifier).capitalize()


def plural(amount: int, one: str, many: str) -> str:
    """`1 error`, `3 errors`."""
    return f"{amount:,} {one if amount == 1 else many}"


def tally(severities: tuple[Severity, ...]) -> str:
    """How many of each: "2 errors, 1 warning"; "no findings" when there are none."""
    counts = (
        plural(severities.count(severity), *PLURALS[severity])
        for severity in reversed(Severity)
        if severity in severities
    )
    return ", ".join(counts) or "no findings"
