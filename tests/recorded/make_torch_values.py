"""What PyTorch computes, for `tests/test_torch_values.py`: inputs, weights, outputs, gradients, statistics.

Weights and inputs are float32 numbers; PyTorch computes in float64 and its results are rounded once, so that
the test sees our rounding alone. Needs `torch==2.13.0`, `numpy` and `safetensors`:

    python tests/recorded/make_torch_values.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

FILE = Path(__file__).with_name("torch_values.safetensors")
IMAGE, SEQUENCE, VOLUME = (2, 4, 7, 6), (2, 4, 9), (1, 2, 4, 5, 4)  # channels first, as PyTorch has it
TIME = (2, 5, 3)  # (batch, time, features)


def causal_and_padded(module: nn.MultiheadAttention, x: torch.Tensor) -> Any:
    """Self-attention to no later position, and in the second example to none of the last two."""
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    return module(x, x, x, attn_mask=later, key_padding_mask=padding, average_attn_weights=False)


def self_attention(module: nn.MultiheadAttention, x: torch.Tensor) -> Any:
    return module(x, x, x, average_attn_weights=False)


def cross_attention(module: nn.MultiheadAttention, query: Any, value: Any, key: Any) -> Any:
    return module(query, key, value, average_attn_weights=False)


class GroupedAttention(nn.Module):
    """Four query heads of size 3 over two heads of keys and values: PyTorch has the product, no module."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.output = nn.Linear(6, 12, bias=False), nn.Linear(12, 6, bias=False)
        self.key, self.value = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Self-attention, masked as in `causal_and_padded`."""
        query, key, value = (
            each(x).unflatten(-1, (-1, 3)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
        mask[1, :, :, 3:] = False
        heads = nn.functional.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)
        return self.output(heads.transpose(1, 2).flatten(-2))


def from_state(module: nn.Module, x: torch.Tensor, *state: torch.Tensor) -> Any:
    state = tuple(s[None] for s in state)  # one layer
    return module(x, state if len(state) > 1 else state[0])


def recurrent(kind: type[nn.RNNBase], **arguments: Any) -> nn.RNNBase:
    return kind(3, 4, batch_first=True, **arguments)


# Each row: the module, the shapes of its inputs, and how it is called if not simply on these.
CASES: dict[str, tuple[Any, ...]] = {
    "conv1d": (nn.Conv1d(4, 3, 3), SEQUENCE),
    "conv1d_dilated": (nn.Conv1d(4, 3, 3, dilation=2), SEQUENCE),
    "conv1d_same_even": (nn.Conv1d(4, 3, 4, padding="same"), SEQUENCE),
    "conv2d": (nn.Conv2d(4, 3, (3, 2)), IMAGE),
    "conv2d_strided": (nn.Conv2d(4, 3, 3, stride=(2, 3), padding=1), IMAGE),
    "conv2d_padded": (nn.Conv2d(4, 3, 3, padding=(2, 1), bias=False), IMAGE),
    "conv2d_same_dilated": (nn.Conv2d(4, 3, 3, padding="same", dilation=(2, 1)), IMAGE),
    "conv2d_groups": (nn.Conv2d(4, 6, 3, groups=2), IMAGE),
    "conv2d_depthwise": (nn.Conv2d(4, 8, 3, groups=4, stride=2), IMAGE),
    "conv3d": (nn.Conv3d(2, 3, (2, 3, 2), stride=(1, 2, 1)), VOLUME),
    "conv1d_transpose": (nn.ConvTranspose1d(4, 3, 3, stride=2), SEQUENCE),
    "conv2d_transpose": (nn.ConvTranspose2d(4, 3, (3, 2), stride=(2, 1)), IMAGE),
    "conv2d_transpose_same": (nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "conv2d_transpose_longer": (nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1), IMAGE),
    "conv2d_transpose_dilated": (nn.ConvTranspose2d(4, 3, 3, dilation=2), IMAGE),
    "conv3d_transpose": (nn.ConvTranspose3d(2, 3, 2, stride=2), VOLUME),
    "batch_norm": (nn.BatchNorm1d(3, eps=1e-3), (6, 3)),
    "batch_norm_images": (nn.BatchNorm2d(4, momentum=0.3), IMAGE),
    "batch_norm_inference": (nn.BatchNorm2d(4).eval(), IMAGE),
    "layer_norm": (nn.LayerNorm(3), TIME),
    "layer_norm_two_axes": (nn.LayerNorm((5, 3), eps=1e-3), TIME),
    "group_norm": (nn.GroupNorm(2, 4), IMAGE),
    "instance_norm": (nn.InstanceNorm2d(4, affine=True), IMAGE),
    "rms_norm": (nn.RMSNorm(3, eps=1e-6), TIME),
    "rnn": (recurrent(nn.RNN), TIME),
    "lstm": (recurrent(nn.LSTM), TIME),
    "lstm_from_state": (recurrent(nn.LSTM), TIME, (2, 4), (2, 4), from_state),
    "lstm_bidirectional": (recurrent(nn.LSTM, bidirectional=True), TIME),
    "gru": (recurrent(nn.GRU), TIME),
    "gru_from_state": (recurrent(nn.GRU), TIME, (2, 4), from_state),
    "attention": (nn.MultiheadAttention(6, 2, batch_first=True), (2, 5, 6), self_attention),
    "attention_masked": (nn.MultiheadAttention(6, 2, batch_first=True), (2, 5, 6), causal_and_padded),
    "attention_cross": (
        nn.MultiheadAttention(6, 2, kdim=5, vdim=4, batch_first=True),
        (2, 3, 6), (2, 5, 4), (2, 5, 5), cross_attention,
    ),
    "attention_grouped": (GroupedAttention(), (2, 5, 6)),
    "conv1d_transpose_padded": (nn.ConvTranspose1d(4, 3, 3, padding=1, dilation=2), SEQUENCE),
    "conv2d_transpose_padded": (nn.ConvTranspose2d(4, 3, (4, 2), (2, 3), (1, 0), (0, 2)), IMAGE),
    "conv3d_transpose_padded": (nn.ConvTranspose3d(2, 3, 3, stride=2, padding=1, output_padding=1), VOLUME),
    "pool_max_padded": (nn.MaxPool2d(3, 2, padding=1), IMAGE),
    "pool_average_padded": (nn.AvgPool2d(3, 2, (1, 0), count_include_pad=False), IMAGE),
}  # fmt: skip


def tensors(nested: Any) -> list[torch.Tensor]:
    if isinstance(nested, torch.Tensor):
        return [nested]
    return [tensor for part in nested for tensor in tensors(part)]


def record(module: nn.Module, shapes: list[Any], call: Callable[..., Any]) -> dict[str, torch.Tensor]:
    """The numbers of one case; gradients are those of the outputs' sum, each value times its `cotangent`."""
    module.double()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape).double()
                tensor.copy_(values.abs() + 0.5 if name == "running_var" else values)
    inputs = [torch.randn(shape).double().requires_grad_() for shape in shapes]
    found = {f"buffers/{n}": b.clone() for n, b in module.named_buffers() if b.is_floating_point()}
    outputs = tensors(call(module, *inputs))
    cotangents = [torch.randn(y.shape).double() for y in outputs]
    sum(torch.sum(y * c) for y, c in zip(outputs, cotangents, strict=True)).backward()
    for n, parameter in module.named_parameters():
        found[f"weights/{n}"], found[f"gradients/{n}"] = parameter, parameter.grad
    for n, buffer in module.named_buffers():
        if buffer.is_floating_point():
            found[f"moved/{n}"] = buffer
    for i, x in enumerate(inputs):
        found[f"inputs/{i}"], found[f"inputs_gradients/{i}"] = x, x.grad
    for i, (y, cotangent) in enumerate(zip(outputs, cotangents, strict=True)):
        found[f"outputs/{i}"], found[f"cotangents/{i}"] = y, cotangent
    return {name: tensor.detach().float().contiguous() for name, tensor in found.items()}


def main() -> None:
    torch.manual_seed(0)
    values = {}
    for case, (module, *rest) in CASES.items():
        call = rest.pop() if callable(rest[-1]) else lambda module, *inputs: module(*inputs)
        values |= {f"{case}/{name}": tensor for name, tensor in record(module, rest, call).items()}
    save_file(values, FILE, metadata={"torch": torch.__version__})
    print(f"{len(CASES)} cases, {FILE.stat().st_size / 1000:.0f} kB in {FILE}")


if __name__ == "__main__":
    main()
