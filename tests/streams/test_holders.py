"""Who would miss a version: every arm that has it, and the state that a rollback would take."""

from __future__ import annotations

from streams.holders import holders_of
from streams.rollout import World, paused, rolled_back
from tests.streams.test_rollout import ACTIVE, CANARY, SHADOW, Plane, declared


def held(world: World, version: str, model: str = "flights") -> list[str]:
    return holders_of(world, f"{model}@{version}", f"digest of {version}")


def test_arms_of_every_role_and_steps_of_the_chain_hold_their_versions() -> None:
    plane = Plane()
    plane.take(plane.apply(declared(ACTIVE, CANARY, SHADOW, fallback=["flights@production"])))
    plane.take(plane.apply(declared(ACTIVE, name="delays")))
    assert held(plane.world, "v1") == ["delays (active)", "flights (active)", "flights (fallback)"]
    assert held(plane.world, "v2") == ["flights (canary)"]
    assert held(plane.world, "o1", "other") == ["flights (shadow)"]
    assert held(plane.world, "v9") == []
    assert holders_of(plane.world, "flights@v1", "another digest") == []


def test_a_version_that_a_rollback_would_take_is_held() -> None:
    plane = Plane()
    plane.take(plane.apply(declared()))
    plane.take(plane.apply(declared(), flights_production="v8"))
    plane.take(plane.apply(declared(), flights_production="v9"))
    plane.take(paused(plane.world, "flights"))
    assert held(plane.world, "v9") == ["flights (active)"]
    assert held(plane.world, "v8") == ["flights (active of the state before)"]
    assert held(plane.world, "v1") == []  # nothing goes back so far by itself
    plane.take(rolled_back(plane.world, "flights", 1))
    assert held(plane.world, "v9") == ["flights (active of the state before)"]
    assert held(plane.world, "v8") == []
