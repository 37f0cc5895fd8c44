import pytest

from densenet_cli.data.epoch_order import EpochOrder, EvaluationOrder, mixed
from densenet_cli.options import OptionError, UserError


def epoch(order, number):
    order.set_epoch(number)
    return lists(order)


def lists(order):
    return [batch.tolist() for batch in order]


def flat(batches):
    return [ticket for batch in batches for ticket in batch]


def test_an_epoch_has_every_image_once_in_batches_with_a_smaller_last_one():
    batches = epoch(EpochOrder(50, 12, seed=0), 3)
    assert [len(batch) for batch in batches] == [12, 12, 12, 12, 2]
    assert sorted(index for index, _ in flat(batches)) == list(range(50))
    assert len({draw for _, draw in flat(batches)}) == 50
    assert all(0 <= draw < 2**63 for _, draw in flat(batches))


def test_order_and_draws_depend_only_on_seed_and_epoch():
    order = EpochOrder(50, 12, seed=7)
    first = epoch(order, 2)
    epoch(order, 5)
    assert epoch(order, 2) == first == epoch(EpochOrder(50, 12, seed=7), 2)


@pytest.mark.parametrize("other", [(0, 1), (1, 0), (1, 1), (2, 0)])
def test_other_epochs_and_seeds_have_other_orders_and_draws(other):
    def columns(seed, number):
        return zip(*flat(epoch(EpochOrder(50, 50, seed), number)), strict=True)

    (order, draws), (other_order, other_draws) = columns(0, 0), columns(*other)
    assert order != other_order
    assert not set(draws) & set(other_draws)


def test_neighbouring_seeds_and_epochs_never_share_an_order():
    low = {mixed(seed, number) % 2**32 for seed in range(30) for number in range(300)}
    assert len(low) >= 9000 - 3  # 9,000 of 2**32 numbers: 0.01 pairs expected


def test_the_order_of_a_seed_is_the_same_in_every_version():
    # printf "0 0" | sha256sum: the first eight bytes, lowest first
    assert mixed(0, 0) == 0xFBF5BC87F9053393
    assert mixed(1, 299) == 0xFAA907A63BA74EA8


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_together_see_the_batches_of_one_process(ranks):
    whole = epoch(EpochOrder(50, 12, seed=1), 4)
    parts = [epoch(EpochOrder(50, 12, 1, rank, ranks), 4) for rank in range(ranks)]
    for number, batch in enumerate(whole[:4]):
        for rank, part in enumerate(parts):
            assert part[number] == batch[rank::ranks]


@pytest.mark.parametrize(("ranks", "last"), [(1, 2), (2, 1), (3, 0), (4, 0)])
def test_the_last_batch_is_cut_to_a_multiple_of_the_ranks(ranks, last):
    for rank in range(ranks):
        order = EpochOrder(50, 12, 0, rank, ranks)
        sizes = [len(batch) for batch in order]
        assert sizes == [12 // ranks] * 4 + [last] * (last > 0)
        assert len(order) == len(sizes)


def test_a_resumed_epoch_starts_at_its_batch_and_later_ones_at_the_first():
    order = EpochOrder(50, 12, seed=1)
    whole = {number: epoch(order, number) for number in (0, 2, 3)}
    order.start_at(2, 3)
    assert len(order) == 5
    assert lists(order) == whole[2][3:]  # before Lightning has called set_epoch
    assert epoch(order, 2) == whole[2][3:]
    assert epoch(order, 3) == whole[3]
    assert epoch(order, 0) == whole[0]
    order.start_at(2, 5)
    assert lists(order) == []


def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can():
    with pytest.raises(OptionError, match=r"batch_size=64: must be a multiple of 3.*batch_size=66"):
        EpochOrder(100, 64, 0, rank=0, world_size=3)
    with pytest.raises(OptionError, match="batch_size=64"):
        EvaluationOrder(100, 64, rank=0, world_size=3)
    with pytest.raises(UserError, match="1 images cannot be shared by 2 devices"):
        EpochOrder(1, 64, 0, rank=0, world_size=2)


@pytest.mark.parametrize("images", [4, 23, 24, 25, 26, 48, 51])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_evaluation_sees_every_image_once_in_equally_many_batches(images, ranks):
    orders = [EvaluationOrder(images, 12, rank, ranks) for rank in range(ranks)]
    parts = [lists(order) for order in orders]
    assert {len(part) for part in parts} == {len(orders[0])}  # else ranks wait for each other
    seen = [[index for index, _ in flat(part)] for part in parts]
    assert seen == [list(range(images))[r::ranks] for r in range(ranks)]
    sizes = [len(batch) for part in parts for batch in part]
    assert min(sizes) >= 1
    assert max(sizes) <= 12 // ranks + 1


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_without_its_incomplete_last_batch_an_epoch_is_the_same(ranks):
    whole, dropped = (
        EpochOrder(50, 12, 1, ranks - 1, ranks, drop_last=is_so) for is_so in (False, True)
    )
    assert epoch(dropped, 4) == epoch(whole, 4)[:4]
    assert (len(dropped), dropped.images, dropped.last) == (4, 48, 12 // ranks)
    dropped.start_at(4, 3)
    assert lists(dropped) == epoch(whole, 4)[3:4]
    left_out = [
        set(range(50)) - {image for image, _ in flat(epoch(EpochOrder(50, 12, 1, drop_last=True), n))}
        for n in (0, 1)
    ]
    assert [len(some) for some in left_out] == [2, 2]
    assert left_out[0] != left_out[1]


def test_no_image_is_left_out_where_all_batches_are_whole():
    assert epoch(EpochOrder(48, 12, 1, drop_last=True), 0) == epoch(EpochOrder(48, 12, 1), 0)


def test_fewer_images_than_a_batch_leave_none():
    with pytest.raises(
        OptionError, match=r"drop_last=true: leaves no batch of 12 images.*drop_last=false"
    ):
        EpochOrder(11, 12, 0, drop_last=True)
