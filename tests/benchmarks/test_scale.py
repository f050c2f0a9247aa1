"""What `scripts/bench scale` predicts and calls good, and how it holds processes to cores."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.cores import pin, pinned, threads
from benchmarks.scale import FREE, ONE, TWO, against, capacity, middle, plan, table, verdict
from benchmarks.slots import Run, Sample, between
from penstock.bench.outputs import Outputs


def run(rate: float, cpu: float = 3.0, broker_cpu: float = 1.0) -> Run:
    return Run(rate, cpu, broker_cpu, intake=2.0, busy=1.0, taken=250.0, made=50.0)


def test_cores_carry_as_many_events_as_both_costs_fit_into_a_second_of_them() -> None:
    assert capacity(1, 3.0, 1.0) == 250_000
    assert capacity(2, 3.0, 1.0) == 500_000


def test_a_machine_that_does_as_predicted_passes_and_one_that_does_not_fails() -> None:
    assert verdict({FREE: run(200_000), ONE: run(240_000), TWO: run(480_000)}) == (
        True,
        "PASS measured to predicted rate, at least 0.75x: one slot, one core 0.96x, two slots, two cores 0.96x; "
        "two cores carry 2.00x of one",
    )
    for one, two in ((240_000, 300_000), (150_000, 480_000)):  # the second slot adds little; the first does little
        good, text = verdict({FREE: run(200_000), ONE: run(one), TWO: run(two)})
        assert not good
        assert text.startswith("FAIL ")


def test_the_prediction_comes_from_the_costs_on_free_cores_only() -> None:
    found = {FREE: run(1.0), ONE: run(250_000, cpu=30.0), TWO: run(250_000, broker_cpu=50.0)}
    assert against(found) == {ONE: 1.0, TWO: 0.5}
    assert [line.partition("; ")[2] for line in table(found)] == ["", "predicted 250,000/s", "predicted 500,000/s"]


def test_a_plan_counts_copies_and_readers() -> None:
    one = plan(1_000_000, run(1.0), copies=1)
    assert (one.worker_cores, one.broker_cores, one.slots) == (3.0, 2.0, 5)  # 3 / 0.7, rounded up
    assert (one.received, one.sent) == (300e6, 300e6)
    three = plan(1_000_000, run(1.0), copies=3, readers=2)
    assert (three.worker_cores, three.broker_cores, three.slots) == (3.0, 6.0, 5)
    assert (three.received, three.sent) == (900e6, 950e6)


def test_medians_are_taken_of_each_figure() -> None:
    found = middle([run(1.0, 9.0), run(3.0, 1.0), run(2.0, 5.0)])
    assert (found.rate, found.cpu, found.taken) == (2.0, 5.0, 250.0)


def test_only_outputs_between_the_two_moments_count_and_few_of_them_are_refused() -> None:
    appended = np.arange(1_000, dtype=np.float64)  # one each ms
    outputs = Outputs(np.arange(1_000), np.zeros(1_000, np.int64), appended)
    rate, cpu, broker_cpu, busy = between(Sample(200, 1.0, 5.0), Sample(700, 1.25, 5.125), outputs)
    assert (rate, cpu, broker_cpu, busy) == (1_000, 500, 250, 0.75)
    with pytest.raises(RuntimeError, match="only 100 events were left when the load ended: give more --events"):
        between(Sample(800, 1.0, 5.0), Sample(900, 1.25, 5.125), outputs)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system holds no process to cores")
def test_a_process_that_was_held_to_a_core_may_run_where_it_might_before() -> None:
    text = "import threading, sys; e = threading.Event(); threading.Thread(target=e.wait, daemon=True).start(); "
    text += "print(flush=True); sys.stdin.read()"
    usual = os.sched_getaffinity(0)
    core = {min(usual)}
    with subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # its second thread runs
        assert len(threads(process.pid)) == 2
        with pinned(process.pid, core):
            assert [os.sched_getaffinity(thread) for thread in threads(process.pid)] == [core] * 2
        assert [os.sched_getaffinity(thread) for thread in threads(process.pid)] == [usual] * 2
        pin(process.pid, core)
        assert os.sched_getaffinity(process.pid) == core
        process.communicate()
