"""Desired state and its history as a user types them, on a real Kafka."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from penstock.cli import main
from schemas.chain import head_of
from schemas.control import NO_HEAD, Entry, Status
from streams import control, statuses
from streams.rollout import paused
from tests.integration.desk import Desk
from tests.integration.planes import Plane
from tests.schemas.test_chain import chain, resealed

pytestmark = pytest.mark.timeout(180)
CANARY = {"role": "canary", "model": "sum@candidate", "percent": 5}


def test_a_model_goes_live_is_rolled_back_and_all_of_it_is_told(desk: Desk) -> None:
    output = desk.apply("--why", "the first one")
    assert f"{desk.name}: revision 1 (entry 1 of the audit)" in output
    assert re.search(rf"\+ arms.active.version +{desk.first}\n", output)
    assert "nothing was changed" in desk.apply()

    output = desk.said("model", "tag", "sum", desk.second, "production", "--why", "better in winter", "--by", "Grace")
    assert f"sum@production is now {desk.second}" in output
    assert f"{desk.name}: revision 2 (entry 3 of the audit)" in output
    assert re.search(rf"~ arms.active.version +{desk.first} -> {desk.second}\n", output)
    assert "nothing was changed" in desk.apply()

    assert re.search(rf"~ arms.active.version +{desk.second} -> {desk.first}\n", desk.said("rollback", desk.name))
    assert "~ paused  false -> true" in desk.said("pause", desk.name, "--why", "a storm")
    assert "is paused already; nothing was changed" in desk.said("pause", desk.name)
    assert "~ paused  true -> false" in desk.said("resume", desk.name)
    assert f"noted about sum@{desk.second} (entry 7 of the audit)" in desk.said(
        "model", "note", "sum@candidate", "trained on a bad day"
    )

    head, *rows = desk.said("history").splitlines()
    assert head.split() == ["ENTRY", "WHEN", "WHO", "ACTION", "SUBJECT", "REVISION", "CHANGE", "WHY"]
    told = [re.split(r"  +", row)[2:] for row in rows]
    old, new = desk.first[:8], desk.second[:8]
    assert told == [
        ["ada", "apply", desk.name, "1", f"active none -> {old}", "the first one"],
        ["Grace", "tag", "model sum", f"production {old} -> {new}", "better in winter"],
        ["Grace", "tag", desk.name, "2", f"active {old} -> {new}", "better in winter"],
        ["ada", "rollback", desk.name, "3", f"active {new} -> {old}", "back to revision 1"],
        ["ada", "pause", desk.name, "4", "paused", "a storm"],
        ["ada", "resume", desk.name, "5", "goes on"],
        ["ada", "note", "model sum", f"{new}: trained on a bad day"],
    ]
    assert len(desk.said("history", "sum").splitlines()) == 3
    assert desk.said("history", "--since", "2999-01-01") == "no change is known since 2999-01-01\n"
    entries = [json.loads(line) for line in desk.said("history", desk.name, "--json", "--since", "1h").splitlines()]
    assert [entry["sequence"] for entry in entries] == [1, 3, 4, 5, 6]
    assert entries[1]["before"]["arms"][0]["version"] == desk.first
    assert entries[1]["after"]["arms"][0]["version"] == desk.second

    output = desk.said("audit", "verify")
    assert "the audit is whole: 7 entries, and 1 deployment as it tells" in output
    (last,) = re.findall(r"its last entry is (7:[0-9a-f]{64})\n", output)
    desk.said("resume", desk.name)
    assert desk.said("audit", "verify", "--contains", last) == output
    report = json.loads(desk.said("audit", "verify", "--json"))
    assert (report["whole"], report["entries"], report["findings"]) == (True, 7, [])

    page = desk.said("audit", "show", "3")
    for line in (
        r"who +Grace on .+",
        rf"action +tag deployment {desk.name}",
        r"revision +1 -> 2",
        r"hash +[0-9a-f]{64}",
    ):
        assert re.search(f"(?m)^{line}$", page)
    assert f"{desk.first} -> {desk.second}" in page
    assert json.loads(desk.said("audit", "show", "3", "--json"))["sequence"] == 3
    assert "the audit has no entry 8" in desk.refused("audit", "show", "8")


# apply


def test_a_dry_run_shows_what_would_change_and_makes_nothing(desk: Desk) -> None:
    output = desk.apply("--dry-run")
    assert "revision 1 would be (a dry run: nothing was changed)" in output
    assert "+ input.topic" in output
    assert desk.plane.read().entries == []
    desk.apply()
    assert "is already as" in desk.apply("--dry-run")
    desk.declare(latency_ms=20)
    assert "+ latency_ms  20" in desk.apply("--dry-run")
    assert desk.revision() == 1


def test_an_expected_revision_is_checked(desk: Desk) -> None:
    desk.apply("--expect-revision", "0")
    desk.declare(latency_ms=20)
    assert "revision 4 was expected, but it is at revision 1" in desk.refused(
        "apply", str(desk.rig.file), "--expect-revision", "4"
    )
    desk.apply("--expect-revision", "1")
    assert desk.revision() == 2


def test_what_cannot_run_is_refused_with_every_problem_and_nothing_is_written(desk: Desk) -> None:
    shadow = {"role": "shadow", "model": "sum@nobody", "topic": "s"}
    desk.declare(arms=[*desk.rig.declared["arms"], shadow], monitor={})
    output = desk.refused("apply", str(desk.rig.file))
    assert "arm shadow (sum@nobody): model sum has no version or tag 'nobody'" in output
    assert "has no reference profile to compare with" in output
    assert desk.plane.read().entries == []


def test_a_repository_that_is_away_is_said_before_anything_is_written(desk: Desk) -> None:
    shutil.rmtree(desk.rig.folder / "models")
    assert "there is no repository at" in desk.refused("apply", str(desk.rig.file))
    assert desk.plane.read().entries == []


@pytest.mark.parametrize("follows", [False, True])
def test_a_tag_that_moves_while_a_file_is_applied_is_followed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, follows: bool
) -> None:
    """Whoever moves it is through before the deployment is there, or before the file puts it back."""
    from penstock.cli import control as commands

    if follows:
        desk.apply()
        desk.declare(latency_ms=20)
    write, moved = commands.write, []

    def write_late(*given: Any, **more: Any) -> Any:
        if not moved:
            moved.append(True)
            desk.said("model", "tag", "sum@candidate", "production")
        return write(*given, **more)

    monkeypatch.setattr(commands, "write", write_late)
    output = desk.apply()
    assert desk.arms() == {"active": desk.second}
    assert f"{desk.first} -> {desk.second}" in output
    assert desk.plane.findings() == []


def test_what_others_changed_after_an_apply_stays_though_a_tag_moved(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.cli import control as commands

    desk.apply()
    desk.declare(latency_ms=20)
    write, turns = commands.write, []

    def write_amid_others(*given: Any, **more: Any) -> Any:
        turns.append(True)
        if len(turns) == 1:
            desk.repository.tag("sum", desk.second, "production")
        if len(turns) == 2:
            desk.plane.change(lambda world: paused(world, desk.name))
        return write(*given, **more)

    monkeypatch.setattr(commands, "write", write_amid_others)
    desk.apply()
    assert len(turns) == 2
    assert (desk.arms(), desk.revision()) == ({"active": desk.first}, 3)


# tags


def test_a_version_that_does_not_fit_a_follower_moves_no_tag(desk: Desk) -> None:
    desk.apply()
    bad = desk.add([], features=("a", "z"))
    output = desk.refused("model", "tag", f"sum@{bad}", "production")
    assert f"{desk.name} could not run then: arm active (sum@production): feature 'z'" in output
    assert desk.repository.resolve("sum@production").manifest.version == desk.first
    assert len(desk.plane.read().entries) == 1
    desk.said("model", "tag", f"sum@{bad}", "production", "--repository-only")
    assert desk.arms() == {"active": desk.first}


def test_a_tag_that_is_taken_off_falls_back_and_so_do_its_followers(desk: Desk) -> None:
    desk.apply()
    desk.said("model", "tag", "sum@candidate", "production")
    output = desk.said("model", "tag", "sum@candidate", "production", "--remove")
    assert f"{desk.second} -> {desk.first}" in output
    assert desk.arms() == {"active": desk.first}
    output = desk.said("model", "tag", f"sum@{desk.first}", "production", "--remove")
    assert "no version has the tag any more" in output
    assert desk.arms() == {"active": desk.first}
    assert desk.plane.findings() == []


def test_a_tag_stays_where_it_is_while_no_broker_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REACH_SECONDS", 0.5)
    output = desk.refused("model", "tag", "sum@candidate", "production", "--bootstrap-servers", "127.0.0.1:1")
    assert "no Kafka broker answers at 127.0.0.1:1" in output
    assert desk.repository.resolve("sum@production").manifest.version == desk.first
    assert "no Kafka broker answers" in desk.refused("pause", desk.name, "--bootstrap-servers", "127.0.0.1:1")


def test_deployments_are_told_to_be_behind_when_control_fails_after_the_repository(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.cli import control as commands
    from streams.errors import ControlUnavailable

    desk.apply()

    def fail(*_: Any, **__: Any) -> None:
        raise ControlUnavailable("made up")

    with monkeypatch.context() as broken:
        broken.setattr(commands, "write", fail)
        output = desk.denied("model", "tag", "sum@candidate", "production")
    assert "The repository was changed, deployments that follow sum@production were not: repeat the command" in output
    assert desk.arms() == {"active": desk.first}
    assert f"{desk.first} -> {desk.second}" in desk.said("model", "tag", "sum@candidate", "production")
    assert desk.arms() == {"active": desk.second}
    assert json.loads(desk.plane.read().entries[1].before or "")["version"] is None


# versions that come and go


# promote and roll back


def test_a_canary_is_promoted_and_pinned(desk: Desk) -> None:
    desk.declare(arms=[*desk.rig.declared["arms"], CANARY])
    desk.apply()
    output = desk.said("promote", desk.name, "--why", "it held for a week")
    assert re.search(rf"~ arms.active.ref +sum@production -> sum@{desk.second}\n", output)
    assert re.search(r"- arms.canary.ref +sum@candidate\n", output)
    assert desk.arms() == {"active": desk.second}
    assert "has no arm 'canary' that could be promoted; it has none beside" in desk.refused("promote", desk.name)
    desk.said("rollback", desk.name, "--to", "1")
    assert desk.arms() == {"active": desk.first, "canary": desk.second}


def test_a_version_that_was_removed_does_not_come_back(desk: Desk) -> None:
    desk.apply()
    desk.said("model", "tag", "sum@candidate", "production")
    desk.repository.remove("sum", desk.first)
    output = desk.refused("rollback", desk.name)
    assert f"the arm active would have no model: model sum has no version or tag '{desk.first}'" in output
    assert desk.arms() == {"active": desk.second}


def test_a_repository_that_is_away_stops_no_rollback_and_is_said(desk: Desk) -> None:
    desk.apply()
    desk.said("model", "tag", "sum@candidate", "production")
    shutil.rmtree(desk.rig.folder / "models")
    output = desk.said("rollback", desk.name)
    assert f"it was not checked that the models of {desk.name} are there and fit: there is no repository" in output
    assert desk.arms() == {"active": desk.first}


def test_an_apply_of_what_is_paused_says_that_it_stays_so(desk: Desk) -> None:
    desk.apply()
    desk.said("pause", desk.name)
    desk.declare(latency_ms=20)
    assert f"{desk.name} stays paused: `penstock resume {desk.name}` lets it go on" in desk.apply()


def test_a_deployment_is_removed_and_comes_back_with_the_next_revision(desk: Desk) -> None:
    desk.apply()
    declined = CliRunner().invoke(main, ["remove", desk.name], input="n\n")
    assert (declined.exit_code, f"remove {desk.name} at revision 1?" in declined.output) == (1, True)
    output = desk.said("remove", desk.name, "--yes", "--why", "the airport closed")
    assert output == f"{desk.name} is removed (entry 2 of the audit)\n"
    assert desk.plane.read().states == {}
    assert "nothing is under control yet" in desk.said("status")
    assert f"control has no deployment {desk.name} (it has none)" in desk.refused("status", desk.name)
    assert f"no deployment '{desk.name}' was applied" in desk.refused("remove", desk.name, "--yes")
    row = desk.said("history", desk.name).splitlines()[-1]
    assert row.endswith(f"removed; active {desk.first[:8]} -> none  the airport closed")
    assert "revision   1 -> none" in desk.said("audit", "show", "2")
    assert "the audit is whole: 2 entries, and 0 deployments as it tells" in desk.said("audit", "verify")

    desk.said("model", "tag", "sum@candidate", "production")
    assert f"{desk.name}: revision 2 would be" in desk.apply("--dry-run")
    assert f"{desk.name}: revision 2 (entry 4 of the audit)" in desk.apply("--expect-revision", "0")
    assert desk.arms() == {"active": desk.second}
    assert desk.plane.findings() == []


def test_a_removal_that_many_entries_followed_still_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The removal is not among the entries that a writer looks at."""
    desk.apply()
    desk.said("remove", desk.name, "--yes")
    monkeypatch.setattr(control, "LAST_ENTRIES", 2)
    for number in range(8):
        desk.plane.note(f"note {number}")
    desk.apply()
    assert desk.revision() == 2
    assert desk.plane.findings() == []


