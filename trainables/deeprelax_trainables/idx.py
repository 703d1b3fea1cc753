"""The IDX file format of the MNIST family, plain or compressed with gzip.

Format (Y. LeCun, C. Cortes, C. Burges, "The MNIST database", file formats): two zero bytes, a type code, the number of
axes, the length of each axis as a big-endian 32-bit integer, then the numbers in row-major order.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deeprelax.errors import DataError

_UINT8 = 8


def read_idx(path: Path) -> Tensor:
    """Return the uint8 array in ``path`` as a tensor; a name that ends in ``.gz`` means gzip.

    Raises:
        DataError: the file is no IDX file of bytes, or is damaged or cut off.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"Cannot read {path}: {error}. Fetch the file again.") from error
    if len(content) < 4 or content[:3] != bytes([0, 0, _UINT8]):
        raise DataError(
            f"Invalid file {path}: starts with {content[:4].hex(' ')}. Must be IDX of bytes: 00 00 08, then axes."
        )
    axes = content[3]
    shape = np.frombuffer(content, ">u4", offset=4, count=axes).tolist() if len(content) >= 4 + 4 * axes else [-1]
    values = np.frombuffer(content, np.uint8, offset=min(4 + 4 * axes, len(content)))
    if len(values) != math.prod(shape):
        raise DataError(
            f"Invalid file {path}: {len(values)} values of shape {shape}. Must be complete. Fetch the file again."
        )
    return torch.from_numpy(values.copy()).reshape(shape)
