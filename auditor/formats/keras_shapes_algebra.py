"""Output shapes of operations that multiply and transform: linear algebra and signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from auditor.formats.keras_operands import Operands
from auditor.formats.keras_shapes_rearranging import OperandRule
from auditor.formats.keras_shapes_windows import WINDOWS
from auditor.formats.shape_arithmetic import UNKNOWN, Shapes, broadcast, elements
from auditor.formats.untrusted import integer, integers, text
from auditor.graph.layer_graph import Shape

Size = int | str | None


def _product(call: Operands) -> Shapes:
    """A product as of numpy's matmul: of matrices, to which a vector lends an axis and loses it."""
    if len(call.shapes) != 2 or call.shapes[1] is None:
        return UNKNOWN
    left, right = call.first, call.shapes[1]
    if not left or not right:
        return UNKNOWN
    if len(left) == 1 or len(right) == 1:
        rows = left[:-1] if len(right) == 1 else ()
        columns = (*right[:-2], right[-1]) if len(left) == 1 and len(right) > 1 else ()
        return ((*rows, *columns),)
    batch = broadcast((left[:-2], right[:-2]))
    return (None if batch is None else (*batch, left[-2], right[-1]),)


def _dot(call: Operands) -> Shapes:
    """A product as of numpy's dot: the last axis of one with the last but one of the other."""
    if len(call.shapes) != 2 or call.shapes[1] is None:
        return UNKNOWN
    left, right = call.first, call.shapes[1]
    if not left or not right:
        return ((*left, *right),)
    return ((*left[:-1], *right[:-2], *(right[-1:] if len(right) > 1 else ())),)


def _inner(call: Operands) -> Shapes:
    right = call.shapes[1] if len(call.shapes) == 2 else None
    return UNKNOWN if right is None else ((*call.first[:-1], *right[:-1]),)


def _outer(call: Operands) -> Shapes:
    sizes = [None if given is None else elements(given) for given in call.shapes]
    return (tuple(sizes),) if len(sizes) == 2 else UNKNOWN


def _kron(call: Operands) -> Shapes:
    right = call.shapes[1] if len(call.shapes) == 2 else None
    if right is None:
        return UNKNOWN
    rank = max(len(call.first), len(right))
    pairs = zip(_raised(call.first, rank), _raised(right, rank), strict=True)
    return (tuple(elements(pair) for pair in pairs),)


def _raised(given: Shape, rank: int) -> Shape:
    return (*(1,) * (rank - len(given)), *given)


def _tensordot(call: Operands) -> Shapes:
    right, axes = call.shapes[1] if len(call.shapes) == 2 else None, call.setting("axes", 2)
    left, count = call.first, integer(axes)
    if right is None:
        return UNKNOWN
    if count is not None:
        return ((*left[: len(left) - count], *right[count:]),) if count >= 0 else UNKNOWN
    pairs = [integers(side) for side in axes] if isinstance(axes, list) else []
    if len(pairs) != 2 or pairs[0] is None or pairs[1] is None:
        return UNKNOWN
    gone = [
        {axis % len(given) for axis in side if given}
        for side, given in zip((pairs[0], pairs[1]), (left, right), strict=True)
    ]
    kept = (
        size
        for given, without in zip((left, right), gone, strict=True)
        for place, size in enumerate(given)
        if place not in without
    )
    return (tuple(kept),)


def _einsum(call: Operands) -> Shapes:
    left, arrow, output = text(call.setting("subscripts", 0)).replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow or "..." in left or len(operands) != len(call.inputs):
        return UNKNOWN
    sizes: dict[str, Size] = {}
    for labels, given in zip(operands, call.inputs, strict=True):
        if given is None or len(labels) != len(given):
            return UNKNOWN
        for label, size in zip(labels, given, strict=True):
            if sizes.get(label) in (None, 1):
                sizes[label] = size
    return (tuple(sizes.get(label) for label in output),)


def _matrix(change: Callable[[Shape, Size, Size, Operands], Shapes]) -> OperandRule:
    """A rule for a stack of matrices (..., rows, columns)."""

    def rule(call: Operands) -> Shapes:
        given = call.first
        if len(given) < 2:
            return UNKNOWN
        return change(given[:-2], given[-2], given[-1], call)

    return rule


def _least(rows: Size, columns: Size) -> int | None:
    return min(rows, columns) if isinstance(rows, int) and isinstance(columns, int) else None


def _svd(batch: Shape, rows: Size, columns: Size, call: Operands) -> Shapes:
    least = _least(rows, columns)
    values = (*batch, least)
    if not call.flag("compute_uv", True):
        return (values,)
    if call.flag("full_matrices", True):
        return ((*batch, rows, rows), values, (*batch, columns, columns))
    return ((*batch, rows, least), values, (*batch, least, columns))


def _qr(batch: Shape, rows: Size, columns: Size, call: Operands) -> Shapes:
    if text(call.setting("mode")) == "complete":
        return ((*batch, rows, rows), (*batch, rows, columns))
    least = _least(rows, columns)
    return ((*batch, rows, least), (*batch, least, columns))


def _least_squares(call: Operands) -> Shapes:
    right = call.shapes[1] if len(call.shapes) == 2 else None
    return UNKNOWN if right is None or len(call.first) != 2 else ((call.first[1], *right[1:]),)


