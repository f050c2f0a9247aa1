"""Declared labels: where the truth about events comes from, and which of its fields and of the outputs belong together.

A deployment that declares them has its workers publish samples of what they scored, for the keys that fall into the
share (models.sampling), and its monitor join the labels to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from schemas.declared import TOPIC, Declared, Framing, parse_duration
from schemas.errors import LabelsUnusable
from schemas.expressions import Expression
from schemas.values import OutputField

Task = Literal["auto", "binary", "multiclass", "regression"]
NUMBERS = ("int", "long", "float", "double")
TRUTHS = (*NUMBERS, "boolean", "string", "enum")
RECKONED = (*NUMBERS, "boolean")  # what expressions take
PARTITIONS = 4  # of the topic of samples, where nothing else is declared
LONGEST = 366 * 86_400  # seconds that a label may be waited for
SEVERAL = ("vector", "map")  # kinds of outputs with more than one number a row
METRICS = 20  # expressions of one's own
NARROWEST = 1e-3  # bounds; values are added up in units of 2^-20
LARGEST = 1e15
NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,59}$"


class Metric(Declared):
    """A number of one's own for each labelled event. value: an expression (schemas.expressions)."""

    value: str
    min: float | None = Field(default=None, ge=-LARGEST, le=LARGEST)
    max: float | None = Field(default=None, ge=-LARGEST, le=LARGEST)

    @model_validator(mode="after")
    def _can_be_reckoned(self) -> Metric:
        self.expression  # noqa: B018 - it refuses what is not known
        if (self.min is None) != (self.max is None):
            raise ValueError("min and max: an interval needs both, or take out the one")
        if self.min is not None and self.max is not None and self.max - self.min < NARROWEST:
            raise ValueError(
                f"max must lie {NARROWEST:g} above min or more; multiply the value where its range is narrower"
            )
        return self

    @property
    def expression(self) -> Expression:
        """What is reckoned."""
        return Expression(self.value)


def _spelled_out(declared: object) -> object:
    return {"value": declared} if isinstance(declared, str) else declared


