"""`penstock verify`: recompute a range of inferences from events and bundles, and report every difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.common import arm_option, counted, recorded_options, refusals

if TYPE_CHECKING:
    from streams.findings import Findings
    from streams.versions import Declaration


@click.command("verify")
@click.option(
    "--deployment",
    "files",
    required=True,
    multiple=True,
    metavar="NAME|FILE",
    help="A deployment under control, with every state it had; or a YAML file, and those of older states after it.",
)
@arm_option
@click.option("--from", "begin", help="First event: an ISO 8601 time (UTC), or PARTITION:OFFSET[,PARTITION:OFFSET...].")
@click.option("--to", "end", help="First event that is left out, in the same form.")
@click.option(
    "--isolation",
    type=click.Choice(["read_committed", "read_uncommitted"]),
    default="read_committed",
    show_default=True,
    help="How inferences and dead letters are read.",
)
@recorded_options
def command(
    files: tuple[str, ...],
    arm: str,
    begin: str | None,
    end: str | None,
    isolation: str,
    as_json: bool,
    bootstrap_servers: str | None,
    repository: str | None,
    registry: str | None,
    schema_folder: Path | None,
    log_format: str,
) -> None:
    """Check that a range of events has each one inference or one dead letter, in order, and recompute every inference.

    Each inference is made again with the model version and under the revision that it names, and compared bit for
    bit, or within the tolerance that the bundle's proof records. Without --from and --to the range is all that the
    input topic holds up to what the workers have committed; where these name partitions, only those are checked.
    Nothing is written.

    Exit status: 0 nothing is wrong, 1 something is, 2 refused (the message says what to change).
    """
    import os

    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as the worker scores
    from penstock.config import kafka_settings, repository_url
    from penstock.logs import set_up
    from streams.reading import Point
    from streams.verify import Options, verify

    with refusals():
        kafka = kafka_settings(bootstrap_servers)
        declarations = [each for name in files for each in _states(name, kafka)]
        set_up(log_format, {"deployment": declarations[0].deployment.name, "arm": arm})
        options = Options(
            kafka=kafka,
            repository=repository_url(repository),
            registry=registry,
            schema_folder=schema_folder,
            arm=arm,
            begin=Point.parse(begin) if begin else None,
            end=Point.parse(end) if end else None,
            isolation=isolation,
        )
        findings = verify(declarations, options)
    click.echo(json.dumps(findings.to_dict(), indent=2) if as_json else _page(findings))
    raise SystemExit(1 if findings.wrong else 0)


def _states(name: str, kafka: Mapping[str, str]) -> list[Declaration]:
    """Return what a file declares, or every state that control ever had of a deployment, the newest first."""
    from penstock.config import load_deployment, names_file
    from penstock.errors import ConfigError
    from streams import control
    from streams.versions import Declaration

    if names_file(name):
        loaded = load_deployment(name)
        return [Declaration(loaded.deployment, loaded.reader)]
    states = control.states_of(kafka, name)
    if not states:
        raise ConfigError(
            f"{name} is neither a YAML file nor a deployment under control; `penstock status` lists those"
        )
    return [Declaration.of_state(state) for state in states]


def _page(findings: Findings) -> str:
    from streams.offsets import ranges_of

    spans = {partition: span for partition, span in findings.ranges.items() if span[0] < span[1]}
    lines = [*map(str, ranges_of(findings.source, spans)), "", *_found(findings)]
    for arm, beside in findings.beside.items():
        lines += ["", f"the arm {arm}, which scores every event:", *_found(beside)]
    verdict = "nothing is wrong"
    if findings.wrong:
        verdict = "1 thing is wrong" if findings.wrong == 1 else f"{findings.wrong:,} things are wrong"
    seconds = findings.seconds + sum(each.seconds for each in findings.beside.values())
    return "\n".join([*lines, "", f"verified in {seconds:.1f} s: {verdict}"])


def _found(findings: Findings) -> list[str]:
    """Return the counts of one arm, or of those that share the events, and the examples."""
    from streams.findings import COUNTS, WRONG

    lines = []
    always = ("events", "inferences", "dead_letters", "missing", "twice", "out_of_order", "different")
    for name, meaning in COUNTS.items():
        if findings.counts[name] or name in always:
            sign = "!" if name in WRONG and findings.counts[name] else " "
            lines.append(f"{sign} {name:<17}{findings.counts[name]:>13,}  {meaning}")
    lines += [f"  {count:,} inferences by {version}" for version, count in findings.versions.most_common()]
    if len(findings.arms) > 1:
        lines += [f"  {count:,} inferences of the arm {arm}" for arm, count in findings.arms.most_common()]
    lines += [f"  {counted(count, 'dead letter')}: {what}" for what, count in findings.letters.most_common()]
    lines += [f"  note: {note}" for note in findings.notes]
    if findings.examples:
        lines += ["", "examples:"]
    for each in findings.examples:
        lines.append(f"  {each.what}: {' '.join(filter(None, (each.event, each.record)))}: {each.detail}")
    return lines
