"""No error on a healthy model: the worst bug this project can have.

Static and probed, over textbook models and keras.applications with random weights.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from models import HEALTHY
from textbook import TEXTBOOK

from auditor import AuditResult, audit

#: Probing these takes the longest; one probe each, statically they are audited like all others.
LARGE = {"ResNet50", "EfficientNetB0", "DenseNet121", "VGG16", "MobileNetV3Small"}
#: Where a source does what a rule advises against, and trains all the same: told of the files.
ADVISED: dict[str, list[str]] = {
    # Seven tenths are dropped before the auxiliary head.
    "inception_with_auxiliary_head": ["GEB402"],
    # Each sample of one channel is normalized by itself (keras.io), which leaves zeros.
    "series_transformer": ["GEB408"],
    # SELU under batch normalization, drawn by Glorot's law, with plain dropout between them.
    "tab_transformer": ["GEB303", "GEB303", "GEB401"],
}
#: Of each kind of model one or two, which are probed here; bench/false_alarms.py probes all.
PROBED = (
    "mnist_mlp",
    "mnist_convnet",
    "squeezed",
    "imdb_convnet",
    "character_lstm",
    "review_transformer",
    "series_convnet",
    "sparse_autoencoder",
    "variational_encoder",
    "variational_decoder",
    "dcgan_combined",
    "contrastive_siamese",
    "linear_regression",
    "count_regressor",
    "fashion_batch_norm",
    "highway_network",
    "mixed_features",
    "movie_ratings",
    "skip_gram",
    "policy_actor",
)


def complaints(result: AuditResult, severity: str) -> list[str]:
    return [f"{f.code} {f.layers}: {f.message}" for f in result.at_least(severity)]


@pytest.mark.parametrize("name", [*HEALTHY, *TEXTBOOK])
def test_static(name: str, saved: Callable[..., Path]) -> None:
    result = audit(saved(name), probe=False)
    told = [finding.code for finding in result.at_least("warning")]
    assert complaints(result, "error") == []
    assert sorted(told) == ADVISED.get(name, []), complaints(result, "warning")
    assert result.verdict == "unknown"


@pytest.mark.parametrize("name", HEALTHY)
def test_probed(name: str, saved: Callable[..., Path]) -> None:
    size = {"batch_size": 4, "batches": 2} if name in LARGE else {}
    result = audit(saved(name), probe=True, **size)
    assert complaints(result, "error") == []
    assert result.verdict == "stable"
    assert result.probe is not None
    assert result.probe.calls


@pytest.mark.parametrize("name", PROBED)
def test_probed_in_place(name: str) -> None:
    result = audit(TEXTBOOK[name](), probe=True, batch_size=16, batches=2)
    assert complaints(result, "error") == []
    assert len(complaints(result, "warning")) <= 1, complaints(result, "warning")
    assert result.verdict == "stable"
    assert result.probe is not None
    assert result.probe.incomplete == ""
    assert result.probe.calls
