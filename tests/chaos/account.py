"""One page about a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.chaos.runner import Outcome
from tests.chaos.verifier import BREAKAGES

LINES = 8  # of a list that may be long


def page(outcome: Outcome) -> str:
    """Return the account of one run in words and numbers."""
    scenario, findings = outcome.scenario, outcome.findings
    if scenario.hurts:
        return _of_the_monitor(outcome)
    lines = [f"== {scenario.name}: {scenario.about}"]
    lines.append(
        f"   {scenario.brokers} broker(s), {scenario.partitions} partitions, {scenario.slots} slots; "
        f"{findings.events:,} events in {outcome.seconds:.0f} s, {outcome.rate:,.0f} a second"
    )
    lines.append(
        f"   results     {findings.inferences:,} inferences, {findings.letters:,} dead letters{_reasons(outcome)}"
    )
    lines.append(f"   breakages   {_breakages(outcome)}")
    if findings.gone:
        lines.append(f"   retention   took {findings.gone:,} events; the workers counted {outcome.lost_counted:,}")
    if len(outcome.versions) > 1:
        lines.append(f"   versions    {', '.join(f'{count:,}' for count in outcome.versions.values())} inferences each")
    if findings.unowned:
        lines.append(
            f"   producer    appended {findings.unowned:,} records that it does not know of; they have results"
        )
    if outcome.happened:
        lines.append(f"   faults      {_faults(outcome)}; {outcome.killed} of {outcome.lives} processes killed")
        lines[-1] += f", {outcome.killed_at_work} of them at work"
    lines.append(f"   waits       {_waits(outcome)}")
    for each in outcome.drained:
        lines.append(
            f"   load        {each.rate:,.0f} a second were drained {each.drain:.1f} s after their end; "
            f"p95 after that {each.p95 * 1000:.0f} ms"
        )
    if outcome.recoveries:
        lines.append(f"   recovery    {_recovery(outcome)}")
    grown = outcome.grown
    lines.append(
        f"   memory      of the process that lived longest, {grown.seconds / 60:.0f} min: {grown.before:.0f} MiB, "
        f"later {grown.after:.0f}, {grown.ratio:.2f} times; {grown.files:+.0f} open files"
    )
    if outcome.recomputed:
        lines.append(f"   recomputed  {outcome.recomputed}")
    lines += [f"   example     {text}" for text in findings.examples[:LINES]]
    lines += [f"   ended       {text}" for text in outcome.exits[:LINES]]
    lines += [f"   PROBLEM     {text}" for text in outcome.problems]
    lines.append(f"   {'pass' if outcome.passed else 'FAIL'}")
    return "\n".join(lines)


def _of_the_monitor(outcome: Outcome) -> str:
    scenario = outcome.scenario
    lines = [
        f"== {scenario.name}: {scenario.about}",
        f"   {outcome.findings.events:,} events in {outcome.seconds:.0f} s",
    ]
    lines.append(f"   faults      {_faults(outcome)}")
    lines += [f"   {text}" for text in outcome.told]
    lines += [f"   PROBLEM     {text}" for text in outcome.problems]
    lines.append(f"   {'pass' if outcome.passed else 'FAIL'}")
    return "\n".join(lines)


def _faults(outcome: Outcome) -> str:
    counts = Counter(each.kind.replace("_", " ") for each in outcome.happened)
    return ", ".join(f"{n} x {kind}" for kind, n in counts.items())


def verdict(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the last line of a run of several scenarios."""
    failed = [outcome.scenario.name for outcome in outcomes if not outcome.passed]
    real = [outcome for outcome in outcomes if not outcome.scenario.expect.broken]
    events = sum(outcome.findings.events for outcome in real)
    counts = {name: sum(outcome.findings.breakages[name] for outcome in real) for name in BREAKAGES}
    told = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
    faults = sum(len(outcome.happened) for outcome in real)
    end = f": {', '.join(failed)}" if failed else ""
    passed = len(outcomes) - len(failed)
    return (
        f"{'FAIL' if failed else 'PASS'} {passed} of {len(outcomes)} scenarios in {seconds:.0f} s, "
        f"{events:,} events, {faults} faults: {told}{end}"
    )


def _reasons(outcome: Outcome) -> str:
    told = ", ".join(f"{reason} {count:,}" for reason, count in sorted(outcome.reasons.items()))
    return f" ({told})" if told else ""


def _breakages(outcome: Outcome) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in outcome.findings.breakages.items())


def _waits(outcome: Outcome) -> str:
    p50, p95, p99 = (f"{seconds * 1000:.0f}" for seconds in outcome.calm)
    return (
        f"away from faults p50 {p50} ms, p95 {p95} ms, p99 {p99} ms; longest {outcome.longest:.1f} s, "
        f"{outcome.stuck:.1f} s of it beyond a fault's end; drained in {outcome.drain:.1f} s"
    )


def _recovery(outcome: Outcome) -> str:
    times = sorted(outcome.recoveries)
    middle, most = times[len(times) // 2], times[-1]
    return (
        f"of {len(times)} slots that were hit: median {middle:.2f} s, longest {most:.2f} s; "
        f"the other partitions meanwhile: p99 {outcome.elsewhere:.2f} s, longest {outcome.held:.2f} s"
    )
