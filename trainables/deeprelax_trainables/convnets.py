"""Convolutional networks: a small one, All-CNN and wide residual networks.

Shapes: inputs (B, C, H, W) float, outputs (B, classes).
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional


class SmallCNN(nn.Sequential):
    """Two convolutions of 3 x 3 with max-pooling and one dense layer, about the size of LeNet-5.

    Args:
        channels: of the input.
        size: height and width of the input in pixels, a multiple of 4.
        classes: of the output.
        width: channels of the first convolution; the second has twice as many.
        hidden: units of the dense layer.
        dropout: before the dense layer and before the output, 0 <= dropout < 1.
    """

    def __init__(
        self, *, channels: int, size: int, classes: int, width: int = 16, hidden: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * width * (size // 4) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )


class AllCNN(nn.Sequential):
    """All-CNN-C with batch normalization after each convolution: strides in place of pooling, no dense layer.

    Source: Springenberg et al. 2015, arXiv:1412.6806, table 1; with batch normalization as in Chaudhari et al. 2017,
    arXiv:1611.01838. The last convolution gives logits: it has neither normalization nor the table's ReLU.

    Args:
        channels: of the input.
        classes: of the output.
        width: channels of the first three convolutions, 96 in the paper; the others have twice as many.
        dropout: after each of the two convolutions with stride, .5 in the paper, 0 <= dropout < 1.
        input_dropout: of the input, .2 in the paper.
    """

    def __init__(
        self, *, channels: int, classes: int, width: int = 96, dropout: float = 0.5, input_dropout: float = 0.0
    ) -> None:
        wide = 2 * width
        super().__init__(
            nn.Dropout(input_dropout),
            *_convolution(channels, width),
            *_convolution(width, width),
            *_convolution(width, width, stride=2),
            nn.Dropout(dropout),
            *_convolution(width, wide),
            *_convolution(wide, wide),
            *_convolution(wide, wide, stride=2),
            nn.Dropout(dropout),
            *_convolution(wide, wide, padding=0),
            *_convolution(wide, wide, kernel=1, padding=0),
            nn.Conv2d(wide, classes, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class WideResNet(nn.Module):
    """WRN-d-k: a residual network of depth d with k times the channels of the narrow one.

    Source: Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 1: three groups of (d - 4) / 6 blocks, each block
    normalization, ReLU, convolution, twice, with dropout between the convolutions.

    Args:
        channels: of the input.
        classes: of the output.
        depth: d = 6 n + 4, n >= 1.
        width: k >= 1; the groups have 16 k, 32 k and 64 k channels.
        dropout: inside each block, 0 <= dropout < 1.
    """

    def __init__(self, *, channels: int, classes: int, depth: int = 16, width: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.groups = nn.Sequential(
            *_group(blocks, 16, 16 * width, 1, dropout),
            *_group(blocks, 16 * width, 32 * width, 2, dropout),
            *_group(blocks, 32 * width, 64 * width, 2, dropout),
        )
        self.norm = nn.BatchNorm2d(64 * width)
        self.head = nn.Linear(64 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, shape (B, classes)."""
        features = functional.relu(self.norm(self.groups(self.stem(inputs))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class _Residual(nn.Module):
    """One block: ``x + conv(dropout(relu(norm(conv(relu(norm(x)))))))``."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        active = functional.relu(self.norm1(inputs))
        change: Tensor = self.conv2(self.dropout(functional.relu(self.norm2(self.conv1(active)))))
        # The shortcut that changes the shape starts after the activation, as in the paper's released networks.
        return change + (inputs if self.shortcut is None else self.shortcut(active))


def _group(blocks: int, inputs: int, outputs: int, stride: int, dropout: float) -> Iterator[nn.Module]:
    yield _Residual(inputs, outputs, stride, dropout)
    for _ in range(blocks - 1):
        yield _Residual(outputs, outputs, 1, dropout)


def _convolution(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, padding: int = 1
) -> Iterator[nn.Module]:
    yield nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    yield nn.BatchNorm2d(outputs)
    yield nn.ReLU()
