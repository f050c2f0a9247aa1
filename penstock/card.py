"""A model card out of values: what the repository and the audit know of one version, in the order of model cards.

The order is that of Mitchell et al., Model Cards for Model Reporting (2019): details, intended use, metrics, training
data, what the numbers look like, ethics, caveats; and behind it what a card on paper cannot have: where it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.cloudevents import time_of
from penstock.pages import Facts, Page, Prose, Row, Section, Table, shortened

if TYPE_CHECKING:
    from models.manifest import Manifest, Partitions, Training
    from models.repository import Entry
    from models.summary import ColumnSummary
    from penstock.history import Act, Deployed, History

NAMES = 40  # of a list that is told; the others are counted
UNSTATED = "not stated"
_THEN = ("Was deployed", "Arm", "Since", "By", "Why", "Until", "Ended by", "Why")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one version. history, columns: None where it is not known, and then why.

    columns: what the reference profile says, empty without one. rows: of the training data that it was made of.
    """

    entry: Entry
    history: History | None
    why_no_history: str = ""
    columns: Sequence[ColumnSummary] | None = ()
    why_no_columns: str = ""
    rows: int | None = None


def card(known: Known) -> Page:
    """Return the card."""
    stated = known.entry.manifest.card
    return Page(
        f"Model card: {known.entry.ref}",
        (
            Section("Model details", (_details(known.entry),)),
            Section("Intended use", (Prose("intended use", stated.intended_use or UNSTATED),)),
            Section("Metrics", (_metrics(known.entry.manifest),)),
            Section("Training data", (_training(known), _parameters(known.entry.manifest))),
            Section("Inputs and outputs", _ports(known.entry.manifest)),
            Section("Reference profile", (_reference(known),)),
            Section("Determinism", (Facts((("determinism", determinism(known.entry)),)),)),
            Section("Operators and size", (_graph(known.entry.manifest),)),
            Section("Ethical considerations", (Prose("ethical notes", stated.ethical_notes or UNSTATED),)),
            Section("Limitations", (Prose("limitations", stated.limitations or UNSTATED),)),
            *_past(known),
        ),
    )


def facts(known: Known) -> dict[str, Any]:
    """Return what the card tells, for programs; `history` is null where it is not known."""
    entry = known.entry
    return {
        **summary(entry),
        "manifest": json.loads(entry.manifest.to_json()),
        "reference": None if known.columns is None else [asdict(column) for column in known.columns],
        "reference_rows": known.rows,
        "history": None if known.history is None else asdict(known.history),
        "not_known": [why for why in (known.why_no_history, known.why_no_columns) if why],
    }


def summary(entry: Entry) -> dict[str, Any]:
    """Return what identifies a version, for programs."""
    return {
        "name": entry.manifest.name,
        "version": entry.manifest.version,
        "tags": list(entry.tags),
        "created": entry.manifest.created.isoformat(),
        "added": entry.added,
        "sha256": entry.digest,
        "proof": dict(entry.proof),
    }


def determinism(entry: Entry) -> str:
    """Return what was found out when the version was added."""
    proof = entry.proof
    finding = proof.get("determinism")
    if not finding:
        return "not proven"
    kind = "bitwise" if finding["bitwise"] else f"within {finding['tolerance']:.2g}"
    return (
        f"{kind}, over {finding['rows']} rows in {finding['rounds']} random splits and orders "
        f"(onnxruntime {proof['onnxruntime']}, {proof['cpu']})"
    )


def _details(entry: Entry) -> Facts:
    manifest, stated = entry.manifest, entry.manifest.card
    author = f" by {manifest.author}" if manifest.author else ""
    libraries = ", ".join([manifest.framework, *(f"{name} {at}" for name, at in manifest.libraries.items())])
    pairs = [
        ("model", entry.ref),
        ("tags", ", ".join(entry.tags) or "none"),
        ("sha256", entry.digest),
        ("created", manifest.created.isoformat() + author),
        ("added", entry.added),
        ("framework", libraries.strip(", ")),
        ("description", manifest.description),
        ("owners", ", ".join(stated.owners) or UNSTATED),
        ("license", stated.license or UNSTATED),
        *(("see", reference) for reference in stated.references),
    ]
    return Facts(tuple((name, value) for name, value in pairs if value))


