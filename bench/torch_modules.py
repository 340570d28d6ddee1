"""Ten small torch modules, of the kinds of layers that are exported to ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


def mlp() -> nn.Module:
    """Dense layers with different activations."""
    return nn.Sequential(
        *(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 24)),
        *(nn.GELU(), nn.LayerNorm(24), nn.Linear(24, 7)),
    )


def plain_cnn() -> nn.Module:
    """Convolutions, normalization by the batch, pooling, a head."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 12, 3, stride=2), nn.BatchNorm2d(12), nn.LeakyReLU(0.1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)),
    )


def mobile() -> nn.Module:
    """Depthwise and pointwise convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Hardswish()),
        *(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.SiLU(), nn.Flatten(), nn.Linear(256, 5)),
    )


class Residual(nn.Module):
    """A sum with a branch of layers, and what the branch comes after."""

    def __init__(self, branch: nn.Module, before: nn.Module | None = None) -> None:
        super().__init__()
        self.before = before or nn.Identity()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        x = self.before(x)
        return x + self.branch(x)


def resnet() -> nn.Module:
    """Two residual blocks."""

    def branch(width: int) -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
            *(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )

    return nn.Sequential(
        Residual(branch(8), nn.Conv2d(3, 8, 3, padding=1)),
        *(nn.ReLU(), Residual(branch(8), nn.Conv2d(8, 8, 1, stride=2))),
    )


def grouped() -> nn.Module:
    """Grouped and dilated convolutions, normalization by groups."""
    return nn.Sequential(
        *(nn.Conv2d(4, 8, 3, groups=2, padding=1), nn.GroupNorm(2, 8), nn.ELU()),
        *(nn.Conv2d(8, 8, 3, dilation=2), nn.InstanceNorm2d(8, affine=True), nn.Softplus()),
        *(nn.AvgPool2d(2), nn.Conv2d(8, 4, 1)),
    )


def temporal() -> nn.Module:
    """Convolutions along time."""
    return nn.Sequential(
        *(nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU()),
        *(nn.Conv1d(8, 8, 3, dilation=2, padding=2), nn.Mish(), nn.Conv1d(8, 2, 1)),
    )


def decoder() -> nn.Module:
    """Transposed convolutions and resizing."""
    return nn.Sequential(
        *(nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(8, 3, 3, padding=1)),
        nn.Sigmoid(),
    )


class Recurrent(nn.Module):
    """A recurrent layer and a head on all its steps."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, features) → (batch, time, 3)."""
        made: torch.Tensor = self.head(self.layer(x)[0])
        return made


def lstm() -> nn.Module:
    """A long short-term memory."""
    return Recurrent(nn.LSTM(5, 8, batch_first=True), 8)


def gru() -> nn.Module:
    """A gated recurrent unit in both directions."""
    return Recurrent(nn.GRU(5, 6, batch_first=True, bidirectional=True), 12)


def transformer() -> nn.Module:
    """Normalized residual blocks of dense layers, as a transformer's feed-forward part."""

    def branch() -> nn.Module:
        return nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 12))

    return nn.Sequential(
        nn.Linear(8, 12), Residual(branch()), Residual(branch()), nn.Linear(12, 4), nn.Softmax(-1)
    )


#: By name: what makes it, and the shape of a sample.
MODULES: dict[str, tuple[Callable[[], Any], Sequence[int]]] = {
    "mlp": (mlp, (20,)),
    "plain_cnn": (plain_cnn, (3, 12, 12)),
    "mobile": (mobile, (3, 8, 8)),
    "resnet": (resnet, (3, 8, 8)),
    "grouped": (grouped, (4, 8, 8)),
    "temporal": (temporal, (4, 16)),
    "decoder": (decoder, (6, 4, 4)),
    "lstm": (lstm, (7, 5)),
    "gru": (gru, (7, 5)),
    "transformer": (transformer, (6, 8)),
}
