"""Types of what calls give, where the file does not record them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from auditor.formats.keras_identity import compute_dtype
from auditor.formats.keras_model import LayerConfig, Node
from auditor.formats.keras_operations import names
from auditor.formats.untrusted import mapping, text

FLOAT = "float32"
#: Layers that hand on whole numbers as they are; all others compute in their own type.
KEEPING_LAYERS = frozenset({"Flatten", "Reshape", "Permute", "Identity"})
#: Layers that number what they look up, in their mode "int".
LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization"})

BOOLEAN = names(
    "All AllClose Any Equal Greater GreaterEqual InTopK IsIn Isclose Isfinite Isinf Isnan Isneginf "
    "Isposinf Isreal Less LessEqual LogicalAnd LogicalNot LogicalOr LogicalXor NotEqual "
    "Signbit"
)
INDICES = names(
    "Argmax Argmin Argpartition Argsort CTCDecode CountNonzero Digitize MatrixRank Nanargmax "
    "Nanargmin Nonzero SearchSorted Size"
)
#: Operations whose conditions stand before what they choose from.
CHOOSING = frozenset({"Where", "Select"})
#: Operations whose first tensor only says where the values of the second belong.
INDEXED = frozenset({"Scatter", "SparseCategoricalCrossentropy"})
#: Operations that give the type of their first tensor, whatever the others are.
NORMALIZING = frozenset({"BatchNorm", "LayerNorm", "RMSNorm"})
#: Operations that give fractions of whole numbers.
FRACTIONAL = names(
    "Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Average Cbrt Ceil Cos Cosh CTCLoss "
    "Deg2rad Divide Exp Exp2 Expm1 Floor Gelu Linspace Log Log10 Log1p Log2 Logaddexp Logspace "
    "Logsumexp Mean Median Norm Percentile Quantile Rad2deg Rsqrt Sigmoid Silu Sin Sinh Softmax "
    "Softplus Sqrt Std Tan Tanh TrueDivide Var"
)
SUMMING = frozenset({"Sum", "Prod", "Cumsum", "Cumprod", "Bincount", "Trace"})
_BITS = {"bool": 1, "bfloat16": 16}


def output_dtype(layer: LayerConfig, inputs: tuple[str, ...], node: Node | None) -> str:
    """The type of a call's first output, from the types of its tensors."""
    first = inputs[0] if inputs else FLOAT
    if layer.operation or layer.listed_operation:
        return _operation_dtype(layer, inputs or (first,), node)
    own = compute_dtype(layer, first)
    if layer.kind in KEEPING_LAYERS and layer.standard:
        return own if is_floating(first) else first
    if text(layer.config.get("output_mode"), "int") == "int":
        if layer.kind in LOOKUPS:
            return "int64"
        if layer.kind == "Discretization":
            return "int32"
    return own


def _operation_dtype(layer: LayerConfig, inputs: tuple[str, ...], node: Node | None) -> str:
    settings: dict[str, Any] = {**layer.config, **(node.keywords if node is not None else {})}
    kind, stated = layer.kind, text(settings.get("dtype"))
    if kind in BOOLEAN:
        return "bool"
    if kind in INDICES:
        return "int32"
    if kind == "ViewAsComplex":
        return "complex64"
    if stated and kind not in ("MultiHot", "Array"):
        return stated
    if kind in NORMALIZING:
        return inputs[0]
    if kind in INDEXED:
        inputs = inputs[1:]
    if kind in CHOOSING:
        inputs = tuple(dtype for dtype in inputs if dtype != "bool")
    whole = promoted((*inputs, *_constants(node))) or FLOAT
    if kind in FRACTIONAL and not is_floating(whole):
        return FLOAT
    if kind in SUMMING and whole == "bool":
        return "int32"
    return whole


def _constants(node: Node | None) -> Iterable[str]:
    """Types of the numbers among the arguments: a fraction makes one of whole numbers."""
    for argument in node.arguments if node is not None else ():
        if isinstance(argument, float):
            yield ""
        elif mapping(argument).get("class_name") in ("__numpy__", "__tensor__"):
            yield text(mapping(mapping(argument).get("config")).get("dtype"))


def promoted(dtypes: Iterable[str]) -> str:
    """The type that several are brought to; "" is a fraction without a type of its own."""
    known = list(dict.fromkeys(dtypes))
    named = [dtype for dtype in known if dtype]
    floating = [dtype for dtype in named if is_floating(dtype)]
    if not named or ("" in known and not floating):
        return FLOAT
    widest = max(floating or named, key=_bits)
    if widest in ("float16", "bfloat16") and len(set(floating)) > 1:
        return FLOAT
    return widest


def is_floating(dtype: str) -> bool:
    """Whether a type holds fractions."""
    return dtype.startswith(("float", "bfloat", "complex"))


def _bits(dtype: str) -> int:
    digits = "".join(c for c in dtype if c.isdigit())
    return _BITS.get(dtype, int(digits) if digits and len(digits) < 4 else 0)