def _metrics(manifest: Manifest) -> Table:
    rows = [((name, f"{value:g}"), f"{name} {value:g}") for name, value in manifest.metrics.items()]
    return _table("metric", ("Metric", "Value"), rows, "metrics")


def _training(known: Known) -> Facts:
    training = known.entry.manifest.training
    rows = "" if known.rows is None else f"{known.rows:,} (of the reference profile)"
    pairs = [
        ("training", training.data or "not recorded"),
        ("data sha256", training.data_sha256 or "not recorded"),
        ("data rows", rows or "not recorded"),
        *((f"data {name}", f"{at:%Y-%m-%d %H:%M %Z}") for name, at in _range(training) if at is not None),
        ("run", training.run_id or "not recorded"),
    ]
    return Facts(tuple(pairs))


def _range(training: Training) -> tuple[tuple[str, datetime | None], ...]:
    return ("since", training.since), ("until", training.until)


def _parameters(manifest: Manifest) -> Table:
    pairs = [(name, _value(value)) for name, value in manifest.training.parameters.items()]
    return _table("parameter", ("Parameter", "Value"), [(pair, " ".join(pair)) for pair in pairs], "parameters")


def _value(value: Any) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _ports(manifest: Manifest) -> tuple[Table | Facts, ...]:
    inputs = [
        ((part.name, part.type, _listed(part.features)), f"{part.name}: {part.type} of {_listed(part.features)}")
        for part in manifest.inputs
    ]
    outputs = []
    for output in manifest.outputs:
        cells = (output.name, f"{output.kind} {output.type}", _listed(output.classes))
        outputs.append((cells, f"{cells[0]}: {cells[1]}" + (f" of {cells[2]}" if output.classes else "")))
    missing = ", ".join(f"{name} {value}" for name, value in manifest.missing.items())
    return (
        _table("input", ("Input", "Type", "Features"), inputs, "inputs"),
        _table("output", ("Output", "Kind", "Classes"), outputs, "outputs"),
        Facts((("for null", missing or "nothing"), ("NaN", "scored" if manifest.not_finite == "pass" else "refused"))),
    )


def _listed(names: Sequence[str]) -> str:
    told = ", ".join(names[:NAMES])
    return told + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")


def _reference(known: Known) -> Table | Facts:
    if known.columns is None:
        return Facts((("reference", f"not known: {known.why_no_columns}"),))
    rows = [
        (
            (each.name, each.kind, f"{each.missing:.1%}", each.values),
            f"{each.kind} {each.name}: {each.values}; {each.missing:.1%} missing",
        )
        for each in known.columns
    ]
    return _table("reference", ("Column", "Kind", "Missing", "Values"), rows, "columns")


def _leaves(partitions: Partitions | None) -> Iterator[tuple[str, str]]:
    if partitions is not None:
        fields = " > ".join(field.name for field in partitions.fields)
        size = f"{partitions.models:,} different models of {partitions.bytes / (1 << 20):,.1f} MiB"
        root = "below a root" if partitions.root else "without a root"
        yield "leaves", f"{partitions.leaves:,} by {fields}, {size}, {root}; named in {partitions.output}"


def _graph(manifest: Manifest) -> Facts:
    graph = manifest.graph
    operators = ", ".join(f"{name} {count}" for name, count in graph.operators.items())
    opsets = ", ".join(f"{domain or 'ai.onnx'} {number}" for domain, number in graph.opsets.items())
    size = f"{sum(graph.operators.values())} operators, {graph.parameters:,} parameters, {graph.bytes:,} bytes"
    return Facts(
        (
            *_leaves(manifest.partitions),
            ("graph", size),
            ("operators", operators),
            ("opsets", opsets),
            ("made by", graph.producer or UNSTATED),
        )
    )


