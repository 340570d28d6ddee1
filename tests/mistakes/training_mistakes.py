"""Mistakes in how a model is to be trained, each as people report it."""

from __future__ import annotations

from mistakes import Mistake, loss_mistakes, normalization_mistakes, optimizer_mistakes

MISTAKES: tuple[Mistake, ...] = (
    *normalization_mistakes.MISTAKES,
    *loss_mistakes.MISTAKES,
    *optimizer_mistakes.MISTAKES,
)
