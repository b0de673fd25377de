"""PyTorch as its documentation advises for CPUs: eager, oneDNN, images in `channels_last`, fused Adam."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from torch import nn

from benchmarks import workloads as w
from benchmarks.peers import Program
from benchmarks.workloads import ADAM, CLASSES, EPSILON, MOMENTUM


def mlp(sizes: w.MLP) -> nn.Module:
    widths = (*sizes.shape, *sizes.widths)
    hidden: list[nn.Module] = []
    for n, m in itertools.pairwise(widths):
        hidden += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], CLASSES))


def cnn(sizes: w.CNN) -> nn.Module:
    height, width, channels = sizes.shape
    flat = (height - 2) // 2 * ((width - 2) // 2) * sizes.filters
    return nn.Sequential(
        nn.Conv2d(channels, sizes.filters, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(flat, sizes.units),
        nn.ReLU(),
        nn.Linear(sizes.units, CLASSES),
    )


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=EPSILON, momentum=1 - MOMENTUM))


class Skip(nn.Module):
    """`body(x) + skip(x)`."""

    def __init__(self, body: nn.Module, skip: nn.Module):
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: Any) -> Any:
        return self.body(x) + self.skip(x)


def head(features: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, CLASSES)]


def resnet(sizes: w.ResNet) -> nn.Module:
    before = sizes.width
    parts: list[nn.Module] = [conv_norm(sizes.shape[-1], before, 3), nn.ReLU(inplace=True)]
    for channels, stride in sizes.plan():
        body = nn.Sequential(
            conv_norm(before, channels, 3, stride), nn.ReLU(inplace=True), conv_norm(channels, channels, 3)
        )
        skip = nn.Identity() if stride == 1 else conv_norm(before, channels, 1, stride)
        parts += [Skip(body, skip), nn.ReLU(inplace=True)]
        before = channels
    return nn.Sequential(*parts, *head(before))


def mobilenet(sizes: w.MobileNet) -> nn.Module:
    before = sizes.stem
    parts: list[nn.Module] = [conv_norm(sizes.shape[-1], before, 3), nn.ReLU6(inplace=True)]
    for expansion, channels, stride in sizes.plan():
        inside = before * expansion
        expand = [conv_norm(before, inside, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        body = nn.Sequential(
            *expand,
            conv_norm(inside, inside, 3, stride, groups=inside),
            nn.ReLU6(inplace=True),
            conv_norm(inside, channels, 1),
        )
        parts.append(Skip(body, nn.Identity()) if stride == 1 and before == channels else body)
        before = channels
    parts += [conv_norm(before, sizes.head, 1), nn.ReLU6(inplace=True)]
    return nn.Sequential(*parts, *head(sizes.head))


class Recurrent(nn.Module):
    def __init__(self, layer: Any, sizes: w.LSTM):
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.features)
        self.rnn = layer(sizes.features, sizes.units, batch_first=True)
        self.out = nn.Linear(sizes.units, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.out(self.rnn(self.embedding(x))[0][:, -1])


class Transformer(nn.Module):
    def __init__(self, sizes: w.Transformer):
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.features)
        self.positions = nn.Parameter(0.02 * torch.randn(*sizes.shape, sizes.features))
        block = nn.TransformerEncoderLayer(
            sizes.features,
            sizes.heads,
            sizes.hidden,
            dropout=0.0,
            layer_norm_eps=EPSILON,
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(sizes.features, eps=EPSILON)
        self.encoder = nn.TransformerEncoder(block, sizes.layers, norm, enable_nested_tensor=False)
        self.out = nn.Linear(sizes.features, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.out(self.encoder(self.tokens(x) + self.positions).mean(1))


MODELS: dict[str, Any] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "lstm": functools.partial(Recurrent, nn.LSTM),
    "gru": functools.partial(Recurrent, nn.GRU),
    "transformer": Transformer,
}


def program(workload: w.Workload) -> Program:
    torch.manual_seed(0)
    model = MODELS[workload.kind](workload)
    x, y = map(torch.from_numpy, workload.data())
    y = y.long()
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)
    betas = (ADAM["b1"], ADAM["b2"])
    optimizer = torch.optim.Adam(model.parameters(), ADAM["learning_rate"], betas, ADAM["eps"], fused=True)
    loss_fn = nn.CrossEntropyLoss()

    def train(steps: int) -> float:
        model.train()
        loss = torch.tensor(torch.nan)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    def predict(calls: int) -> torch.Tensor:
        model.eval()
        logits = x
        with torch.inference_mode():
            for _ in range(calls):
                logits = model(x)
        return logits

    return Program(train, predict, sum(p.numel() for p in model.parameters()), lambda: None)
