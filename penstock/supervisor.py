"""Runs the slots of a deployment on this machine, each in a process of its own, and starts again those that die.

Small on purpose: it knows neither Kafka nor models, so that little can go wrong in it. A process more than there are
slots stands by with everything imported and the model loaded, and takes over the slot of one that died: it need not
pay for the start. Each child reads its slot from a pipe, and the end of the pipe tells it that the supervisor is gone.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.crashes import DEATHS, LONG_LIFE, Incident, Incidents, Lives
from streams import inflight
from streams.budget import BATCH_EVENTS
from streams.offsets import Spans
from streams.orders import REMOVED, Order

log = logging.getLogger(__name__)

REFUSED, FENCED, NO_SLOT_LEFT, LATE, OUTGROWN = 2, 3, 4, 5, 7  # exit statuses of a worker, and of the supervisor
REFUSED_SECONDS = 30.0  # before a slot that was refused is tried again
FENCED_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)  # a predecessor may still be ending
WARM_SECONDS = 5.0  # after a start, before the next process is made ready: the one that started goes first
SPAWN_SECONDS = 5.0  # before the next try, where the machine has no process, memory or file left for a new one
DRAIN_SECONDS = 25.0  # a worker ends itself after 20
LOOK_SECONDS = 5.0
STEER_SECONDS = 1.0

Steer = Callable[[Mapping[str, int | None]], int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. slots: their names. command: starts a worker that reads its slot from standard input.

    markers: where the slots' markers are; group: of the arm. metrics_port: of the first slot; 0 takes free ones.
    advice: the command that puts a range in quarantine, without the range. warm: keep a process standing by. first: how
    many of the slots to begin with, None: all. steer: asked once a second how many there are to be from now on, given
    the processes of those that there are to be now; None: always all.
    """

    slots: Sequence[str]
    command: Sequence[str]
    markers: Path
    group: str
    advice: str
    metrics_port: int | None = None
    batch_events: int = BATCH_EVENTS
    warm: bool = True
    first: int | None = None
    steer: Steer | None = None


class Child:
    """A worker process that waits for its slot on its standard input. Raises as subprocess.Popen does.

    told: what it was told to hold.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            process_group=0,  # a Ctrl-C goes to the supervisor alone, which passes it on
            preexec_fn=_keep_resume,
        )
        self.since = time.monotonic()
        self.told: Spans = {}

    def take(self, order: Order) -> None:
        """Tell the process its slot; one that died meanwhile is found dead as that slot."""
        self.since, self.told = time.monotonic(), order.caution.held
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(order.to_line())
            self.process.stdin.flush()
        except BrokenPipeError:
            log.debug("process %d ended before it could take slot %s", self.process.pid, order.slot)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def resume(self) -> None:
        """Have it score what it was told to hold."""
        self.told = {}
        self.signal(signal.SIGUSR1)

    def reap(self) -> int | None:
        """Return the exit status once the process has ended, negative for a signal."""
        status = self.process.poll()
        if status is not None:
            self.close()
        return status

    def end(self, deadline: float) -> int:
        """Wait for the end until `deadline` (monotonic), then make one; returns the exit status."""
        try:
            status = self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.close()
        return status

    def close(self) -> None:
        """Close the pipe, which tells the process to stop."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:  # an order that nobody read
            log.debug("process %d did not read its slot", self.process.pid)


def _keep_resume() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # until the worker has a handler: the default is to end


class Slot:
    """One slot: its process, or when the next one starts."""

    def __init__(self, name: str, marker: Path, metrics_port: int | None) -> None:
        self.name, self.marker, self.metrics_port = name, marker, metrics_port
        self.lives = Lives()
        self.child: Child | None = None
        self.due = 0.0  # when to start again, while there is no child
        self.fenced = self.outgrown = 0
        self.refused = self.given_up = self.removed = False
        self.leave_by: float | None = None  # it is not to run any longer: when its process has to have ended

    @property
    def process(self) -> int | None:
        """The id of its process, None while it has none."""
        return None if self.child is None else self.child.process.pid


