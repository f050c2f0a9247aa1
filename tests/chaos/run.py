"""`scripts/chaos`: run scenarios on real brokers; the last line is the verdict, and the exit status says the same.

Without options every scenario runs but the long ones (`long`, `soak`), which are asked for with --only or --long.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tests.chaos.account import page, verdict
from tests.chaos.catalogue import catalogue
from tests.chaos.cluster import Cluster
from tests.chaos.monitor_outcome import run_monitor
from tests.chaos.runner import Outcome, run
from tests.chaos.scenario import Scenario
from tests.chaos.verifier import Findings


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    seed = options.seed if options.seed is not None else random.randrange(1 << 16)
    scenarios = chosen(catalogue(seed), options)
    if options.list:
        for scenario in scenarios:
            print(f"{scenario.name:24} {scenario.seconds:5.0f} s  {scenario.about}")
        return 0
    print(f"seed {seed}: --seed {seed} gives the same schedule", flush=True)
    folder = Path(options.keep or tempfile.mkdtemp(prefix="penstock-chaos-"))
    began = time.monotonic()
    try:
        outcomes = list(run_all(scenarios, folder, quiet=options.quiet))
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(verdict(outcomes, time.monotonic() - began), flush=True)
    return 0 if outcomes and all(outcome.passed for outcome in outcomes) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="the set that scripts/test runs, about three minutes")
    parser.add_argument("--long", action="store_true", help="the long runs too")
    parser.add_argument("--seed", type=int, help="of the random schedules; printed when it is chosen for you")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this scenario; may be repeated")
    parser.add_argument("--keep", metavar="FOLDER", help="keep logs and broker data there")
    parser.add_argument("--list", action="store_true", help="list scenarios and their lengths, and run none")
    parser.add_argument("--quiet", action="store_true", help="print accounts only, not each fault")
    return parser.parse_args(arguments)


def chosen(scenarios: Sequence[Scenario], options: argparse.Namespace) -> list[Scenario]:
    """Return the scenarios that the options ask for. Raises SystemExit for a name that there is not."""
    if options.only:
        by_name = {scenario.name: scenario for scenario in scenarios}
        unknown = [name for name in options.only if name not in by_name]
        if unknown:
            raise SystemExit(f"no scenario {', '.join(unknown)}; there are {', '.join(by_name)}")
        return [by_name[name] for name in options.only]
    if options.short:
        return [scenario for scenario in scenarios if scenario.short]
    return [scenario for scenario in scenarios if options.long or not scenario.long]


def run_all(scenarios: Sequence[Scenario], folder: Path, *, quiet: bool = False) -> Iterable[Outcome]:
    """Run scenarios one after the other, those on the same kind of cluster on one; print an account of each."""
    for number, (kind, group) in enumerate(groupby(sorted(scenarios, key=shape), shape)):
        with Cluster(folder / f"cluster-{number}", kind[0], proxied=kind[1]) as cluster:
            for scenario in group:
                if not quiet:
                    print(f"-- {scenario.name}", flush=True)
                outcome = _try(scenario, cluster, folder / scenario.name, _quiet if quiet else _say)
                print(page(outcome), flush=True)
                yield outcome


def shape(scenario: Scenario) -> tuple[int, bool]:
    """Return the kind of cluster that a scenario needs: how many brokers, and whether proxies stand before them."""
    return scenario.brokers, scenario.proxied


def _try(scenario: Scenario, cluster: Cluster, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Run a scenario; one that breaks off fails, and the others go on."""
    try:
        cluster.heal()
        return (run_monitor if scenario.hurts else run)(scenario, cluster, folder, say)
    except Exception as error:
        traceback.print_exc()
        problem = f"broke off: {type(error).__name__}: {str(error)[:500]}"
        return Outcome(scenario, Findings(), [], problems=[problem])


def _say(text: str) -> None:
    print(f"   {text}", flush=True)


def _quiet(text: str) -> None:
    """Accounts are enough."""


if __name__ == "__main__":
    raise SystemExit(main())