def _distances(call: Operands) -> Shapes:
    right = call.shapes[1] if len(call.shapes) == 2 else None
    if right is None or len(right) < 2 or len(call.first) < 2:
        return UNKNOWN
    return ((*call.first[:-1], right[-2]),)


def _frames(call: Operands) -> Shapes:
    given, length = call.first, call.integer("sequence_length", 1)
    stride = call.integer("sequence_stride", 2)
    if not given or length is None or not stride or stride < 0:
        return UNKNOWN
    size = given[-1]
    count = 1 + (size - length) // stride if isinstance(size, int) else None
    return ((*given[:-1], count, length),)


def _stft(call: Operands) -> Shapes:
    given, length = call.first, call.integer("fft_length")
    stride = call.integer("sequence_stride")
    if not given or length is None or not stride or stride < 0:
        return UNKNOWN
    padded = length // 2 * 2 if call.flag("center", True) else 0
    size = given[-1]
    count = 1 + (size + padded - length) // stride if isinstance(size, int) else None
    return ((*given[:-1], count, length // 2 + 1),) * 2


def _istft(call: Operands) -> Shapes:
    given, length = call.first, call.integer("fft_length")
    stride = call.integer("sequence_stride")
    if len(given) < 2 or length is None or stride is None:
        return UNKNOWN
    size: Size = None
    if isinstance(given[-2], int):
        size = (given[-2] - 1) * stride + length
        size = size - length // 2 * 2 if call.flag("center", True) else size
        size = call.integer("length") if call.integer("length") is not None else size
    return ((*given[:-2], size),)


def _rfft(call: Operands) -> Shapes:
    size: Size = call.integer("fft_length")
    size = call.first[-1] if size is None and call.first else size
    return ((*call.first[:-1], size // 2 + 1 if isinstance(size, int) else None),) * 2


def _irfft(call: Operands) -> Shapes:
    size: Size = call.integer("fft_length")
    if size is None and call.first and isinstance(call.first[-1], int):
        size = 2 * (call.first[-1] - 1)
    return ((*call.first[:-1], size),)


def _decoded(call: Operands) -> Shapes:
    greedy = text(call.setting("strategy")) == "greedy"
    paths = 1 if greedy else call.integer("top_paths")
    return ((paths, *call.first[:2]), (*call.first[:1], paths))


def _correlated(call: Operands) -> Shapes:
    right = call.shapes[1] if len(call.shapes) == 2 else None
    if right is None or len(right) != 1 or len(call.first) != 1:
        return UNKNOWN
    long, short = call.first[0], right[0]
    if not isinstance(long, int) or not isinstance(short, int):
        return ((None,),)
    most, least, mode = max(long, short), min(long, short), text(call.setting("mode"), "valid")
    return (({"same": most, "full": most + least - 1}.get(mode, most - least + 1),),)


def _same(count: int) -> OperandRule:
    return lambda call: (call.first,) * count


def _entries() -> Iterator[tuple[str, OperandRule]]:
    yield "Matmul", _product
    yield "Dot", _dot
    yield "Inner", _inner
    yield "Outer", _outer
    yield "Kron", _kron
    yield "Tensordot", _tensordot
    yield "Einsum", _einsum
    yield "Correlate", _correlated
    yield "Vander", lambda call: ((*call.first, call.integer("N") or call.first[-1]),)
    yield "Det", lambda call: (call.first[:-2],)
    yield "Logdet", lambda call: (call.first[:-2],)
    # Keras states a scalar for the sign, whatever the batch is.
    yield "Slogdet", lambda call: ((), call.first[:-2])
    yield "MatrixRank", lambda call: (call.first[:-2],)
    yield "Eig", lambda call: (call.first[:-1], call.first)
    yield "Eigh", lambda call: (call.first[:-1], call.first)
    yield "SVD", _matrix(_svd)
    yield "Qr", _matrix(_qr)
    yield "LuFactor", _matrix(lambda b, m, n, _: ((*b, m, n), (*b, _least(m, n))))
    yield "Pinv", _matrix(lambda b, m, n, _: ((*b, n, m),))
    yield "Solve", lambda call: (call.shapes[-1],)
    yield "SolveTriangular", lambda call: (call.shapes[-1],)
    yield "Lstsq", _least_squares
    yield "CDist", _distances
    yield "ExtractSequences", _frames
    yield "STFT", _stft
    yield "ISTFT", _istft
    yield "RFFT", _rfft
    yield "IRFFT", _irfft
    for name in ("FFT", "FFT2", "IFFT2"):
        yield name, _same(2)
    yield "ViewAsComplex", lambda call: (call.first[:-1],)
    yield "ViewAsReal", lambda call: ((*call.first, 2),)
    yield "ScaleAndTranslate", lambda call: (call.integers("output_shape", 1),)
    yield "MapCoordinates", lambda call: (None if len(call.shapes) < 2 else call.shapes[1],)
    yield "SobelEdges", lambda call: ((*call.first, 2),)
    yield "CTCDecode", _decoded
    yield (
        "RGBToGrayscale",
        lambda call: (
            (*call.first[:-1], 1)
            if call.channels_last
            else (*call.first[:-3], 1, *call.first[-2:]),
        ),
    )


ALGEBRA: Mapping[str, OperandRule] = {**dict(_entries()), **WINDOWS}
