"""Trainings: the declared command or webhook gets the request, once; how it ended stands in the audit."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from monitoring.decision import Decision
from penstock.controller.facts import DECISION
from schemas.control import canonical
from schemas.policy import Retraining
from streams.rollout import Change, Step

log = logging.getLogger(__name__)
ENDED = "trained"  # action of the entry that tells how it ended
TAIL = 2_000  # characters of the output that are told
POST_SECONDS = 60.0
Ended = Callable[[Decision, str, str], object]  # the decision, how it ended, and what was said


def start(rule: Retraining, decision: Decision, ended: Ended) -> threading.Thread:
    """Start what is declared, and call `ended` from a thread when it has ended.

    A command runs in the folder of the controller, gets the request as JSON on its standard input and the decision's id
    as PENSTOCK_DECISION; a webhook gets both in one POST, the id as `Idempotency-Key`.
    """
    request = json.dumps(decision.evidence["request"], sort_keys=True)
    work = _command if rule.command is not None else _webhook

    def run() -> None:
        how, said = work(rule, decision.id, request)
        log.info("%s: the training of decision %s %s", decision.deployment, decision.id[:12], how)
        ended(decision, how, said[-TAIL:])

    thread = threading.Thread(target=run, name=f"training {decision.deployment}", daemon=True)
    thread.start()
    return thread


def _command(rule: Retraining, key: str, request: str) -> tuple[str, str]:
    assert rule.command is not None
    try:
        done = subprocess.run(
            rule.command,
            input=request,
            env={**os.environ, "PENSTOCK_DECISION": key},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=rule.seconds,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return f"was ended after {rule.seconds:,} s", str(error.stdout or "")
    except OSError as error:
        return f"could not be started: {error.strerror}", ""
    return ("has ended" if not done.returncode else f"failed with status {done.returncode}"), done.stdout


def _webhook(rule: Retraining, key: str, request: str) -> tuple[str, str]:
    assert rule.webhook is not None
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    asked = urllib.request.Request(rule.webhook, request.encode(), headers)
    try:
        with urllib.request.urlopen(asked, timeout=POST_SECONDS) as answer:
            return f"was taken with status {answer.status}", answer.read(TAIL).decode(errors="replace")
    except OSError as error:
        return f"was not taken: {error}", ""


def told(decision: Decision, how: str, said: str) -> Change:
    """Return the entry of the audit that tells how a training ended."""
    content: Mapping[str, Any] = {"deployment": decision.deployment, "how": how, "said": said}
    return Change((Step(ENDED, DECISION, decision.id, None, canonical(content), why=how),))