class Labels(Declared):
    """The topic of labels. schema_file: a path beside the declaration until it is read, then the record itself."""

    topic: str = Field(pattern=TOPIC)
    schema_file: str | dict[str, Any] = Field(alias="schema")
    framing: Framing = "auto"
    value: str = Field(min_length=1)
    output: str | None = None
    task: Task = "auto"
    within: Annotated[int, BeforeValidator(parse_duration)] = Field(default=3 * 86_400, ge=1, le=LONGEST)  # seconds
    share: float = Field(default=1.0, gt=0, le=1)
    numbers: list[str] = Field(default=[])
    metrics: dict[Annotated[str, Field(pattern=NAME)], Annotated[Metric, BeforeValidator(_spelled_out)]] = Field(
        default={}, max_length=METRICS
    )
    error_range: float | None = Field(default=None, gt=0)  # of a regression: errors are held to it in intervals
    partitions: int = Field(default=PARTITIONS, ge=1, le=1000)

    @model_validator(mode="after")
    def _names_each_field_once(self) -> Labels:
        named = [self.value, *self.numbers]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"numbers: {twice[0]} is named twice; value and each of numbers is a field of its own")
        if twice := sorted({*self.numbers} & {*self.metrics}):
            raise ValueError(f"metrics: {twice[0]} is told as one of numbers already; choose another name")
        return self

    @property
    def reader(self) -> dict[str, Any]:
        """The labels' Avro schema. Raises LabelsUnusable while only its path is known."""
        if isinstance(self.schema_file, str):
            raise LabelsUnusable(
                f"labels.schema: {self.schema_file} was not read; load the declaration with "
                "penstock.config.load_deployment, or give the schema itself in its place"
            )
        return self.schema_file

    @property
    def kind(self) -> str:
        """The Avro type of the truth, less null. Raises LabelsUnusable while only the schema's path is known."""
        return _kind(self._types().get(self.value))

    def _types(self) -> dict[str, Any]:
        fields = self.reader.get("fields")
        known = fields if isinstance(fields, list) else []
        return {str(field["name"]): field.get("type") for field in known if isinstance(field, dict) and "name" in field}

    @property
    def fields(self) -> list[str]:
        """The label's fields that metrics need beside the truth and `numbers`, in order."""
        known = {*self._types()}
        needed: set[str] = set().union(*(each.expression.fields(known) for each in self.metrics.values()))
        return sorted(needed - {self.value, *self.numbers})

    @property
    def outputs(self) -> list[str]:
        """The models' outputs that metrics need, in order."""
        known = {*self._types()}
        return sorted(set[str]().union(*(each.expression.outputs(known) for each in self.metrics.values())))

    def problems(self) -> list[str]:
        """Return what the labels' schema lacks or has otherwise than is declared, each with its place."""
        fields = self.reader.get("fields")
        if self.reader.get("type") != "record" or not isinstance(fields, list):
            return ["labels.schema: it must be an Avro record schema"]
        types = self._types()
        wanted = [("labels.value", self.value, TRUTHS), *(("labels.numbers", name, NUMBERS) for name in self.numbers)]
        found = []
        for place, name, allowed in wanted:
            if name not in types:
                found.append(f"{place}: the label schema has no field {name!r}; it has {', '.join(types)}")
            elif (kind := _kind(types[name])) not in allowed:
                found.append(f"{place}: {name} is {kind}, it must be one of {', '.join(allowed)}, or null and one")
        if not found and (problem := _unfit(self.task, self.value, _kind(types[self.value]))):
            found.append(problem)
        for name, metric in self.metrics.items():
            found += [f"labels.metrics.{name}: {problem}" for problem in _lacking(metric.expression, types)]
        return found

    def mismatches(self, outputs: Sequence[OutputField]) -> list[str]:
        """Return what of a model's outputs metrics cannot be reckoned from, each with its place."""
        known, kinds = {*self._types()}, {field.name: field for field in outputs}
        found = []
        for name, metric in self.metrics.items():
            plain = {each.name for each in metric.expression.names if each.side is None}
            for both in sorted(plain & known & kinds.keys()):
                found.append(
                    f"labels.metrics.{name}: {both} is a field of the label and an output; write label.{both} or "
                    f"output.{both}"
                )
            for wanted in sorted(metric.expression.outputs(known)):
                output = kinds.get(wanted)
                if output is None:
                    found.append(
                        f"labels.metrics.{name}: neither the label nor the model has {wanted!r}; the label has "
                        f"{', '.join(sorted(known))}, the model {', '.join(kinds)}"
                    )
                elif output.kind not in ("scalar", "label") or output.avro not in RECKONED:
                    what = output.kind if output.kind not in ("scalar", "label") else output.avro
                    found.append(f"labels.metrics.{name}: the output {wanted} is a {what}; expressions take numbers")
        return found

    def output_of(self, outputs: Sequence[OutputField]) -> OutputField:
        """Return the output that the labels are the truth of. Raises LabelsUnusable that names those there are."""
        names = ", ".join(field.name for field in outputs)
        if self.output is None:
            if len(outputs) == 1:
                return outputs[0]
            raise LabelsUnusable(f"labels.output: the model has several outputs; name the one to judge: {names}")
        found = next((field for field in outputs if field.name == self.output), None)
        if found is None:
            raise LabelsUnusable(f"labels.output: the model has no output {self.output!r}; it has {names}")
        return found

    def misfit(self, output: OutputField) -> str | None:
        """Return why the labels cannot be the truth of an output of the model; None where they can."""
        said = output.kind if output.kind in SEVERAL else output.avro
        task, classes = _task_of(self.task, self.kind, said), len(output.classes)
        is_what = f"its output {output.name} is {f'a {said} of {classes} classes' if classes else said}"
        why = f"labels.task: {task}" if self.task != "auto" else f"labels.value: {self.value} is {self.kind}"
        if task == "binary" and (said == "string" or (said in SEVERAL and classes not in (0, 2))):
            return f"{why}; that is judged by a probability, a yes or no, or two classes, but {is_what}"
        if task == "regression" and said in ("string", *SEVERAL):
            return f"{why}; that is judged by a number, but {is_what}: name another output"
        if task == "multiclass" and said in ("float", "double"):
            return f"{why}; that is judged by a class, but {is_what}: name another output, or another task"
        return None


def _task_of(declared: str, truth: str, said: str) -> str:
    """Return the task as the monitor takes it (monitoring.judging.task_of)."""
    if declared != "auto":
        return declared
    if truth == "boolean":
        return "binary"
    return "regression" if said in ("float", "double") and truth not in ("string", "enum") else "multiclass"


def _kind(declared: Any) -> str:
    """Return the name of an Avro type, of null and one other the other's."""
    if isinstance(declared, list):
        others = [each for each in declared if each != "null"]
        return _kind(others[0]) if len(others) == 1 else "a union"
    if isinstance(declared, Mapping):
        if "logicalType" in declared:
            return str(declared["logicalType"])
        return _kind(declared.get("type"))
    return str(declared)


def _lacking(expression: Expression, types: Mapping[str, Any]) -> list[str]:
    """Return what of the label's fields an expression cannot be reckoned from."""
    needed = sorted(expression.fields({*types}))
    if not needed:
        return ["it names no field of the label; it is reckoned when the label of an event comes, from both"]
    found = []
    for name in needed:
        if name not in types:
            found.append(f"the label schema has no field {name!r}; it has {', '.join(types)}")
        elif (kind := _kind(types[name])) not in RECKONED:
            found.append(f"{name} is {kind}; expressions take {', '.join(RECKONED)}, or null and one")
    return found


def _unfit(task: str, name: str, kind: str) -> str | None:
    if task == "regression" and kind not in NUMBERS:
        return f"labels.task: regression needs a number, labels.value {name} is {kind}"
    if task == "multiclass" and kind in ("float", "double"):
        return f"labels.task: multiclass needs classes (int, long, string or enum), labels.value {name} is {kind}"
    return None