# what the audit tells


def _past(known: Known) -> Iterable[Section]:
    history = known.history
    if history is None:
        yield Section("Deployments", (Facts((("deployed", f"not known: {known.why_no_history}"),)),))
        return
    now = [each for each in history.deployed if each.until is None]
    then = [each for each in history.deployed if each.until is not None]
    refused = [
        (
            (each.deployment or "no deployment", when(each.act), each.act.who, each.act.why),
            ", ".join(filter(None, (each.deployment, said(each.act)))),
        )
        for each in history.refused
    ]
    yield Section(
        "Deployments",
        (
            _table("deployed", ("Deployed now", "Arm", "Since", "Revision", "By", "Why"), map(_now, now)),
            _table("was deployed", _THEN, map(_then, then)),
            _table("refused", ("Refused by", "When", "By", "Why"), refused),
            *([_unread(history)] if history.unread else []),
        ),
    )
    yield Section("Notes and tags", (_notes(history), _tags(history), *_registered(history)))


def when(act: Act | None) -> str:
    """Return the time of a change, to the second, in UTC."""
    if act is None:
        return "before the audit begins"
    told = time_of(act.at_ms)
    return f"{told[:10]} {told[11:19]}Z" if told else "at no known time"


def said(act: Act | None) -> str:
    """Return who did it, when and why, in a line."""
    if act is None:
        return when(act)
    revision = "" if act.revision is None else f" (revision {act.revision})"
    return f"{when(act)} {act.action} by {act.who}{revision}" + (f": {act.why}" if act.why else "")


def _arm(each: Deployed) -> str:
    weight = "" if each.weight is None else f" {each.weight:g} %"
    return f"{each.arm}{weight}" + (" (paused)" if each.paused else "")


def _now(each: Deployed) -> tuple[tuple[str, ...], str]:
    act = each.since
    revision = "" if act is None or act.revision is None else str(act.revision)
    cells = (each.deployment, _arm(each), when(act), revision, act.who if act else "", act.why if act else "")
    return cells, f"{each.deployment} as {_arm(each)} since {said(act)}"


def _then(each: Deployed) -> tuple[tuple[str, ...], str]:
    cells = [each.deployment, _arm(each)]
    for act in (each.since, each.until):
        cells += [when(act), act.who if act else "", ": ".join(filter(None, (act.action, act.why))) if act else ""]
    return tuple(cells), f"{each.deployment} as {_arm(each)} from {said(each.since)}, until {said(each.until)}"


def _notes(history: History) -> Table:
    rows = [
        (
            (when(each.act), each.act.who, each.text + (" (all versions)" if each.version is None else "")),
            f"{when(each.act)} by {each.act.who}: {each.text}",
        )
        for each in history.notes
    ]
    return _table("note", ("When", "By", "Note"), rows)


def _tags(history: History) -> Table:
    rows = [
        (
            (
                each.tag,
                when(each.since),
                when(each.until) if each.until else "now",
                each.since.who if each.since else "",
            ),
            f"{each.tag} from {said(each.since)}" + (f", until {said(each.until)}" if each.until else ""),
        )
        for each in history.tags
    ]
    return _table("tag", ("Tag", "Since", "Until", "By"), rows)


def _registered(history: History) -> list[Facts]:
    return [Facts(tuple(("registered", said(act)) for *_, act in history.registered))] if history.registered else []


def _unread(history: History) -> Facts:
    numbers = ", ".join(map(str, history.unread[:NAMES]))
    return Facts((("not read", f"entries {numbers} of the audit are not understood and count for nothing here"),))


def _table(label: str, head: tuple[str, ...], rows: Iterable[tuple[Sequence[str], str]], folded: str = "") -> Table:
    found = tuple(Row(tuple(cells), line) for cells, line in rows)
    return Table(label, head, found, f"{len(found):,} {folded}" if folded else "")
