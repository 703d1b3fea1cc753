"""Data order: whole passes without replacement, fixed by (seed, replica, pass), under each data policy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.replica.batches import Batches, DataPolicy

SIZES = [(1, 1), (10, 10), (11, 10), (33, 32), (96, 32), (97, 32), (1437, 32), (50_001, 128)]


def seen(batches: Batches, number: int = 0) -> list[int]:
    return torch.cat(batches.of_pass(number)).tolist()


def parts(policy: DataPolicy, *, samples: int = 60, replicas: int = 3, fraction: float = 0.5) -> list[set[int]]:
    return [
        set(
            Batches(
                samples=samples, batch_size=8, replica=a, replicas=replicas, policy=policy, fraction=fraction
            ).part().tolist()
        )
        for a in range(replicas)
    ]  # fmt: skip


@pytest.mark.parametrize(("samples", "batch_size"), SIZES)
def test_a_pass_holds_every_sample_once(samples: int, batch_size: int) -> None:
    batches = Batches(samples=samples, batch_size=batch_size, seed=3)
    for number in range(3):
        assert sorted(seen(batches, number)) == list(range(samples))


@pytest.mark.parametrize(("samples", "batch_size"), SIZES)
def test_batches_are_nearly_equal_and_at_most_batch_size(samples: int, batch_size: int) -> None:
    batches = Batches(samples=samples, batch_size=batch_size)
    sizes = [len(batch) for batch in batches.of_pass(0)]
    assert len(sizes) == batches.steps_per_pass == -(-samples // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("samples", range(33, 400, 32))
def test_one_sample_too_many_makes_no_batch_of_one_which_batchnorm_could_not_take(samples: int) -> None:
    assert min(len(batch) for batch in Batches(samples=samples, batch_size=32).of_pass(0)) > 1


def test_each_pass_has_its_own_order() -> None:
    batches = Batches(samples=100, batch_size=10)
    orders = {tuple(seen(batches, number)) for number in range(5)}
    assert len(orders) == 5
    assert tuple(range(100)) not in orders


@pytest.mark.parametrize("policy", ["all", "shards", "overlap"])
def test_replicas_see_different_orders(policy: DataPolicy) -> None:
    orders = {tuple(seen(Batches(samples=60, batch_size=8, replica=a, replicas=3, policy=policy))) for a in range(3)}
    assert len(orders) == 3


def test_the_order_depends_on_seed_replica_and_pass_and_on_nothing_else() -> None:
    def order(seed: int = 1, replica: int = 1, number: int = 2, batch_size: int = 8, replicas: int = 3) -> list[int]:
        batches = Batches(samples=60, batch_size=batch_size, replica=replica, replicas=replicas, seed=seed)
        for earlier in range(number):
            batches.of_pass(earlier)
        return seen(batches, number)

    torch.manual_seed(1)
    reference = order()
    before = torch.get_rng_state()
    assert order(batch_size=5, replicas=7) == reference
    assert torch.equal(torch.get_rng_state(), before), "the user's own random numbers are left alone"
    fresh = Batches(samples=60, batch_size=8, replica=1, replicas=3, seed=1)
    assert seen(fresh, 2) == reference, "no pass needs the passes before it"
    others = [order(seed=2), order(replica=0), order(number=3)]
    assert all(other != reference for other in others)


def test_all_gives_every_replica_all_data() -> None:
    assert parts("all") == [set(range(60))] * 3


@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
def test_shards_are_disjoint_and_equally_large(replicas: int) -> None:
    shards = parts("shards", replicas=replicas)
    assert [len(shard) for shard in shards] == [60 // replicas] * replicas
    assert len(set.union(*shards)) == replicas * (60 // replicas)


def test_shards_are_a_random_choice_not_a_stretch_of_the_files() -> None:
    shard = sorted(parts("shards")[0])
    assert shard != list(range(20))
    assert shard != list(range(0, 60, 3))


@pytest.mark.parametrize("fraction", [0.5, 0.4, 1.0])
def test_overlapping_parts_have_their_fraction_share_samples_with_neighbours_and_cover_the_data(
    fraction: float,
) -> None:
    overlapping = parts("overlap", fraction=fraction)
    size = round(60 * fraction)
    assert [len(part) for part in overlapping] == [size] * 3
    assert [len(overlapping[a] & overlapping[(a + 1) % 3]) for a in range(3)] == [size - 20 if size < 60 else 60] * 3
    assert set.union(*overlapping) == set(range(60))


@pytest.mark.parametrize(("fraction", "size"), [(0.29, 29), (0.57, 57), (0.574, 57)])
def test_a_fraction_is_rounded_to_the_nearest_count(fraction: float, size: int) -> None:
    # 100 * 0.29 is 28.999999999999996 in floating point.
    assert Batches(samples=100, batch_size=8, policy="overlap", fraction=fraction).part_size == size


def test_parts_stay_the_same_in_every_pass_and_change_with_the_seed() -> None:
    def part(seed: int, number: int) -> set[int]:
        return set(seen(Batches(samples=60, batch_size=8, replicas=3, policy="shards", seed=seed), number))

    assert part(0, 0) == part(0, 5)
    assert part(0, 0) != part(1, 0)


@pytest.mark.parametrize(("policy", "fraction"), [("shards", 1.0), ("overlap", 0.1)])
def test_too_few_samples_for_a_part_are_refused(policy: DataPolicy, fraction: float) -> None:
    with pytest.raises(ConfigError, match=rf"data='{policy}': 2 samples leave none for each of 3 replicas"):
        Batches(samples=2, batch_size=1, replicas=3, policy=policy, fraction=fraction)


def test_batches_index_as_int64() -> None:
    first: Tensor = Batches(samples=5, batch_size=2).of_pass(0)[0]
    assert first.dtype == torch.int64