class Supervisor:
    """Call `run` on the main thread: it takes over SIGTERM, SIGINT, SIGUSR1 and SIGCHLD."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan, self._clock = plan, clock
        self._slots = [self._slot(i, name) for i, name in enumerate(plan.slots[: plan.first])]
        self._incidents = Incidents(plan.batch_events)
        self._warm: Child | None = None
        self._warm_due = clock() + WARM_SECONDS
        self._steered = clock()
        self._stopping = self._resuming = self._ran = False

    def _slot(self, i: int, name: str) -> Slot:
        plan = self._plan
        port = plan.metrics_port and plan.metrics_port + i
        return Slot(name, inflight.marker_path(plan.markers, f"{plan.group}.{name}"), port)

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; returns the exit status.

        0 stopped, or the deployment was removed from control, 2 every slot was refused from the start, 4 every slot was
        given up, 5 one did not stop in time.
        """
        wakes, woken = socket.socketpair()
        with wakes, woken:
            for end in (wakes, woken):
                end.setblocking(False)
            signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
            signal.signal(signal.SIGTERM, self._stop)
            signal.signal(signal.SIGINT, self._stop)
            signal.signal(signal.SIGUSR1, self._resume)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            names = ", ".join(slot.name for slot in self._slots)
            log.info("starts the slots %s: each loads its model first, and says what it reads once it scores", names)
            try:
                return self._supervise(wakes)
            finally:
                signal.set_wakeup_fd(-1)

    def _supervise(self, wakes: socket.socket) -> int:
        while not self._stopping:
            self._reap()
            if self._resuming:
                self._pass_on()
            if (status := self._verdict()) is not None:
                self._end()
                return status
            self._resize()
            self._start()
            if select.select([wakes], [], [], self._patience())[0]:
                wakes.recv(4096)
        return self._end()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _resume(self, *_: object) -> None:
        self._resuming = True

    # ---- how many

    def _resize(self) -> None:
        """Have as many slots as the plan's steer says; those that go end after their batch."""
        if self._plan.steer is None or self._clock() - self._steered < STEER_SECONDS:
            return
        self._steered = self._clock()
        for slot in self._slots:
            if slot.child is not None and slot.leave_by is not None and slot.leave_by < self._steered:
                slot.child.process.kill()
        staying = [slot for slot in self._slots if slot.leave_by is None]
        wanted = self._plan.steer({slot.name: slot.process for slot in staying})
        taken = {slot.name for slot in self._slots}  # also by one that is leaving
        free = [(i, name) for i, name in enumerate(self._plan.slots) if name not in taken]
        self._slots += [self._slot(i, name) for i, name in free[: max(0, wanted - len(staying))]]
        staying.reverse()
        going = sorted(staying, key=lambda slot: slot.child is not None)  # those first that do not run, then the last
        for slot in going[: max(0, len(staying) - wanted)]:
            self._dismiss(slot)

    def _dismiss(self, slot: Slot) -> None:
        slot.leave_by = self._clock() + DRAIN_SECONDS
        if slot.child is None:
            self._slots.remove(slot)
            return
        slot.child.signal(signal.SIGTERM)
        slot.child.close()

    def _left(self, slot: Slot, child: Child, status: int) -> None:
        self._slots.remove(slot)
        if status not in (0, LATE, -signal.SIGTERM):  # before it had a handler
            self._incidents.died(inflight.read(slot.marker, child.process.pid), self._clock(), child.told)
        log.info("slot %s %s and is not started again: fewer are wanted", slot.name, _ended(status))

    # ---- starting

    def _start(self) -> None:
        now = self._clock()
        for slot in self._slots:
            if slot.child is None and not slot.given_up and slot.due <= now:
                self._take_over(slot)
                self._warm_due = self._clock() + WARM_SECONDS
        if self._plan.warm and self._warm is None and self._warm_due <= now:
            self._warm = self._spawn()
            self._warm_due = self._clock() + SPAWN_SECONDS  # counts only where there is none

    def _take_over(self, slot: Slot) -> None:
        child, self._warm = self._warm or self._spawn(), None
        if child is None:
            slot.due = self._clock() + SPAWN_SECONDS
            return
        slot.child, slot.refused = child, False
        child.take(Order(slot.name, slot.metrics_port, self._incidents.caution, slot.outgrown))
        log.info("slot %s runs as process %d", slot.name, child.process.pid)

    def _spawn(self) -> Child | None:
        """Start a process; None where that is not possible now, which must not end the slots that run."""
        try:
            return Child(self._plan.command)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("cannot start a process (%s); trying again in %g s, the others go on", error, SPAWN_SECONDS)
            return None

    def _patience(self) -> float:
        """Return how many seconds nothing can become due."""
        due = [slot.due for slot in self._slots if slot.child is None and not slot.given_up]
        if self._plan.warm and self._warm is None:
            due.append(self._warm_due)
        most = LOOK_SECONDS if self._plan.steer is None else STEER_SECONDS
        return max(0.0, min([most, *(moment - self._clock() for moment in due)]))

    # ---- deaths

    def _reap(self) -> None:
        for slot in list(self._slots):
            child = slot.child
            if child is not None and (status := child.reap()) is not None:
                slot.child = None
                (self._buried if slot.leave_by is None else self._left)(slot, child, status)
        if self._warm is not None and (status := self._warm.reap()) is not None:
            self._warm = None
            self._warm_due = self._clock() + (WARM_SECONDS if status == 0 else REFUSED_SECONDS)
            if status:
                log.warning("the process standing by %s; the next one follows in 30 s", _ended(status))

    def _buried(self, slot: Slot, child: Child, status: int) -> None:
        """Decide what becomes of a slot whose process ended."""
        lived = self._clock() - child.since
        trace = inflight.read(slot.marker, child.process.pid)  # one that died early left that of another
        self._ran = self._ran or trace.joined
        if status != FENCED:
            slot.fenced = 0
        if status == REMOVED:
            slot.removed = slot.given_up = True
            log.info("slot %s ended: its deployment was removed from control", slot.name)
            return
        if status == REFUSED:
            slot.refused = True
            delay, why = REFUSED_SECONDS, "was refused, see above"
        elif status == FENCED:
            delay, why = FENCED_SECONDS[min(slot.fenced, len(FENCED_SECONDS) - 1)], "found its slot taken"
            slot.fenced += 1
        else:
            crashed = status not in (0, LATE, OUTGROWN)
            slot.outgrown += status == OUTGROWN
            incident = self._incidents.died(trace, self._clock(), child.told) if crashed else None
            self._ran = self._ran or lived >= LONG_LIFE  # a full disk: it could not note that it joined
            slot.lives.ended(lived, joined=trace.joined, crashed=crashed, scoring=incident is not None)
            slot.given_up = slot.lives.hopeless
            delay, why = slot.lives.delay, self._say(slot, _ended(status, slot.outgrown), incident)
        slot.due = self._clock() + delay
        if not slot.given_up:
            log.warning("slot %s %s; starting again%s", slot.name, why, f" in {delay:g} s" if delay else "")

    def _say(self, slot: Slot, ended: str, incident: Incident | None) -> str:
        """Return how a process ended; says at once what somebody has to do about it."""
        if slot.given_up:
            log.error(
                "slot %s is given up: its process %s, as %d before it, and none of them got as far as reading events. "
                "Mend what is wrong, then start again, or send SIGUSR1 to process %d",
                *(slot.name, ended, DEATHS - 1, os.getpid()),
            )
        if incident is None:
            return ended
        where = ", ".join(map(str, incident.ranges))
        if incident.held:
            log.error(
                "giving up on %s: processes died there %d times, the last one %s. These events hold up their "
                "partitions, the others go on. Put them in quarantine, as dead letters, with\n    %s %s",
                *(where, incident.deaths, ended, self._plan.advice, " ".join(map(str, incident.ranges))),
            )
            return f"{ended} while it scored {where}"
        small = f", time {incident.deaths}: reading them {self._incidents.batch(incident.deaths)} at a time"
        return f"{ended} while it scored {where}{small if incident.deaths > 1 else ''}"

    def _verdict(self) -> int | None:
        if any(slot.removed for slot in self._slots) and all(slot.removed or slot.refused for slot in self._slots):
            log.info("no slot is left, for the deployment was removed from control; ending")
            return 0
        if all(slot.given_up for slot in self._slots):
            log.error("no slot is left; ending")
            return NO_SLOT_LEFT
        if not self._ran and all(slot.refused for slot in self._slots):
            return REFUSED
        return None

    # ---- signals

    def _pass_on(self) -> None:
        """SIGUSR1: every slot tries again what it held back or was given up for."""
        self._resuming = False
        self._incidents.forgive()
        for slot in self._slots:
            slot.lives = Lives()
            slot.given_up, slot.removed, slot.due = False, False, min(slot.due, self._clock())
            if slot.child is not None:
                slot.child.resume()

    def _end(self) -> int:
        children = [slot.child for slot in self._slots if slot.child] + ([self._warm] if self._warm else [])
        for child in children:
            child.signal(signal.SIGTERM)
            child.close()  # wakes the one that stands by
        deadline = time.monotonic() + DRAIN_SECONDS
        late = [child for child in children if child.end(deadline) in (LATE, -signal.SIGKILL)]
        log.info("every slot has ended")
        return LATE if late else 0


def _ended(status: int, outgrown: int = 0) -> str:
    if status == OUTGROWN:
        return f"had more memory than its quota, time {outgrown}"
    if status < 0:
        try:
            return f"ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"ended by signal {-status}"
    return "stopped" if status == 0 else f"ended with status {status}"