@pytest.mark.parametrize("words", [["promote"], ["rollback"], ["pause"], ["resume"], ["remove"]])
def test_a_deployment_that_nobody_applied_is_named(desk: Desk, words: list[str]) -> None:
    assert "no deployment 'flihgts' was applied; there is none yet" in desk.refused(*words, "flihgts")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["history", "--since", "soon"], "'soon' is no time: write 2026-05-01T12:00:00Z"),
        (["audit", "verify", "--contains", "12"], "'12' is no entry: write its number and its hash"),
    ],
)
def test_what_is_not_understood_says_what_to_write(desk: Desk, words: list[str], complaint: str) -> None:
    result = desk.type(*words)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.replace("│", " ").split())


# audit verify


def test_there_may_be_no_audit_yet(desk: Desk) -> None:
    assert desk.said("audit", "verify") == "there is no audit yet: `penstock apply` begins one\n"
    assert desk.said("history") == "no change is known\n"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: [c[0], replace(c[1], who="Eve"), *c[2:]], "! entry 2 was edited"),
        (lambda c: [c[0], resealed(c[1], who="Eve"), *c[2:]], "! entry 3 does not follow entry 2"),
        (lambda c: c[1:], "! entry 1 is missing: the beginning was cut off"),
        (lambda c: [c[0], *c[2:]], "! entry 2 is missing from the middle"),
        (lambda c: c[:-1], "! entry 4 is missing: the end was cut off"),
        (lambda c: [*c[:3], resealed(c[2], who="Eve"), c[3]], "! the chain is forked: there is more than one entry 3"),
    ],
)
def test_a_falsified_audit_is_found_and_named(
    desk: Desk, spoil: Callable[[list[Entry]], list[Entry]], words: str
) -> None:
    entries = chain(4)
    desk.plane.forge(spoil(entries), head_of(entries[-1]))
    output = desk.denied("audit", "verify")
    assert words in output
    assert "the audit is not whole: " in output
    assert json.loads(desk.denied("audit", "verify", "--json"))["whole"] is False
    desk.said("history")


