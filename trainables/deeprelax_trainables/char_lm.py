"""A language model of characters on any text file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from deeprelax.errors import DataError
from deeprelax.registry import trainable
from deeprelax.replica.task import Batch, Task
from deeprelax_trainables.datafiles import ROOT_VARIABLE, LocalPath
from deeprelax_trainables.language_models import CharLSTM, CharTransformer


class CharLMConfig(BaseModel, frozen=True):
    """What ``char_lm`` trains, and on which text."""

    text: LocalPath | None = Field(None, description="text file; default $DEEPRELAX_DATA/char_lm/text.txt")
    max_bytes: int | None = Field(None, ge=1, description="use only the first bytes of the text; default all")
    test_fraction: float = Field(0.1, gt=0, lt=1, description="share at the end of the text that is kept for the test")
    model: Literal["transformer", "lstm"] = Field("transformer", description="the network")
    context: int = Field(64, ge=1, description="characters of a window, which is one sample")
    width: int = Field(128, ge=1, description="features of a position; for the transformer a multiple of heads")
    layers: int = Field(2, ge=1, description="blocks of the transformer or layers of the LSTM")
    heads: int = Field(4, ge=1, description="transformer: heads of each attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability of dropping a feature while training")
    tied: bool = Field(True, description="the output layer shares the weights of the embedding")
    batch_size: int = Field(32, ge=1, description="windows of a mini-batch")
    lr: float | None = Field(
        None, gt=0, description="learning rate of AdamW; default .001 (transformer) or .003 (lstm)"
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.model == "transformer" and self.width % self.heads:
            raise ValueError(f"Invalid width={self.width}. Must be a multiple of heads={self.heads}")
        return self


@dataclass(frozen=True)
class Windows:
    """Consecutive windows of a text, so that a pass over them predicts every character once.

    Args:
        codes: the text as uint8 indices of a vocabulary, shape (N,).
        context: T, characters of a window.
    """

    codes: Tensor
    context: int

    def __len__(self) -> int:
        return (len(self.codes) - 1) // self.context

    def batch(self, indices: Tensor) -> Batch:
        """Return windows and the same windows one character later, both int64 of shape (B, T)."""
        offsets = indices[:, None] * self.context + torch.arange(self.context + 1)
        codes = self.codes[offsets].long()
        return codes[:, :-1], codes[:, 1:]


@trainable("char_lm")
def char_lm(config: CharLMConfig) -> Task:
    """The next character of any text file, a small transformer or LSTM, AdamW.

    A character is a byte; the vocabulary is the bytes that occur in the text. The test is the text's end. The error is
    the share of characters that are not the most probable one; the loss is in nats per character.

    Raises:
        DataError: there is no text, or it is too short.
    """
    codes, vocabulary = _load(_path(config), config.max_bytes)
    split = round(len(codes) * (1 - config.test_fraction))
    train, test = Windows(codes[:split], config.context), Windows(codes[split:], config.context)
    if not (len(train) and len(test)):
        raise DataError(
            f"Text of {len(codes)} bytes is too short. Must have {config.context + 1} in the training and in the test "
            f"part. Give a longer one or a smaller context."
        )
    return Task(
        model=partial(_model, config, vocabulary),
        train=train,
        test=test,
        loss=_loss,
        batch_size=config.batch_size,
        lr=config.lr or (0.001 if config.model == "transformer" else 0.003),
        optimizer="adamw",
    )


def _model(config: CharLMConfig, vocabulary: int) -> nn.Module:
    width, layers, dropout, tied = config.width, config.layers, config.dropout, config.tied
    if config.model == "lstm":
        return CharLSTM(vocabulary=vocabulary, width=width, layers=layers, dropout=dropout, tied=tied)
    return CharTransformer(
        vocabulary=vocabulary,
        context=config.context,
        width=width,
        layers=layers,
        heads=config.heads,
        dropout=dropout,
        tied=tied,
    )


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _path(config: CharLMConfig) -> Path:
    root = os.environ.get(ROOT_VARIABLE)
    default = Path(root).expanduser() / "char_lm" / "text.txt" if root else None
    path = Path(config.text) if config.text else default
    if path is None or not path.is_file():
        raise DataError(
            f"No text: {f'{path} is missing' if path else 'none given'}. To fix it, on every machine that trains: "
            f"(1) set text=FILE to any text file; or (2) set {ROOT_VARIABLE}=PARENT to a folder with char_lm/text.txt; "
            f"or (3) on Debian run `apt-get install bible-kjv && bible -f gen1:1-rev22:21 < /dev/null > kjv.txt` "
            f"and set text=kjv.txt."
        )
    return path


@lru_cache(maxsize=1)
def _load(path: Path, max_bytes: int | None) -> tuple[Tensor, int]:
    """Return the text as uint8 indices of the bytes that occur in it, shape (N,), and how many bytes occur."""
    with path.open("rb") as file:
        content = np.frombuffer(file.read(-1 if max_bytes is None else max_bytes), np.uint8)
    known, codes = np.unique(content, return_inverse=True)
    return torch.from_numpy(codes.astype(np.uint8)), len(known)
