import threading
import time

import pytest

from s4aug_train.ahead import ahead


def test_items_and_errors_come_in_their_place():
    def three():
        yield from (0, None, 2)
        raise ValueError("the end")

    items = ahead(three())
    assert [next(items) for _ in range(3)] == [0, None, 2]
    with pytest.raises(ValueError, match="the end"):
        next(items)


def test_the_next_item_is_made_while_one_is_used():
    made = threading.Event()

    def two():
        yield 0
        made.set()
        yield 1

    for item in ahead(two()):
        if item == 0:
            assert made.wait(10)


def test_one_item_is_made_at_a_time_and_no_more_than_one_ahead():
    made = []

    def many():
        for i in range(10):
            made.append(i)
            yield i

    for item in ahead(many()):
        time.sleep(0.01)
        assert len(made) <= item + 2