def test_a_name_that_the_audit_does_not_tell_of_is_refused(desk: Desk) -> None:
    assert "it tells of nothing yet: `penstock apply FILE` begins" in desk.refused("history", "nobody")
    desk.apply()
    desk.said("model", "note", "sum@candidate", "better")
    output = desk.refused("history", "nobody")
    assert "tells nothing of nobody: no deployment, model or run of that name was ever changed; it tells o" in output
    assert f"deployments: {desk.name}; models: sum" in output
    assert desk.said("history", desk.name, "--since", "2999-01-01").startswith(f"no change of {desk.name} is known")


def test_watch_takes_the_name_of_a_deployment_and_refuses_one_that_is_not_there(desk: Desk) -> None:
    from penstock.cli.watch import _named

    name, kafka = f"{desk.name}.scored", dict(desk.plane.kafka)  # no topic has this name
    desk.declare(name=name)
    desk.apply()
    assert _named(name, kafka) == desk.rig.declared["output"]["topic"]
    assert _named(desk.rig.events, kafka) == desk.rig.events  # a topic goes before
    output = desk.refused("watch", "nobody")
    assert "nobody is neither a topic on" in output
    assert f"nor a deployment under control, which has {name}" in output


def test_a_deployment_that_nobody_runs_is_not_as_wanted_unless_it_is_paused(desk: Desk) -> None:
    desk.apply()
    assert f"slot active: nobody runs it; `penstock worker {desk.name}` does" in desk.denied("status", desk.name)
    told = json.loads(desk.denied("status", desk.name, "--json"))
    assert told["unmanned"] == [{"deployment": desk.name, "arm": "active"}]
    desk.said("pause", desk.name)
    assert "nobody runs it" in desk.said("status", desk.name)
    assert "  load active  paused; 0 events wait" in desk.said("status", desk.name)


