"""Writes the torch_*.onnx files beside it: small models by both exporters of torch.

Run with torch 2.13.0 and onnxscript 0.7.2: `python tests/data/onnx/export_torch.py`. Tests read the
files and need no torch. What tells of the machine (stack traces, doc strings) is taken out.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
KEPT = "pkg.torch.onnx.name_scopes"


class Block(nn.Module):
    """A residual block of ResNet."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1:
            shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(Block(4, 4, 1))
        self.layer2 = nn.Sequential(Block(4, 6, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, 2, 1)
        self.fc2 = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * nn.functional.hardsigmoid(self.fc2(torch.relu(self.fc1(self.pool(x)))))


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1),
            nn.Hardswish(),
            nn.ZeroPad2d(1),
            nn.Conv2d(4, 4, 3, groups=4, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            Squeeze(4),
            nn.Conv2d(4, 6, 1),
            nn.SiLU(),
            nn.GroupNorm(2, 6),
        )
        self.classifier = nn.Sequential(
            nn.Linear(6, 8), nn.Mish(), nn.Dropout(0.2), nn.Linear(8, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.pos = nn.Parameter(torch.randn(1, 5, 8))
        self.layer = nn.TransformerEncoderLayer(
            8, 2, 12, batch_first=True, norm_first=True, activation="gelu"
        )
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(tokens) + self.pos).mean(1))


class Gpt(nn.Module):
    """One block as of nanoGPT, the attention by torch's function or by hand."""

    def __init__(self, *, by_hand: bool) -> None:
        super().__init__()
        self.by_hand = by_hand
        self.wte = nn.Embedding(12, 8)
        self.ln_1 = nn.LayerNorm(8)
        self.c_attn = nn.Linear(8, 24)
        self.c_proj = nn.Linear(8, 8)
        self.ln_2 = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU("tanh"), nn.Linear(16, 8))
        self.register_buffer("mask", torch.tril(torch.ones(6, 6)).view(1, 1, 6, 6))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens)
        batch, time, width = x.shape
        packed = self.c_attn(self.ln_1(x)).split(width, 2)
        query, key, value = (t.view(batch, time, 2, width // 2).transpose(1, 2) for t in packed)
        if self.by_hand:
            scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(key.size(-1)))
            scores = scores.masked_fill(self.mask[:, :, :time, :time] == 0, float("-inf"))
            mixed = scores.softmax(-1) @ value
        else:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.c_proj(mixed.transpose(1, 2).contiguous().view(batch, time, width))
        return x + self.mlp(self.ln_2(x))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(self.lstm(x)[0])[0][:, -1])


class Llama(nn.Module):
    """A block with RMS norm, rotary positions, grouped keys and a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(8, eps=1e-6)
        self.q = nn.Linear(8, 8, bias=False)
        self.k = nn.Linear(8, 4, bias=False)
        self.v = nn.Linear(8, 4, bias=False)
        self.o = nn.Linear(8, 8, bias=False)
        self.gate, self.up = nn.Linear(8, 12, bias=False), nn.Linear(8, 12, bias=False)

    @staticmethod
    def turned(x: Tensor) -> Tensor:
        time, width = x.shape[2:]
        angles = torch.outer(
            torch.arange(time).float(), 100.0 ** -(torch.arange(0, width, 2) / width)
        )
        cos, sin = (torch.cat((f(angles), f(angles)), -1) for f in (torch.cos, torch.sin))
        return x * cos + torch.cat((-x[..., width // 2 :], x[..., : width // 2]), -1) * sin

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        y = self.norm(x)
        query = self.turned(self.q(y).view(batch, time, 2, 4).transpose(1, 2))
        key = self.turned(self.k(y).view(batch, time, 1, 4).transpose(1, 2))
        value = self.v(y).view(batch, time, 1, 4).transpose(1, 2)
        key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(batch, time, 8))
        return nn.functional.silu(self.gate(x)) * self.up(x)


torch.manual_seed(0)
MODELS: dict[str, tuple[nn.Module, Tensor]] = {
    "resnet": (ResNet(), torch.randn(2, 3, 16, 16)),
    "mobilenet": (MobileNet(), torch.randn(2, 3, 12, 12)),
    "encoder": (Encoder(), torch.randint(0, 12, (2, 5))),
    "gpt": (Gpt(by_hand=False), torch.randint(0, 12, (2, 6))),
    "gpt_by_hand": (Gpt(by_hand=True), torch.randint(0, 12, (2, 6))),
    "recurrent": (Recurrent(), torch.randn(2, 7, 3)),
    "llama": (Llama(), torch.randn(2, 6, 8)),
}
#: TorchScript's exporter has no RMSNorm.
DYNAMO_ONLY = {"llama"}


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what its exporter noted of the machine it ran on."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for thing in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del thing.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
        kept = [entry for entry in node.metadata_props if entry.key == KEPT]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return model


def main() -> None:
    warnings.filterwarnings("ignore")
    for name, (model, x) in MODELS.items():
        for dynamo in (True, False):
            if not dynamo and name in DYNAMO_ONLY:
                continue
            settings: dict[str, Any] = {"dynamic_axes": {"x": {0: "batch"}}}
            if dynamo:
                settings = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
            path = HERE / f"torch_{name}_{'dynamo' if dynamo else 'script'}.onnx"
            torch.onnx.export(
                model.eval(), (x,), path, input_names=["x"], dynamo=dynamo, verbose=False,
                external_data=False, **settings,
            )  # fmt: skip
            onnx.save(cleaned(onnx.load(path)), path)


if __name__ == "__main__":
    main()
