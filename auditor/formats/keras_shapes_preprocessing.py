"""Output shapes of layers that prepare data: lookups, encodings, spectrograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from auditor.formats.keras_model import LayerConfig
from auditor.formats.keras_shapes_spatial import window
from auditor.formats.shape_arithmetic import UNKNOWN, Shapes
from auditor.formats.untrusted import flag, integer, text
from auditor.graph.layer_graph import Shape

Rule = Callable[[LayerConfig, Shapes], Shapes]


def _encoded(given: Shape, mode: str, depth: int | None) -> Shape:
    """One-hot of every element, replacing a last axis of 1; other modes encode the last axis."""
    if mode == "one_hot" and not (len(given) > 1 and given[-1] == 1):
        return (*given, depth)
    return (*given[:-1], depth)


def _mode(layer: LayerConfig, default: str = "int") -> str:
    return text(layer.config.get("output_mode"), default)


def _category_encoding(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given = inputs[0]
    if given is None:
        return UNKNOWN
    return (_encoded(given, _mode(layer, "multi_hot"), integer(layer.config.get("num_tokens"))),)


def _discretization(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, mode = inputs[0], _mode(layer)
    if given is None or mode == "int":
        return (given,)
    boundaries = layer.config.get("bin_boundaries")
    depth = integer(layer.config.get("num_bins"))
    if isinstance(boundaries, list):
        depth = len(boundaries) + 1
    if mode == "one_hot":
        return (_encoded(given, mode, depth),)
    return ((given[0], *given[2:], depth) if len(given) > 1 else (depth,),)


def _hashing(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given = inputs[0]
    if given is None or _mode(layer) == "int":
        return (given,)
    return ((*given[:-1], integer(layer.config.get("num_bins"))),)


def _hashed_crossing(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, mode = inputs[0], _mode(layer)
    if given is None or mode == "int":
        return (given,)
    return (_encoded(given, mode, integer(layer.config.get("num_bins"))),)


def _lookup(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, mode = inputs[0], _mode(layer)
    if given is None or mode == "int":
        return (given,)
    return (_encoded(given, mode, _vocabulary(layer)),)


def _vocabulary(layer: LayerConfig) -> int | None:
    padded = flag(layer.config.get("pad_to_max_tokens"), False)
    return integer(layer.config.get("max_tokens" if padded else "vocabulary_size"))


def _text_vectorization(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, mode = inputs[0], _mode(layer)
    if not given:
        return UNKNOWN
    if mode == "int":
        return ((given[0], integer(layer.config.get("output_sequence_length"))),)
    if layer.config.get("split") is not None:
        given = (*given, None)
    elif len(given) == 1:
        given = (*given, 1)
    return (_encoded(given, mode, _vocabulary(layer)),)


def _mel_spectrogram(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, stride = inputs[0], integer(layer.config.get("sequence_stride"))
    if given is None or len(given) not in (1, 2) or not stride or stride < 0:
        return UNKNOWN
    length = given[-1]
    frames = (length + stride + 1) // stride if isinstance(length, int) else None
    return ((*given[:-1], integer(layer.config.get("num_mel_bins")), frames),)


def _stft_spectrogram(layer: LayerConfig, inputs: Shapes) -> Shapes:
    given, config = inputs[0], layer.config
    taps = integer(config.get("frame_length"))
    if given is None or len(given) != 3 or taps is None:
        return UNKNOWN
    last = text(config.get("data_format"), "channels_last") == "channels_last"
    length, channels = (given[1], given[2]) if last else (given[2], given[1])
    step = integer(config.get("frame_step")) or taps // 2
    frames = window(length, taps, step, 1, text(config.get("padding"), "valid"))
    bins = (integer(config.get("fft_length")) or 2 ** max(taps - 1, 0).bit_length()) // 2 + 1
    if text(config.get("mode")) == "stft":
        bins *= 2
    if flag(config.get("expand_dims"), False):
        return ((given[0], frames, bins, channels) if last else (given[0], channels, frames, bins),)
    width = bins * channels if isinstance(channels, int) else None
    return ((given[0], frames, width) if last else (given[0], width, frames),)


def _bounding_boxes(layer: LayerConfig, inputs: Shapes) -> Shapes:
    """Boxes, their labels, and whatever else is given: the number of boxes is fixed."""
    count = integer(layer.config.get("max_number"))
    boxes = tuple(
        given if given is None or len(given) < 2 else (given[0], count, *given[2:])
        for given in inputs[:2]
    )
    return (*boxes, *inputs[2:])


def same_shapes(_: LayerConfig, inputs: Shapes) -> Shapes:
    """Everything that goes in comes out."""
    return inputs


PREPROCESSING: Mapping[str, Rule] = {
    "CategoryEncoding": _category_encoding,
    "Discretization": _discretization,
    "Hashing": _hashing,
    "HashedCrossing": _hashed_crossing,
    "IntegerLookup": _lookup,
    "StringLookup": _lookup,
    "TextVectorization": _text_vectorization,
    "MelSpectrogram": _mel_spectrogram,
    "STFTSpectrogram": _stft_spectrogram,
    "MaxNumBoundingBoxes": _bounding_boxes,
    **dict.fromkeys(
        (
            "AutoContrast",
            "ContrastLimitedAdaptiveHistogramEqualization",
            "Equalization",
            "CutMix",
            "MixUp",
        ),
        same_shapes,
    ),
}
