"""Losses of class scores."""

from __future__ import annotations

from keras import ops

from .numbers import mean
from .table import Node, Unsupported, Value, operator
from .tensors import cast, dtype_of, tensor


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood(
    node: Node, scores: Value, labels: Value, weights: Value = None
) -> Value:
    """−w · score of the label's class, (n, classes, …) → (n, …), and its sum or mean."""
    return _loss(node, tensor(scores), labels, weights)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(node: Node, scores: Value, labels: Value, weights: Value = None) -> Value:
    """The same of the logarithm of the softmax over the classes, which is the second output."""
    logarithms = ops.log_softmax(tensor(scores), axis=1)
    loss = _loss(node, logarithms, labels, weights)
    return (loss, logarithms) if node.outputs > 1 else loss


def _loss(node: Node, scores: Value, labels: Value, weights: Value) -> Value:
    dtype = dtype_of(scores)
    labels = tensor(labels)
    ignored = node.get("ignore_index")
    counted = None if ignored is None else ops.not_equal(labels, ignored)
    if counted is not None:
        labels = ops.where(counted, labels, ops.zeros_like(labels))
    taken = ops.take_along_axis(scores, ops.expand_dims(labels, 1), axis=1)
    losses = -ops.squeeze(taken, axis=1)
    weight = None if weights is None else ops.take(tensor(weights), labels, axis=0)
    if counted is not None:
        # an ignored element may have the score −inf, whose product with 0 is NaN
        losses = ops.where(counted, losses, ops.zeros_like(losses))
        held = cast(counted, dtype)
        weight = held if weight is None else weight * held
    if weight is not None:
        losses = losses * weight
    reduction = node.get("reduction", "mean")
    if reduction == "none":
        return losses
    if reduction == "sum":
        return ops.sum(losses)
    if reduction != "mean":
        raise Unsupported(f"reduction {reduction!r}")
    if weight is None:
        return mean(losses, tuple(range(len(losses.shape))), keepdims=False)
    return ops.sum(losses) / ops.sum(weight)
