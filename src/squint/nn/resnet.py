"""ResNet v1.5 (He et al. 2016; stride on the 3x3 convolution), small enough to read at once.

Key names are those of timm and torchvision (`conv1, bn1, layer1..4, downsample.0/1`), so
weights load in both directions by name; there is no classifier.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squint.nn._encoder import Encoder
from squint.nn.init import haiku_, variance_scaling_
from squint.shapes import Features, Image

Stem = Literal["imagenet", "cifar"]
Init = Literal["simclr", "torchvision", "haiku"]

_BASE_CHANNELS = (64, 128, 256, 512)

_VECTOR = 16
"""float32 numbers in the widest vector register of a CPU."""


def scaled(channels: int, width: float) -> int:
    """Channels times width, rounded to the nearest multiple of 8 (halves up), at least 8."""
    return max(8, 8 * math.floor(channels * width / 8 + 0.5))


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    if size == 3:
        return _Conv3x3(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return nn.Conv2d(in_channels, out_channels, size, stride, bias=False)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    # differs from the SimCLR TF code: it projects in the first block of every group, also in
    # group 1 of ResNet-18/34 where shapes already agree; torchvision and the paper do not.
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    narrow = stride > 1 and in_channels < _VECTOR
    convolution = _NarrowProjection if narrow else nn.Conv2d
    project = convolution(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(project, nn.BatchNorm2d(out_channels))


class _Conv3x3(nn.Conv2d):
    """A 3x3 convolution; in training on a CPU, of images of at most 2x2, as one matrix product.

    Most taps lie on the padding there, and oneDNN multiplies them all: 36 products of channels
    for an image of 2x2, where the matrix of every position on every position takes 16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h / stride, w / stride)."""
        if self.training and input.device.type == "cpu" and max(input.shape[2:]) <= 2:
            return self._as_product(input)
        return super().forward(input)

    def _as_product(self, input: Tensor) -> Tensor:
        n, _, h, w = input.shape
        rows, columns = range(0, h, self.stride[0]), range(0, w, self.stride[1])
        kernel = self.weight.permute(0, 2, 3, 1)  # (out_channels, 3, 3, in_channels)
        # the output at (row, column) sees the image through the taps from (1 - row, 1 - column) on
        seen = [
            kernel[:, 1 - row : 1 - row + h, 1 - column : 1 - column + w]
            for row in rows
            for column in columns
        ]
        matrix = torch.cat(seen).flatten(1)  # (rows columns out_channels, h w in_channels)
        output = F.linear(input.permute(0, 2, 3, 1).flatten(1), matrix)
        return output.view(n, len(rows), len(columns), -1).permute(0, 3, 1, 2)


class _NarrowProjection(nn.Conv2d):
    """A 1x1 convolution of every stride-th row and column: the same numbers as with a stride.

    Given channels-last images of fewer channels than a vector register holds numbers, oneDNN's
    backward pass of the strided form writes past the end of its workspace (oneDNN issue 6035; seen
    with torch 2.15 from 56 px on).
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, out_channels, h / stride, w / stride)."""
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ResNet-10, 18, 34."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, expansion * channels, h / stride, w / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.downsample(x))

    def last_norm(self) -> nn.BatchNorm2d:
        """The BatchNorm in front of the sum with the shortcut."""
        return self.bn2


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut: ResNet-50, 101, 152."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = _conv(in_channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, h, w) -> (n, expansion * channels, h / stride, w / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + self.downsample(x))

    def last_norm(self) -> nn.BatchNorm2d:
        """The BatchNorm in front of the sum with the shortcut."""
        return self.bn3


Block = type[BasicBlock] | type[Bottleneck]
Depths = tuple[int, int, int, int]

LAYOUTS: dict[str, tuple[Block, Depths]] = {
    "resnet10": (BasicBlock, (1, 1, 1, 1)),
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}
"""Block and blocks per group of every ResNet we build ourselves."""


class ResNet(Encoder):
    """ResNet v1.5 without a classifier: (n, c, h, w) -> (n, f), f = 512 or 2048 times width.

    Args:
        block: the residual block.
        depths: blocks in each of the four groups.
        stem: imagenet, 7x7 stride 2 and max-pool; cifar, 3x3 stride 1 and no pooling
            (SimCLR code, images up to 32 px).
        width: multiplies every number of channels, see `scaled`.
        in_channels: channels of the images.
        zero_init_residual: start the last BatchNorm scale of every block at 0, so that each
            block starts as its shortcut (SimCLR and MoCo v3 code; not MoCo v1, v2).
        init: simclr, truncated normal of variance 1 / fan-in; torchvision (MoCo), normal of
            variance 2 / fan-out; haiku (BYOL), as simclr, but of that variance before the cut.
    """

    def __init__(
        self,
        block: Block,
        depths: Depths,
        *,
        stem: Stem,
        width: float,
        in_channels: int,
        zero_init_residual: bool,
        init: Init,
    ) -> None:
        super().__init__()
        widths = [scaled(channels, width) for channels in _BASE_CHANNELS]
        if stem == "imagenet":
            # differs from TensorFlow's max-pool and Haiku's strided layers, which pad more below
            # and to the right
            self.conv1 = nn.Conv2d(in_channels, widths[0], 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = _conv(in_channels, widths[0], 3)
            self.maxpool = nn.Identity()
        # differs from TensorFlow and Haiku, here and in every batch norm: running variances are
        # unbiased, and not corrected for their start as Haiku's are
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _group(block, widths[0], widths[0], depths[0], stride=1)
        self.layer2 = _group(block, block.expansion * widths[0], widths[1], depths[1], stride=2)
        self.layer3 = _group(block, block.expansion * widths[1], widths[2], depths[2], stride=2)
        self.layer4 = _group(block, block.expansion * widths[2], widths[3], depths[3], stride=2)
        self.dim = block.expansion * widths[3]
        self._start(init, zero_init_residual)

    def forward(self, images: Image) -> Features:
        """Mean over positions of the last group's output, (n, c, h, w) -> (n, f)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (n, f, h/32, w/32)
        return torch.mean(x, dim=(2, 3))  # (n, f)

    def _start(self, init: Init, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if init == "simclr":
                    variance_scaling_(module.weight)
                elif init == "haiku":
                    haiku_(module.weight)
                else:
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.last_norm().weight)


def _group(block: Block, in_channels: int, channels: int, depth: int, stride: int) -> nn.Sequential:
    first = block(in_channels, channels, stride)
    rest = [block(block.expansion * channels, channels, 1) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)
