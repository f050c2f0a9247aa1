"""`penstock events` on a real Kafka and webhooks on loopback: at least once and in order, whoever fails or dies."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from base64 import b64decode

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition

from penstock.cloudevents import CONTENT_TYPE, event_of
from tests.audit_entries import applied
from tests.integration.events_stand import NOTHING_WRONG, SOURCE, Stand, fine
from tests.webhook_server import Receiver

pytestmark = pytest.mark.timeout(240)


def test_a_webhook_that_fails_hangs_and_asks_for_patience_gets_every_event_in_order(stand: Stand) -> None:
    stand.change(applied(6))
    later = (429, {"Retry-After": "1"})
    with Receiver(
        500, 200, "hang", 200, later, "reset", 200, 503, 408, 200, "trickle", (302, {"Location": "/"})
    ) as hook:
        status, said = stand.run("--once", "--webhook", hook.url, "--seconds", "1")
        assert status == 0, said
        assert fine(stand, hook) == NOTHING_WRONG
        bodies = {each.key: each.body for each in hook.taken}
        assert list(bodies.values()) == [event_of(each, SOURCE).value for each in stand.entries]
        assert {each.headers["content-type"] for each in hook.received} == {CONTENT_TYPE}
        assert len(hook.received) > len(hook.taken) == 6
    assert stand.ids(6) == stand.expected


@pytest.mark.parametrize("death", ["--die-after-post=3", "--die-after-taken=3"])
def test_a_death_between_post_and_commit_repeats_an_event_under_the_same_key_only(stand: Stand, death: str) -> None:
    stand.change(applied(6))
    with Receiver() as hook:
        assert stand.run("--once", "--no-topic", "--webhook", hook.url, death)[0] == -9
        assert len(hook.taken) == 3
        status, said = stand.run("--once", "--no-topic", "--webhook", hook.url)
        assert status == 0, said
        assert fine(stand, hook) == NOTHING_WRONG
        assert len(hook.taken) == 6 + (death == "--die-after-post=3")


def test_who_commits_before_it_posts_loses_an_event_at_the_same_death(stand: Stand) -> None:
    stand.change(applied(6))
    with Receiver() as hook:
        assert stand.run("--once", "--no-topic", "--webhook", hook.url, "--commit-first=3")[0] == -9
        assert stand.run("--once", "--no-topic", "--webhook", hook.url)[0] == 0
        assert fine(stand, hook)["lost"] == 1


def test_killed_again_and_again_webhooks_lose_nothing_and_keep_the_order(stand: Stand) -> None:
    stand.change(applied(60))
    chance = random.Random(7)
    answers = [chance.choice([200, 200, 200, 500, "reset", (429, {"Retry-After": "0"})]) for _ in range(60)]
    with Receiver(*answers) as one, Receiver(*reversed(answers)) as other:
        hooks = ["--webhook", one.url, "--webhook", other.url, "--seconds", "2"]
        for _ in range(2):
            process = stand.start(*hooks)
            before = len(one.received)
            one.wait_for(before + 3, taken=False)
            time.sleep(chance.uniform(0.0, 0.5))
            process.kill()
        status, said = stand.run("--once", *hooks)
        assert status == 0, said
        assert [fine(stand, hook) for hook in (one, other)] == [NOTHING_WRONG] * 2
    assert stand.ids(60) == stand.expected


def test_groups_of_kip_848_deliver_the_same(stand: Stand) -> None:
    stand.change(applied(3))
    with Receiver(200, 500) as hook:
        status, said = stand.run("--once", "--webhook", hook.url, PENSTOCK_KAFKA_GROUP_PROTOCOL="consumer")
        assert status == 0, said
        assert fine(stand, hook) == NOTHING_WRONG
    assert stand.ids(3) == stand.expected


def test_a_webhook_that_hangs_holds_nothing_else_back(stand: Stand) -> None:
    stand.change(applied(5))
    with Receiver(otherwise="hang") as stuck, Receiver() as quick:
        process = stand.start("--webhook", stuck.url, "--webhook", quick.url, "--seconds", "5")
        quick.wait_for(5)
        assert stand.ids(5) == stand.expected
        assert fine(stand, quick) == NOTHING_WRONG
        assert {each.key for each in stuck.received} <= {stand.expected[0]}
        assert stand.committed(stand.hook_group(stuck)).offset <= 0
        assert process.stop() == 0


def test_what_a_webhook_refuses_is_said_counted_and_not_sent_again(stand: Stand) -> None:
    stand.change(applied(4))
    with Receiver(200, 404, 200) as hook:
        status, said = stand.run("--once", "--no-topic", "--webhook", hook.url)
        assert (status, len(hook.received)) == (0, 4)
        assert f"REFUSED io.penstock.deployment.applied {stand.expected[1]} about flights (status 404: said)" in said
        assert "3 delivered, 1 refused" in said
        metadata = json.loads(stand.committed(stand.hook_group(hook)).metadata)
        assert metadata == {"refused": 1, "last": [stand.expected[1]]}
        stand.change(applied(1, first=5))
        said = stand.run("--once", "--no-topic", "--webhook", hook.url)[1]
        assert "1 events were refused before" in said
        assert [each.key for each in hook.received] == stand.expected


def test_once_gives_up_with_1_and_the_next_run_goes_on(stand: Stand) -> None:
    stand.change(applied(3))
    with Receiver(200, otherwise=500) as hook, Receiver() as fit:
        hooks = ["--webhook", hook.url, "--webhook", fit.url]
        status, said = stand.run("--once", "--once-seconds=3", *hooks)
        assert (status, "the next run goes on with it" in said) == (1, True), said
        assert stand.ids(3) == stand.expected
        assert fine(stand, fit) == NOTHING_WRONG
        hook._otherwise = 200
        assert stand.run("--once", *hooks)[0] == 0
        assert fine(stand, hook) == NOTHING_WRONG
        assert len(fit.taken) == 3


def test_requests_are_signed_with_the_secret_of_the_environment(stand: Stand) -> None:
    stand.change(applied(1))
    secret = "whsec_" + "A" * 43 + "="
    with Receiver() as hook:
        done = stand.run(
            "--once", "--no-topic", "--webhook", hook.url, "--secret-env", "HOOK_SECRET", HOOK_SECRET=secret
        )
        assert done[0] == 0
        assert secret not in done[1]
        (request,) = hook.received
    signed = f"{request.key}.{request.headers['webhook-timestamp']}.".encode() + request.body
    digest = hmac.new(b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert b64decode(request.headers["webhook-signature"].removeprefix("v1,")) == digest


def test_of_two_processes_one_delivers_and_the_other_takes_over(stand: Stand) -> None:
    stand.change(applied(2))
    with Receiver() as hook:
        first = stand.start("--no-topic", "--webhook", hook.url)
        hook.wait_for(2)
        second = stand.start("--no-topic", "--webhook", hook.url)
        time.sleep(2)
        stand.change(applied(2, first=3))
        hook.wait_for(4)
        assert len(hook.received) == 4
        first.kill()
        stand.change(applied(2, first=5))
        hook.wait_for(6)
        assert fine(stand, hook) == NOTHING_WRONG
        assert second.stop() == 0


def test_a_webhook_of_an_audit_that_lost_its_end_is_refused(stand: Stand) -> None:
    stand.change(applied(3))
    with Receiver() as hook:
        consumer = confluent_kafka.Consumer({**stand.settings, "group.id": stand.hook_group(hook)})
        consumer.commit(offsets=[TopicPartition(stand.audit, 0, 99)], asynchronous=False)
        consumer.close()
        status, said = stand.run("--once", "--no-topic", "--webhook", hook.url)
        assert (status, "the audit was cut or made anew" in said) == (2, True), said
        assert hook.received == []


def test_a_new_webhook_from_the_end_gets_what_comes(stand: Stand) -> None:
    stand.change(applied(3))
    with Receiver() as hook:
        process = stand.start("--no-topic", "--webhook", hook.url, "--from", "end")
        stand.wait_for_group(stand.hook_group(hook), 1)
        stand.entries.clear()
        stand.change(applied(2, first=4))
        hook.wait_for(2)
        assert [each.key for each in hook.taken] == stand.expected
        assert process.stop() == 0
