"""What becomes of the states that control asks for: built and offered, refused, tried again, or moved to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from models.errors import ModelRefused, RepositoryUnavailable
from schemas.control import Running, State
from streams import changeover
from streams.building import Built, Wanted
from streams.changeover import Changeover
from streams.errors import Unanswered


@dataclass(frozen=True)
class Plan:
    revision: int
    paused: bool = False


def state(revision: int, paused: bool = False, content: str = "{}") -> State:
    return State("d", revision, content, "{}", (), paused=paused)


def wanted(state: State) -> Any:
    """What is asked of a builder; a plain value stands in for a declaration."""
    return SimpleNamespace(revision=state.revision, paused=state.paused, content=state.declaration)


def built(revision: int, site: str = "here", paused: bool = False, version: str = "") -> Any:
    arms = (Running("active", "m", version or f"v{revision}", "d"),)
    return Built(wanted(state(revision, paused)), site, None, Plan(revision, paused), arms)  # type: ignore[arg-type]


class Builder:
    """Builds states by their revision: what `outcomes` holds is returned or raised, one after the other."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[Any]] = {}
        self.kept: list[list[int]] = []
        self.asked: list[int] = []
        self.busy = threading.Event()  # while it is clear a build does not return
        self.busy.set()

    def build(self, wanted: Any) -> Any:
        self.asked.append(wanted.revision)
        assert self.busy.wait(10)
        waiting = self.outcomes.get(wanted.revision, [built(wanted.revision, paused=wanted.paused)])
        outcome = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def keep(self, *states: Any) -> None:
        self.kept.append([each.wanted.revision for each in states])


class Worker:
    """Takes an offer at once, unless it is `busy` with a batch."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.offers, self.busy = plan, list[Plan](), False

    def offer(self, plan: Plan) -> None:
        self.offers.append(plan)
        if not self.busy:
            self.plan = plan

    @property
    def revisions(self) -> list[int]:
        return [plan.revision for plan in self.offers]


class Reports:
    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def tell(self, **facts: Any) -> None:
        self.told |= facts


class Scene:
    def __init__(self) -> None:
        running = built(1)
        self.builder, self.worker, self.reports, self.moves = Builder(), Worker(running.plan), Reports(), list[Any]()
        self.changeover = Changeover(
            self.builder,  # type: ignore[arg-type]
            running,
            self.worker,  # type: ignore[arg-type]
            self.reports,  # type: ignore[arg-type]
            lambda state, worker: self.moves.append((state.wanted.revision, worker)),
        )
        self.changeover.start()

    def want(self, revision: int, paused: bool = False, content: str = "{}") -> None:
        self.changeover.want(state(revision, paused, content))

    def wait(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline, (self.worker.offers, self.reports.told)
            time.sleep(0.002)

    def settle(self) -> None:
        """Block until all that was wanted is done."""
        self.wait(lambda: self.changeover._wanted is None)
        self.changeover.close()
        assert not self.changeover.is_alive()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(Wanted, "of_state", wanted)
    monkeypatch.setattr(changeover, "RETRY_SECONDS", (0.01,))
    made = Scene()
    yield made
    made.changeover.close()


def test_a_state_that_can_run_is_offered_and_told(scene: Scene) -> None:
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("revision") == 2)
    assert scene.worker.revisions == [2]
    assert scene.reports.told["arms"][0].version == "v2"
    assert (scene.reports.told["wanted"], scene.reports.told["state"]) == (2, "running")


def test_a_state_that_cannot_run_is_refused_and_what_runs_goes_on(scene: Scene) -> None:
    scene.builder.outcomes[2] = [ModelRefused("it does not load")]
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("refused") == 2)
    assert scene.worker.offers == []
    assert scene.reports.told["detail"] == "it does not load"
    scene.want(3)
    scene.wait(lambda: scene.worker.revisions == [3])
    scene.wait(lambda: scene.reports.told["refused"] is None)
    assert scene.reports.told["detail"] == ""


def test_what_was_loaded_of_a_state_that_is_refused_is_let_go(scene: Scene) -> None:
    scene.builder.outcomes[2] = [ModelRefused("its second model does not load")]
    scene.want(2)
    scene.wait(lambda: scene.builder.kept == [[1]])


@pytest.mark.parametrize(
    "trouble",
    [
        RepositoryUnavailable("away"),
        Unanswered("away"),
        OSError("away"),
        KafkaException(KafkaError(KafkaError._TIMED_OUT)),
    ],
)
def test_what_is_away_is_asked_again(scene: Scene, trouble: Exception) -> None:
    scene.builder.outcomes[2] = [trouble, trouble, built(2)]
    scene.want(2)
    scene.wait(lambda: scene.worker.revisions == [2])
    assert scene.builder.asked == [2, 2, 2]
    assert scene.reports.told["refused"] is None


def test_a_newer_state_goes_before_one_that_cannot_be_built_now(scene: Scene) -> None:
    scene.builder.outcomes[2] = [RepositoryUnavailable("away")]
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("detail") == "away")
    scene.want(3)
    scene.wait(lambda: scene.worker.revisions == [3])
    scene.settle()
    assert scene.worker.revisions == [3]


def test_a_state_that_came_while_another_could_not_be_built_does_not_wait(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A way back is in the cache: nothing of it hangs on a repository that is away."""
    monkeypatch.setattr(changeover, "RETRY_SECONDS", (3600.0,))
    scene.builder.outcomes[2] = [RepositoryUnavailable("away")]
    scene.builder.busy.clear()
    scene.want(2)
    scene.wait(lambda: scene.builder.asked == [2])
    scene.want(3)
    scene.builder.busy.set()
    scene.wait(lambda: scene.worker.revisions == [3])


