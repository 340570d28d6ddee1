"""Functions of TensorFlow that a Keras 2 configuration names, and what they could do.

A `TFOpLambda` layer calls whatever public name of TensorFlow it holds: only plain functions of
tensors pass. A `TensorFlowOpLayer` holds a node of a graph instead, by its operation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.finding import Severity
from auditor.formats.config_place import Place
from auditor.formats.known_names import KERAS_FUNCTION_NAMES
from auditor.formats.untrusted import mapping, summary, text
from auditor.hazard import Hazard

IMPORT = "GEB902"
#: Parts of TensorFlow that hold functions of tensors and little else.
PLAIN_PARTS = frozenset(
    """
    __operators__ bitwise dtypes experimental.numpy image linalg linalg.experimental math
    math.special nn nn.experimental nn.rnn_cell quantization ragged random random.experimental sets
    signal sparse spectral strings
    """.split()  # noqa: SIM905 - read as words, changed as words
)
#: Parts of Keras whose functions may be such, too, if they are known.
KERAS_PARTS = frozenset({"activations", "backend", "losses", "metrics", "ops"})
#: Beginnings of names that are none of those, wherever they stand: settings and files.
NOT_PLAIN = ("decode_", "encode_", "experimental_", "get_global_", "set_")
#: Functions of tensors at the top of TensorFlow and in Keras' backend.
TENSOR_FUNCTIONS = frozenset(
    """
    Assert abs accumulate_n acos acosh add add_n all angle any approx_top_k arange arg_max arg_min
    argmax argmin argsort as_string asin asinh atan atan2 atanh batch_dot batch_flatten batch_gather
    batch_normalization batch_to_space batch_to_space_nd betainc bias_add binary_crossentropy
    bincount bitcast boolean_mask broadcast_dynamic_shape broadcast_static_shape broadcast_to cast
    cast_to_floatx categorical_crossentropy ceil check_numerics cholesky cholesky_solve clip
    clip_by_average_norm clip_by_global_norm clip_by_norm clip_by_value complex concat concatenate
    confusion_matrix conj constant conv conv1d conv2d conv2d_transpose conv3d convert_to_tensor cos
    cosh count_nonzero cross cumprod cumsum depth_to_space depthwise_conv2d dequantize diag
    diag_part digamma div div_no_nan divide dot dropout dtype dynamic_partition dynamic_stitch
    edit_distance eig eigvals einsum elu ensure_shape equal erf erfc exp expand_dims expm1
    extract_image_patches extract_volume_patches eye fft fft2d fft3d fftnd fill fingerprint flatten
    floor floor_div floordiv floormod gather gather_nd global_norm gradients greater greater_equal
    guarantee_const hard_sigmoid histogram_fixed_width histogram_fixed_width_bins identity
    identity_n ifft ifft2d ifft3d ifftnd igamma igammac imag in_top_k int_shape invert_permutation
    irfftnd is_finite is_inf is_nan is_non_decreasing is_numeric_tensor is_sparse
    is_strictly_increasing is_symbolic_tensor is_tensor l2_normalize lbeta less less_equal lgamma
    lin_space linspace local_conv1d local_conv2d log log1p log_sigmoid logical_and logical_not
    logical_or logical_xor logsumexp matmul matrix_band_part matrix_determinant matrix_diag
    matrix_diag_part matrix_inverse matrix_set_diag matrix_solve matrix_solve_ls matrix_square_root
    matrix_transpose matrix_triangular_solve max maximum mean meshgrid min minimum mod multinomial
    multiply ndim negative no_op norm normalize_batch_in_training not_equal one_hot ones ones_like
    pad parallel_stack permute_dimensions polygamma pool2d pool3d pow prod qr quantize quantize_v2
    quantized_concat random_bernoulli random_binomial random_crop random_gamma random_index_shuffle
    random_normal random_normal_variable random_poisson random_shuffle random_uniform range rank
    real realdiv reciprocal reduce_all reduce_any reduce_join reduce_logsumexp reduce_max
    reduce_mean reduce_min reduce_prod reduce_sum regex_replace relu repeat repeat_elements
    required_space_to_batch_paddings reshape resize_images resize_volumes reverse reverse_sequence
    reverse_v2 rfftnd rint roll round rsqrt saturate_cast scalar_mul scatter_nd searchsorted
    segment_max segment_mean segment_min segment_prod segment_sum self_adjoint_eig
    self_adjoint_eigvals separable_conv2d sequence_mask setdiff1d shape shape_n sigmoid sign sin
    sinh size slice softmax softplus softsign sort space_to_batch space_to_batch_nd space_to_depth
    sparse_add sparse_categorical_crossentropy sparse_concat sparse_fill_empty_rows sparse_mask
    sparse_matmul sparse_maximum sparse_minimum sparse_reduce_max sparse_reduce_sum sparse_reorder
    sparse_reset_shape sparse_reshape sparse_retain sparse_segment_mean sparse_segment_sqrt_n
    sparse_segment_sum sparse_slice sparse_softmax sparse_split sparse_tensor_dense_matmul
    sparse_tensor_to_dense sparse_to_dense sparse_to_indicator sparse_transpose spatial_2d_padding
    spatial_3d_padding split sqrt square squared_difference squeeze stack std stop_gradient
    strided_slice string_join string_split string_strip string_to_hash_bucket
    string_to_hash_bucket_fast string_to_hash_bucket_strong string_to_number substr subtract sum svd
    switch tan tanh temporal_padding tensor_scatter_add tensor_scatter_nd_add tensor_scatter_nd_max
    tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update tensor_scatter_sub
    tensor_scatter_update tensordot tile to_bfloat16 to_complex128 to_complex64 to_dense to_double
    to_float to_int32 to_int64 trace transpose truediv truncate_div truncated_normal truncatediv
    truncatemod unique unique_with_counts unravel_index unsorted_segment_max unsorted_segment_mean
    unsorted_segment_min unsorted_segment_prod unsorted_segment_sqrt_n unsorted_segment_sum unstack
    var verify_tensor_all_finite where where_v2 zeros zeros_like zeta
    """.split()  # noqa: SIM905 - read as words, changed as words
)
#: Words in the names of functions that read, write, delete, load, print, profile or run something.
REACHING = frozenset(
    """
    app autograph checkpoint checkpoints config copy data dataset datasets debug delete deserialize
    distribute dump eager exec export file filename filenames files function gfile glob
    host import lib library lmdb load matching merge mkdir models path print profiler py python
    read reader record recursively remove rename restore rpc run save saved saving server session
    send recv strategy summary sysconfig tpu train utils walk write writer
    """.split()  # noqa: SIM905 - read as words, changed as words
)
#: Operations of graphs with such a word that reach no further than the model's own variables.
OWN_VARIABLES = frozenset({"ReadVariableOp", "CopyToMesh", "DeserializeSparse"})
WORD = re.compile(r"[A-Z]{2,}(?=[A-Z][a-z]|[^A-Za-z]|$)|[A-Z]?[a-z]+|[A-Z]")
#: The operation's name within a node that is serialized as it is: field 2, with its length.
SERIALIZED_OPERATION = re.compile("\x12([\x01-\x7f])([A-Za-z][A-Za-z0-9_]*)")


def tensorflow_hazards(value: Mapping[str, Any], place: Place) -> Iterator[Hazard]:
    """What a layer that Keras 2 made of a function of TensorFlow calls, unless it is plain."""
    kind = text(value.get("class_name")).rsplit(">", 1)[-1]
    config = mapping(value.get("config"))
    if kind == "TFOpLambda":
        function = text(config.get("function"))
        if not is_plain(function):
            yield _called(function, place)
    elif kind == "ClassMethod":
        # Whatever the method, it makes a tensor of one of these kinds.
        owner = text(config.get("cls_ref")).removeprefix("tf.").removeprefix("compat.v1.")
        if owner.rsplit(".", 1)[-1] not in {"RaggedTensor", "SparseTensor", "Tensor"}:
            yield _called(f"{owner}.{text(config.get('method_name'))}", place)
    elif kind == "TensorFlowOpLayer":
        for operation in _operations(config.get("node_def")):
            if operation not in OWN_VARIABLES and _reaches(operation):
                yield _called(f"raw_ops.{operation}", place)


def is_plain(function: str) -> bool:
    """Whether a name is that of a function that takes and gives tensors, and does no more."""
    bare = function.removeprefix("tf.").removeprefix("compat.v1.").removeprefix("compat.v2.")
    part, _, name = bare.rpartition(".")
    if not name.isidentifier() or name.startswith(NOT_PLAIN):
        return False
    if part in ("", "debugging"):
        return name in TENSOR_FUNCTIONS or name.startswith("assert_")
    package, _, within = part.partition(".")
    if package == "keras" and within in KERAS_PARTS:
        return name in TENSOR_FUNCTIONS or name in KERAS_FUNCTION_NAMES
    return part in PLAIN_PARTS


def _reaches(name: str) -> bool:
    return any(word.lower() in REACHING for word in WORD.findall(name))


def _operations(node: object) -> tuple[str, ...]:
    """The operations that a serialized node may be of, in any of the forms it was written in."""
    if isinstance(node, str):
        try:
            node = json.loads(node)
        except (ValueError, RecursionError):
            return tuple(
                name[: ord(length)]
                for length, name in SERIALIZED_OPERATION.findall(str(node))
                if len(name) >= ord(length)
            )
    return (text(mapping(node).get("op")),)


def _called(function: str, place: Place) -> Hazard:
    shown = summary(function, 120)
    if _reaches(function):
        return Hazard(
            code=IMPORT,
            place=str(place),
            what=f"calls TensorFlow's {shown!r}, which reaches files or runs code",
            identifier="CVE-2025-8747",
        )
    return Hazard(
        code=IMPORT,
        place=str(place),
        what=f"calls TensorFlow's {shown!r}, which is not known for a plain function of tensors",
        severity=Severity.WARNING,
    )
