"""Shared work and bounded memory."""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import given

from s2l3a_xr._cache import SharedCache


def test_many_readers_share_one_making():
    made = []

    async def make():
        made.append(True)
        await asyncio.sleep(0.01)
        return "value"

    async def main():
        cache = SharedCache(10)
        first = await asyncio.gather(*(cache.get("key", make) for _ in range(20)))
        return [*first, await cache.get("key", make)]

    assert asyncio.run(main()) == ["value"] * 21
    assert len(made) == 1


def test_a_failure_is_not_kept_and_who_waited_tries_itself():
    calls = []

    async def make():
        calls.append(True)
        await asyncio.sleep(0.01)
        if len(calls) == 1:
            raise OSError("once")
        return "value"

    async def main():
        cache = SharedCache(10)
        return await asyncio.gather(
            *(cache.get("key", make) for _ in range(3)), return_exceptions=True
        )

    first, *others = asyncio.run(main())
    assert isinstance(first, OSError)
    assert others == ["value", "value"]
    assert len(calls) == 2


def test_a_cancelled_maker_leaves_the_work_to_the_next():
    async def main():
        cache = SharedCache(10)
        never = asyncio.create_task(cache.get("key", lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        waiter = asyncio.create_task(cache.get("key", lambda: asyncio.sleep(0, "value")))
        await asyncio.sleep(0)
        never.cancel()
        return await asyncio.wait_for(waiter, 5)

    assert asyncio.run(main()) == "value"


def test_a_cancelled_waiter_does_not_disturb_the_maker():
    async def main():
        cache = SharedCache(10)
        maker = asyncio.create_task(cache.get("key", lambda: asyncio.sleep(0.02, "value")))
        await asyncio.sleep(0)
        waiter = asyncio.create_task(cache.get("key", lambda: asyncio.sleep(0, "other")))
        await asyncio.sleep(0)
        waiter.cancel()
        return await maker

    assert asyncio.run(main()) == "value"


def test_claims_are_kept_or_given_back():
    async def main():
        cache = SharedCache(10)
        assert cache.claim("key")
        assert not cache.claim("key")
        cache.release("key")
        assert await cache.wait("key") is None
        assert cache.claim("key")
        cache.fill("key", "value")
        cache.release("key")  # has no effect on a promise that was kept
        assert await cache.wait("key") == "value"
        cache.forget("key")
        cache.forget("key")
        assert await cache.wait("key") is None

    asyncio.run(main())


def test_the_least_recently_used_goes_first():
    async def main():
        cache = SharedCache(2)
        for key in "ab":
            cache.claim(key)
            cache.fill(key, key)
        await cache.wait("a")
        cache.claim("c")
        cache.fill("c", "c")
        return [await cache.wait(key) for key in "abc"]

    assert asyncio.run(main()) == ["a", None, "c"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=60))
def test_weight_stays_within_the_limit(asked):
    async def main():
        cache = SharedCache(50, len)
        for key, size in asked:
            value = await cache.get(key, lambda size=size: asyncio.sleep(0, bytes(size)))
            assert isinstance(value, bytes)
            held = [future.result() for future in cache._entries.values()]
            assert cache._weight == sum(map(len, held)) <= 50

    asyncio.run(main())


@pytest.mark.parametrize("size", [51, 500])
def test_a_value_heavier_than_the_limit_is_handed_out_all_the_same(size):
    async def main():
        cache = SharedCache(50, len)
        first = await cache.get("key", lambda: asyncio.sleep(0, bytes(size)))
        second = await cache.get("next", lambda: asyncio.sleep(0, b"x"))
        return first, second, cache._weight

    assert asyncio.run(main()) == (bytes(size), b"x", 1)
