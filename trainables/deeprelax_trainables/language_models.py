"""Small models of the next character: a transformer and an LSTM.

Shapes: inputs (B, T) int64 characters, outputs (B, T, V) logits of the next one; B = batch, T = context,
V = vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CharTransformer(nn.Module):
    """A causal transformer with normalization before each branch (pre-LN), learned positions and GELU.

    Source: Radford et al. 2019 (GPT-2).

    Args:
        vocabulary: V, number of characters.
        context: T, the largest number of positions.
        width: features of a position, a multiple of ``heads``.
        layers: blocks of attention and a dense layer of 4 ``width`` units.
        heads: of each attention.
        dropout: after the embedding and of each branch, 0 <= dropout < 1.
        tied: the output layer shares the weights of the embedding.
    """

    def __init__(
        self, *, vocabulary: int, context: int, width: int, layers: int, heads: int, dropout: float, tied: bool
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(_Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of the next character at each position."""
        positions = torch.arange(inputs.shape[1], device=inputs.device)
        features = self.dropout(self.token(inputs) + self.position(positions))
        logits: Tensor = self.head(self.norm(self.blocks(features)))
        return logits


class CharLSTM(nn.Module):
    """An embedding, an LSTM and a linear layer; each window starts from a zero state.

    Source: Hochreiter and Schmidhuber 1997.

    Args:
        vocabulary: V, number of characters.
        width: features of a position and of the state.
        layers: of the LSTM.
        dropout: between its layers and before the output, 0 <= dropout < 1.
        tied: the output layer shares the weights of the embedding.
    """

    def __init__(self, *, vocabulary: int, width: int, layers: int, dropout: float, tied: bool) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocabulary)
        if tied:
            nn.init.normal_(self.token.weight, std=width**-0.5)
            self.head.weight = self.token.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of the next character at each position."""
        features, _ = self.lstm(self.token(inputs))
        logits: Tensor = self.head(self.dropout(features))
        return logits


class _Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + dense(norm(x))``."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        attended = inputs + self.dropout(self._attend(self.norm1(inputs)))
        result: Tensor = attended + self.dropout(self.dense(self.norm2(attended)))
        return result

    def _attend(self, inputs: Tensor) -> Tensor:
        batch, length, width = inputs.shape
        split = self.attention(inputs).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        result: Tensor = self.mix(mixed.transpose(1, 2).reshape(batch, length, width))
        return result
