"""`penstock quality`: how good each version of a deployment is, by arm and segment, with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from penstock.cli.common import said_plainly, servers_option
from penstock.cli.history import SINCE, moment

if TYPE_CHECKING:
    from monitoring.totals import Told

WHOLE = ("predicted", "labelled", "compared", "count")

PLACE = ("arm", "model", "version", "segment", "value")


@click.command("quality")
@click.argument("name")
@click.option("--since", metavar="TIME", help=f"Only what came later: {SINCE}")
@click.option("--by", "segment", metavar="FIELD", help="Apart for each value of a declared segment.")
@click.option("--threshold", type=float, default=0.5, show_default=True, help="Score from which a prediction is yes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@servers_option
def command(
    name: str, since: str | None, segment: str | None, threshold: float, as_json: bool, bootstrap_servers: str | None
) -> None:
    """How good the predictions of the deployment NAME were, as far as their labels came.

    NUMBER stands beside an interval that holds with 95 % at all times together, so it may be looked at at any time;
    where there is none the number is no mean of values in a known range, or --threshold is another than 0.5. What
    begins with `estimated` is an estimate from scores whose labels are not known.
    """
    from monitoring.scores import threshold_of

    begin = moment(since) if since else 0
    try:
        places = threshold_of(threshold)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--threshold") from None
    with said_plainly():
        from monitoring.quality_reader import parts
        from monitoring.totals import totals_of
        from penstock.config import kafka_settings

        found = parts(kafka_settings(bootstrap_servers), f"{name}.quality", begin)
    totals, counts = totals_of(found)
    totals.groups = (segment,) if segment else ()
    rows = [told for told in totals.told(places) if told.segment == (segment or "") or told.name == segment != ""]
    if as_json:
        tables = [
            {**{field: getattr(group, field) for field in PLACE}, "rows": found}
            for group, found in totals.calibrations()
            if group.segment == (segment or "")
        ]
        numbers = [row._asdict() for row in rows]
        click.echo(json.dumps({"deployment": name, "joined": counts, "numbers": numbers, "calibration": tables}))
    elif rows:
        _print(rows, counts)
    else:
        known = sorted({told.segment for told in totals.told(places)} - {""})
        among = f"; segments are {', '.join(known)}" if known else ""
        when = f" since {since}" if since else ""
        click.echo(f"nothing is known of the quality of {name}{when}{among}")


def _print(rows: Iterable[Told], counts: dict[str, int]) -> None:
    from penstock.changes import printable

    table = [("ARM", "VERSION", "SEGMENT", "OF", "METRIC", "NUMBER", "INTERVAL")]
    for row in rows:
        place = f"{row.segment}={row.value}" if row.segment else ""
        bounds = "" if row.low is None or row.high is None else f"{row.low:.4g} .. {row.high:.4g}"
        number = f"{row.number:,.0f}" if row.metric in WHOLE else f"{row.number:.4g}"
        table.append((row.arm, f"{row.model}@{row.version}", place, row.name, row.metric, number, bounds))
    widths = [max(len(line[at]) for line in table) for at in range(len(table[0]))]
    for line in table:
        click.echo(printable("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()))
    told = ("events", "labels", "pairs", "missing", "late_labels", "unmatched", "duplicates", "corrections")
    click.echo(", ".join(f"{what.replace('_', ' ')} {counts.get(what, 0):,}" for what in told))
