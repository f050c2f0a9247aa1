"""`penstock quarantine` on a real Kafka: put in, listed, lifted, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from penstock.cli.quarantine import command
from streams.offsets import OffsetRange
from streams.quarantine import QuarantineTopic
from tests.rig import Rig, encoder

pytestmark = pytest.mark.timeout(180)

encode = encoder()


@pytest.fixture
def stand(rig: Callable[..., Rig]) -> Rig:
    return rig()


def quarantine(stand: Rig, *arguments: str, servers: str | None = None) -> tuple[int, str]:
    """Return exit status and what was said."""
    told = [str(stand.file), *arguments, "--bootstrap-servers", servers or stand.servers]
    done = CliRunner().invoke(command, told)
    return done.exit_code, done.output


def test_ranges_are_put_in_listed_and_lifted_and_a_worker_obeys(stand: Rig) -> None:
    kept, lifted = f"{stand.events}/1@3-5", f"{stand.events}/2@7"
    assert quarantine(stand, "--list") == (0, f"nothing of penstock.{stand.name} is in quarantine\n")
    status, said = quarantine(stand, kept, lifted)
    assert (status, said) == (0, f"{kept} is in quarantine (3 offsets)\n{lifted} is in quarantine (1 offsets)\n")
    assert quarantine(stand, "--lift", lifted)[0] == 0
    status, said = quarantine(stand, "--list")
    assert (status, [line.split()[0] for line in said.splitlines()]) == (0, [kept])
    stand.produce(encode({"id": i, "a": 0.5, "b": None}) for i in range(100))
    worker = stand.worker()
    stand.wait_committed(100)
    worker.wait_for(f"in quarantine: {kept}")
    places = stand.places(97)
    assert sorted({(p, o) for p in range(4) for o in range(25)} - set(places)) == [(1, 3), (1, 4), (1, 5)]
    letters = [dict(letter.headers()) for letter in stand.read(stand.dead_letters, 3)]
    assert [letter["penstock.reason"] for letter in letters] == [b"quarantined"] * 3
    assert [letter["penstock.source.offset"] for letter in letters] == [b"3", b"4", b"5"]


def test_many_ranges_in_quarantine_do_not_reach_the_limit_on_dead_letters(rig: Callable[..., Rig]) -> None:
    stand = rig(limits={"dead_letters_per_minute": 5})
    assert quarantine(stand, f"{stand.events}/0@0-49")[0] == 0
    stand.produce((encode({"id": i, "a": 0.5, "b": None}) for i in range(60)), partition=0)
    stand.worker()
    stand.wait_committed(60)


def test_what_cannot_be_done_is_refused_with_what_to_change(stand: Rig) -> None:
    here = f"{stand.events}/0@1"
    for arguments, words in (
        ([], "give the ranges to put in quarantine"),
        (["--list", here], "--list alone"),
        (["elsewhere/0@1"], f"reads the topic {stand.events}"),
        ([f"{stand.events}/0:1"], "write TOPIC/PARTITION@FIRST-LAST"),
        ([here, "--arm", "shadow"], "declares no arm 'shadow'"),
        (["--lift", here], "is not in quarantine as such; in quarantine: none"),
    ):
        status, said = quarantine(stand, *arguments)
        assert status == 2
        assert words in " ".join(said.replace("│", " ").split()), said


def test_a_broker_that_is_away_is_said(stand: Rig) -> None:
    status, said = quarantine(stand, f"{stand.events}/0@1", servers="127.0.0.1:1")
    assert status == 2
    assert "penstock.quarantine" in said


def test_groups_do_not_see_each_others_ranges(bootstrap_servers: str, stand: Rig) -> None:
    topic = QuarantineTopic({"bootstrap.servers": bootstrap_servers})
    one, other = (OffsetRange(stand.events, 0, at, at + 1) for at in (1, 2))
    topic.add(f"{stand.name}.one", [one], 0)
    topic.add(f"{stand.name}.two", [other], 0)
    assert [each.range for each in topic.read(f"{stand.name}.one")] == [one]
    assert topic.read(f"{stand.name}.two")[0].since == "1970-01-01T00:00:00+00:00"
    topic.lift(f"{stand.name}.one", [one])
    assert topic.read(f"{stand.name}.one") == []