def test_a_dry_run_for_what_control_does_not_have_is_refused(desk: Desk) -> None:
    desk.apply()
    for words, said in (
        (["nosuch"], "control has no deployment nosuch"),
        ([desk.name, "--arm", "nosuch"], "declares no arm 'nosuch'"),
    ):
        result = desk.type("autoscale", *words, "--max", "2", "--dry-run")
        assert (result.exit_code, said in result.output) == (2, True), result.output


def test_what_strangers_wrote_into_control_does_not_reach_the_terminal_as_commands(desk: Desk) -> None:
    desk.apply()
    wild = "\x07\rall is well"  # click itself takes escapes out where nobody looks, as here, and only there
    told = Status(desk.name, "0", "penstock." + desk.name, "h", 1, 2**41, 1, 1, (), "running", wild, refused=1)
    shared = statuses.TOPICS
    shared.ensure(desk.plane.kafka, shared.status)
    desk.plane.put(shared.status, told.encode(), told.key)
    state = desk.plane.read().states[desk.name]
    desk.plane.put(desk.plane.topics.control, replace(state, deployment=wild).encode(), wild.encode())
    for words in (["status", desk.name], ["audit", "verify"]):
        output = desk.denied(*words)
        assert "all is well" in output
        assert not {"\x07", "\r"} & set(output)


