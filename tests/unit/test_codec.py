"""Codecs: what is lost in a round trip, what is not, and that nothing is lost in the sum."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from deeprelax.coupling import LocalSgd
from deeprelax.coupling.codec import CHUNK, Bf16, Codec, Int4, Int8, TopK, read_codec, write_codec
from deeprelax.errors import ConfigError

CODECS: list[Codec] = [Bf16(), Int8(), Int4(), TopK(0.01), TopK(0.3), TopK(1.0)]
BLOCK = 256

some_codec = st.sampled_from(CODECS)
sizes = st.sampled_from([0, 1, 2, 15, 255, 256, 257, 300, 4095, 4096, 4097, 9001, 2**16 + 300])
dtypes = st.sampled_from([torch.float32, torch.float64])
scales = st.sampled_from([1e-30, 1e-3, 1.0, 1e20])
seeds = st.integers(0, 2**20)

quickly = settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def numbers(size: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return numbers of many magnitudes, some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    spread = (
        torch.randn(size, generator=generator, dtype=dtype) * torch.rand(size, generator=generator, dtype=dtype) ** 4
    )
    return spread.mul_(scale).masked_fill_(torch.rand(size, generator=generator) < 0.1, 0)


def decoded(codec: Codec, vector: Tensor) -> Tensor:
    return codec.decode(codec.encode(vector), vector)


def quantum(codec: Codec, vector: Tensor) -> Tensor:
    """Return the largest error that the codec allows itself, for each number."""
    if isinstance(codec, Bf16):
        return vector.abs() / 2**8
    if isinstance(codec, TopK):
        kept = [part.abs().topk(math.ceil(codec.fraction * len(part))).values[-1] for part in vector.split(CHUNK)]
        left_out = torch.cat([least.expand(len(part)) for least, part in zip(kept, vector.split(CHUNK), strict=True)])
        return torch.maximum(left_out if codec.fraction < 1 else 0 * left_out, vector.abs() / 2**24)  # kept in float32
    levels = 127 if codec == Int8() else 7
    parts = vector.split(BLOCK)
    return torch.cat([(part.abs().max() / levels / 2).expand(len(part)) for part in parts])


@given(some_codec, sizes, seeds, scales, dtypes)
@quickly
def test_the_error_is_at_most_half_a_quantum_of_its_own_block(
    codec: Codec, size: int, seed: int, scale: float, dtype: torch.dtype
) -> None:
    vector = numbers(size, seed, scale, dtype)
    data = codec.encode(vector)
    assert data.dtype == torch.uint8
    assert len(data) == codec.nbytes(size)
    result = codec.decode(data, vector)
    assert (result.dtype, result.shape) == (vector.dtype, vector.shape)
    if size:
        assert bool(((result - vector).abs() <= quantum(codec, vector) * (1 + 1e-5) + 1e-38).all())
        assert bool((result[vector == 0] == 0).all()), "padding must stay 0"


@given(st.sampled_from([Int8(), Int4()]), seeds)
@quickly
def test_the_error_bound_is_reached_so_it_says_something(codec: Codec, seed: int) -> None:
    vector = numbers(20 * BLOCK, seed)
    error = (decoded(codec, vector) - vector).abs()
    assert bool((error > 0.8 * quantum(codec, vector)).any())


@given(some_codec, sizes, seeds)
@quickly
def test_the_same_vector_gives_the_same_bytes_and_its_negative_the_negative(codec: Codec, size: int, seed: int) -> None:
    vector = numbers(size, seed)
    assert torch.equal(codec.encode(vector), codec.encode(vector.clone()))
    torch.testing.assert_close(decoded(codec, -vector), -decoded(codec, vector), rtol=0, atol=0)


@given(some_codec, st.lists(seeds, min_size=2, max_size=12), st.sampled_from([5, 256, 4500]))
@quickly
def test_the_sum_of_what_was_said_is_the_sum_of_what_was_to_say_but_for_what_is_unsaid(
    codec: Codec, seeds: list[int], size: int
) -> None:
    unsaid = torch.zeros(size, dtype=torch.float64)
    said, meant = torch.zeros_like(unsaid), torch.zeros_like(unsaid)
    for seed in seeds:
        vector = numbers(size, seed, dtype=torch.float64)
        meant += vector
        before = unsaid + vector
        said += codec.decode(codec.say(vector, unsaid), unsaid)
        assert bool((unsaid.abs() <= quantum(codec, before) * (1 + 1e-5)).all()), "more than one quantum is unsaid"
    torch.testing.assert_close(said + unsaid, meant, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("codec", [Int8(), Int4(), TopK(0.01)], ids=str)
def test_without_what_was_unsaid_the_sum_drifts_and_with_it_it_does_not(codec: Codec) -> None:
    vector = torch.full((4096,), 0.3 / 127 / 2)
    vector[0] = 1.0  # beside it the others are below half a quantum
    unsaid, with_memory, without = (torch.zeros(4096) for _ in range(3))
    for _ in range(400):
        with_memory += codec.decode(codec.say(vector, unsaid), vector)
        without += decoded(codec, vector)
    assert float((with_memory - 400 * vector)[1:].abs().max()) < 0.5
    assert float((without - 400 * vector)[1:].abs().max()) == pytest.approx(400 * 0.3 / 127 / 2, rel=1e-4)


@given(st.sampled_from([0.001, 0.01, 0.25, 1.0]), sizes, seeds)
@quickly
def test_topk_keeps_the_largest_of_each_row_exactly(fraction: float, size: int, seed: int) -> None:
    vector = numbers(size, seed)
    for row, kept in zip(vector.split(CHUNK), decoded(TopK(fraction), vector).split(CHUNK), strict=True):
        count = math.ceil(fraction * len(row))
        largest = row.abs().topk(count).values if len(row) else row
        torch.testing.assert_close(kept.abs().topk(count).values, largest, rtol=0, atol=0)
        assert int((kept != 0).sum()) <= count
        assert bool(((kept == row) | (kept == 0)).all())


@given(st.lists(st.integers(-7, 7), min_size=1, max_size=600))
@quickly
def test_four_bits_hold_every_integer_in_its_place(integers: list[int]) -> None:
    vector = torch.tensor([7.0, *integers][:BLOCK] + integers, dtype=torch.float32)
    blocks = [torch.cat([torch.tensor([7.0]), part]) for part in vector.split(BLOCK - 1)]
    for block in blocks:  # each holds a 7, so its quantum is 1
        assert torch.equal(decoded(Int4(), block), block)


@given(some_codec, sizes, st.integers(1, 5), seeds)
@quickly
def test_a_slice_between_chunks_is_coded_as_it_is_within_the_whole(
    codec: Codec, size: int, parts: int, seed: int
) -> None:
    vector = numbers(size, seed)
    pieces = [codec.encode(piece) for piece in vector.split(parts * CHUNK)]
    assert torch.equal(torch.cat(pieces), codec.encode(vector))


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 255, 700, 5000])
def test_a_number_that_is_not_finite_is_still_seen(codec: Codec, poison: float, place: int) -> None:
    vector = numbers(5001, seed=1)
    vector[place] = poison
    result = decoded(codec, vector)
    assert not bool(result[place].isfinite())
    assert int(result.isfinite().sum()) >= 5001 - BLOCK, "it must not spread over other blocks"


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-40, 3e38])
def test_zeros_and_the_ends_of_the_range_stay_finite(codec: Codec, value: float) -> None:
    vector = torch.full((300,), value)
    result = decoded(codec, vector)
    assert bool(result.isfinite().all())
    assert float((result - vector).abs().max()) <= max(1e-38, value * (1 + 1e-6))


@pytest.mark.parametrize(
    ("codec", "most"), [(Bf16(), 0.5), (Int8(), 0.255), (Int4(), 0.13), (TopK(0.01), 0.0151)], ids=str
)
def test_bytes_are_the_promised_part_of_float32(codec: Codec, most: float) -> None:
    assert len(codec.encode(torch.ones(10**5))) <= most * 4 * 10**5


# As a field.


@pytest.mark.parametrize("text", ["float32", "bf16", "int8", "int4", "topk(0.01)", "topk(1)"])
def test_a_codec_is_a_text_and_the_text_is_the_codec(text: str) -> None:
    assert write_codec(read_codec(text)) == text
    coupling = LocalSgd(codec=text)
    assert coupling.model_dump()["codec"] == text
    assert LocalSgd(**coupling.model_dump()) == coupling
    assert (coupling.codec is None) == (text == "float32")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int16", "Must be one of float32, bf16, int8, int4, topk(0.01). Did you mean 'int8'?"),
        ("topk(0)", "fraction in (0, 1]"),
        ("topk(2)", "fraction in (0, 1]"),
        ("topk(nan)", "fraction in (0, 1]"),
        ("topk(x)", "fraction in (0, 1]"),
        ("topk", "Must be one of"),
    ],
)
def test_another_text_is_refused_with_what_is_possible(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LocalSgd(codec=text)
    assert "codec=" in str(caught.value)
    assert words in str(caught.value)