def test_a_state_that_is_refused_after_it_was_tried_again_is_refused_once(scene: Scene) -> None:
    scene.builder.outcomes[2] = [RepositoryUnavailable("away"), ModelRefused("it does not load")]
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("refused") == 2)
    scene.settle()
    assert scene.builder.asked == [2, 2]


def test_whatever_a_state_is_the_worker_goes_on_and_says_so(scene: Scene) -> None:
    scene.builder.outcomes[2] = [ValueError("out of the blue")]
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("refused") == 2)
    assert "a defect of Penstock" in scene.reports.told["detail"]
    assert "out of the blue" in scene.reports.told["detail"]
    scene.want(3)
    scene.wait(lambda: scene.worker.revisions == [3])


def test_models_stay_loaded_that_score_and_that_came_before(scene: Scene) -> None:
    """The way back loads nothing; and nothing is taken from under a worker that is amid a batch."""
    for revision in (2, 3):
        scene.want(revision)
        scene.wait(lambda revision=revision: scene.builder.kept[-1:] == [[revision - 1, revision]])  # type: ignore[misc]


def test_models_stay_loaded_that_a_worker_may_be_taking(scene: Scene) -> None:
    """Amid a commit it has seen one offer, and does not score by it before others have come."""
    scene.worker.busy = True
    for revision in (2, 3, 4):
        scene.want(revision)
        scene.wait(lambda revision=revision: revision in scene.worker.revisions)  # type: ignore[misc]
    scene.wait(lambda: len(scene.builder.kept) == 3)
    assert scene.builder.kept[-1] == [1, 2, 3, 4]
    scene.worker.plan = scene.worker.offers[-1]
    scene.worker.busy = False
    scene.want(5)
    scene.wait(lambda: scene.builder.kept[-1] == [4, 5])


def test_the_version_before_stays_loaded_through_states_that_have_the_same_one(scene: Scene) -> None:
    """A pause, or another limit, comes between a version that is bad and the way back."""
    scene.want(2)
    for revision in (3, 4, 5):
        scene.wait(lambda revision=revision: scene.worker.revisions[-1:] == [revision - 1])  # type: ignore[misc]
        scene.builder.outcomes[revision] = [built(revision, version="v2")]
        scene.want(revision)
    scene.wait(lambda: len(scene.builder.kept) == 4)
    assert scene.builder.kept[-1] == [1, 4, 5]  # 2 and 3 have the models of 5


def test_a_pause_holds_also_where_its_state_cannot_be_built(scene: Scene) -> None:
    """The slots go on with an old version when somebody wants them to stop: they must."""
    for revision in (2, 3, 4):
        scene.builder.outcomes[revision] = [ModelRefused("it does not load")]
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("refused") == 2)
    scene.want(3, paused=True)
    scene.wait(lambda: scene.worker.offers == [Plan(1, paused=True)])
    scene.wait(lambda: scene.reports.told["refused"] == 3)
    assert (scene.reports.told["state"], scene.reports.told["revision"]) == ("paused", 1)
    scene.want(4)
    scene.wait(lambda: scene.worker.offers == [Plan(1, paused=True), Plan(1)])
    assert scene.reports.told["state"] == "running"


def test_a_pause_does_not_wait_for_a_repository(scene: Scene) -> None:
    scene.builder.outcomes[2] = [RepositoryUnavailable("away")]
    scene.want(2, paused=True)
    scene.wait(lambda: scene.worker.offers == [Plan(1, paused=True)])
    scene.builder.outcomes[2] = [built(2, paused=True)]
    scene.wait(lambda: scene.worker.offers[1:] == [Plan(2, paused=True)])


def test_a_state_elsewhere_is_moved_to_after_it_was_built_and_nothing_is_built_after_it(scene: Scene) -> None:
    """Who obeys with the next worker builds what comes: two would take models from under each other."""
    scene.builder.outcomes[2] = [built(2, site="there")]
    scene.builder.busy.clear()
    scene.want(2)
    scene.wait(lambda: scene.builder.asked == [2])
    scene.want(3)
    scene.builder.busy.set()
    scene.wait(lambda: not scene.changeover.is_alive())
    assert scene.moves == [(2, scene.worker)]
    assert (scene.worker.offers, scene.builder.asked, scene.builder.kept) == ([], [2], [])


def test_the_state_that_runs_is_not_built_again(scene: Scene) -> None:
    scene.want(1)
    scene.settle()
    assert (scene.builder.asked, scene.reports.told["wanted"]) == ([], 1)


def test_another_state_under_the_same_number_is_followed(scene: Scene) -> None:
    """Control was begun anew: its revisions count from 1 again."""
    scene.want(1, content="another")
    scene.wait(lambda: scene.builder.asked == [1])
    scene.wait(lambda: scene.worker.revisions == [1])