def test_an_audit_that_was_written_anew_is_found_by_an_entry_that_was_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.apply()
    seen = re.search(r"1:[0-9a-f]{64}", desk.said("audit", "verify"))
    assert seen
    log = desk.plane.read()
    anew, state = resealed(log.entries[0], who="Eve"), log.states[desk.name]
    other = Plane(desk.rig.servers)
    other.forge([anew], head_of(anew), [replace(state, audit_hash=anew.hash)])
    monkeypatch.setattr(control, "TOPICS", other.topics)
    desk.said("audit", "verify")
    assert f"! entry 1 with the hash {seen[0][2:]} is not there" in desk.denied(
        "audit", "verify", "--contains", seen[0]
    )
    other.remove()


def test_a_state_that_was_changed_beside_the_audit_is_found(desk: Desk) -> None:
    desk.apply()
    state = desk.plane.read().states[desk.name]
    forged = replace(state, arms=(replace(state.arms[0], version="another"),))
    desk.plane.forge([], NO_HEAD, [forged])
    assert "the control topic holds another state than entry 1 tells" in desk.denied("audit", "verify")
    desk.plane.put(desk.plane.topics.control, None, desk.name.encode())
    assert "entry 1 made a state that the control topic does not hold" in desk.denied("audit", "verify")
