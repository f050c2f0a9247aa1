"""What a rescore did and how its inferences differ, as a page for people and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.comparing import Compared
    from streams.comparison import Beside, Maker, Worst
    from streams.rescore import Report

COLUMNS = ("output", "pairs", "same class", "mean then", "mean now", "mean |d|", "p50 |d|", "p95 |d|", "max |d|")
MORE = ("changed", "correlation")


def content(report: Report, compared: Compared | None) -> dict[str, Any]:
    """Return all of it as JSON takes it."""
    told = asdict(report) | {"reasons": dict(report.reasons), "seconds": round(report.seconds, 3)}
    return {**told, "comparison": None if compared is None else _compared(compared)}


def _compared(compared: Compared) -> dict[str, Any]:
    found = compared.comparison
    return {
        "output": compared.output,
        "tolerance": found.tolerance,
        "paired": found.paired,
        "only_now": found.only_now,
        "only_then": found.only_then,
        "twice": found.twice,
        "unreadable": compared.unreadable,
        "outputs_only_now": list(compared.only_now),
        "outputs_only_then": list(compared.only_then),
        "versions": [_beside(maker, beside) for maker, beside in sorted(found.beside.items())],
        "worst": [_worst(each) for each in found.worst],
        "seconds": round(compared.seconds, 3),
    }


def _beside(maker: Maker, beside: Beside) -> dict[str, Any]:
    arm, model, version = maker
    return {
        "arm": arm,
        "model": model,
        "version": version,
        "paired": beside.paired,
        "only_then": beside.only_then,
        "twice": beside.twice,
        "outputs": {each.output.name: each.to_dict() for each in beside.differences},
    }


def _worst(each: Worst) -> dict[str, Any]:
    return {
        "partition": each.partition,
        "offset": each.offset,
        "key": None if each.key is None else each.key.decode(errors="backslashreplace"),
        "size": plain(each.size),
        "arm": each.maker[0],
        "version": each.maker[2],
        "now": {name: plain(value) for name, value in each.now.items()},
        "then": {name: plain(value) for name, value in each.then.items()},
    }


def plain(value: Any) -> Any:
    """Return a value as JSON has it, which knows neither nan nor infinity."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


# ---- the page


def page(report: Report, compared: Compared | None) -> str:
    """Return all of it for a person."""
    lines = [*report.ranges, *(f"note: {note}" for note in report.notes), "", *_done(report)]
    if compared is not None:
        lines += ["", *_differences(report, compared)]
    return "\n".join(lines)


def _done(report: Report) -> Iterator[str]:
    yield f"{report.model}@{report.version} under revision {report.revision} of {report.deployment}"
    yield f"  {report.inferences:>13,}  inferences in {report.output}"
    letters = sum(report.reasons.values())
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in report.reasons.most_common())
    yield f"  {letters:>13,}  dead letters in {report.dead_letters}" + (f" ({reasons})" if reasons else "")
    if report.earlier:
        yield f"  {report.earlier:>13,}  offsets were done by earlier runs"
    if report.lost:
        yield f"  {report.lost:>13,}  events at most that retention had removed"
    if not report.done:
        yield "stopped before the end; the same command with these ends goes on:"
        yield f"  {report.options}"


def _differences(report: Report, compared: Compared) -> Iterator[str]:
    found = compared.comparison
    if not found.paired and not found.only_then:
        yield f"{compared.output} has no inferences of these events: there is nothing to compare with"
        return
    yield f"beside {compared.output}:"
    yield f"  {found.paired:>13,}  events have both"
    yield f"  {found.only_now:>13,}  have only the new inference"
    yield f"  {found.only_then:>13,}  have only that of then"
    for count, what in ((found.twice, "new inferences stand there twice"), (compared.unreadable, "are no inferences")):
        if count:
            yield f"! {count:>13,}  {what}"
    for names, side in ((compared.only_now, "only now"), (compared.only_then, "only then")):
        if names:
            yield f"  outputs that there are {side}, or in another form: {', '.join(names)}"
    for maker, beside in sorted(found.beside.items()):
        yield from _maker(maker, beside, set(compared.only_now))
    if found.worst:
        yield ""
        yield "most different:"
        for each in found.worst:
            place = f"{report.source}/{each.partition}@{each.offset}"
            yield f"  {place} {_key(each.key)}  {_values(each)}  ({each.maker[0]})"


def _maker(maker: Maker, beside: Beside, absent: set[str]) -> Iterator[str]:
    arm, model, version = maker
    yield ""
    more = f", {beside.twice:,} again" if beside.twice else ""
    yield f"{arm} {model}@{version}: {beside.paired:,} pairs{more}"
    rows: list[tuple[str, ...]] = [(*COLUMNS, *MORE)]
    for each in beside.differences:
        if each.output.name not in absent:
            rows.append(_row(each.output.name, each.to_dict()))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        yield "  " + "  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))])


def _row(name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = ("mean_then", "mean", "mean_absolute_difference", "p50", "p95", "max")
    cells = [_number(told.get(key)) for key in numbers]
    pairs, shares = f"{told['pairs']:,}", (_share(told.get("agreed_share")), _share(told["changed_share"]))
    return (name, pairs, shares[0], *cells, shares[1], _number(told.get("correlation")))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _key(key: bytes | None) -> str:
    return "without a key" if key is None else repr(key.decode(errors="backslashreplace"))[:60]


def _values(each: Worst) -> str:
    changed = [name for name in each.now if each.now[name] != each.then[name]]
    return "; ".join(f"{name} {_told(each.then[name])} -> {_told(each.now[name])}" for name in changed)


def _told(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_told, value[:6]))}{', ...' if len(value) > 6 else ''}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
