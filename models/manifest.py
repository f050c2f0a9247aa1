"""What a bundle says about its model: the one page that lineage, the contract check and a person read."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import BundleInvalid
from schemas.values import OutputField

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of a model and of a tag; safe as a file name
FIELD = r"^[A-Za-z_][A-Za-z0-9_]*$"  # an Avro name
UUID_TEXT = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

TensorType = Literal["float", "double", "int64", "bool", "string"]
Kind = Literal["scalar", "label", "vector", "map"]
Primitive = Literal["double", "float", "long", "int", "boolean", "string"]
KeyType = Literal["string", "int64", "bool"]
Value = float | int | str | bool


def _uuid_text(text: str) -> str:
    if str(uuid.UUID(text)) != text:
        raise ValueError("a version is a lower-case uuid with dashes")
    return text


def _tag(text: str) -> str:
    if UUID_TEXT.match(text):
        raise ValueError("a tag must not look like a version")
    return text


Tag = Annotated[str, Field(pattern=NAME), AfterValidator(_tag)]


class Part(BaseModel):
    """Strict base: an unknown key is an error, values do not change, NaN and infinities survive JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Input(Part):
    """One input tensor of the graph, and the event fields that fill its columns from left to right.

    rank: 2 for a tensor [rows, features], 1 for a tensor [rows] (one feature).
    shape: where one array field fills the tensor, the shape of a row: [784] for [rows, 784], [1, 28, 28] for an image;
    rank then means nothing.
    """

    name: str = Field(min_length=1)
    type: TensorType
    features: list[str] = Field(min_length=1)
    rank: Literal[1, 2] = 2
    shape: list[Annotated[int, Field(ge=1)]] = []

    @model_validator(mode="after")
    def _one_feature_per_column(self) -> Input:
        if len(set(self.features)) != len(self.features):
            raise ValueError(f"input {self.name}: a feature is listed twice")
        if self.rank == 1 and len(self.features) != 1:
            raise ValueError(f"input {self.name}: a tensor of rank 1 takes one feature, not {len(self.features)}")
        if self.shape and len(self.features) != 1:
            raise ValueError(f"input {self.name}: one array fills a tensor with a shape, not {len(self.features)}")
        if self.shape and self.type not in ("float", "double", "int64"):
            raise ValueError(f"input {self.name}: an array fills tensors of float, double and int64, not {self.type}")
        return self


class Output(Part):
    """One field of the inference record, and the graph output that it comes from.

    column: the one column of a two-dimensional tensor that becomes a scalar; None takes the whole tensor.
    """

    name: str = Field(pattern=FIELD)
    tensor: str = Field(min_length=1)
    kind: Kind
    type: Primitive = "double"
    classes: list[str] = []
    column: int | None = Field(default=None, ge=0)

    @property
    def field(self) -> OutputField:
        """The output as the inference record declares it."""
        return OutputField(self.name, self.kind, self.type, tuple(self.classes))


class Training(Part):
    """Where the model came from: the reference of its training data and their range, the run and its parameters."""

    data: str = ""
    data_sha256: str = ""
    since: AwareDatetime | None = None  # the first of the events that it was trained on
    until: AwareDatetime | None = None  # and the last
    run_id: str = ""
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Training:
        if self.since is not None and self.until is not None and self.until < self.since:
            raise ValueError(f"training data cannot end ({self.until}) before they begin ({self.since})")
        return self


class Card(Part):
    """What no program can find out about a model and a person has to say; plain text, empty lines part paragraphs.

    owners: who answers for the model. license: of the model. references: papers, pages, tickets.
    """

    intended_use: str = ""
    limitations: str = ""
    ethical_notes: str = ""
    owners: list[str] = []
    license: str = ""
    references: list[str] = []


class Graph(Part):
    """Summary of the ONNX graph, derived from the model's bytes."""

    ir_version: int
    opsets: dict[str, int]
    producer: str = ""
    operators: dict[str, int]
    parameters: int = Field(ge=0)  # numbers in initializers
    bytes: int = Field(ge=0)


class PartitionField(Part):
    """One level of a hierarchy of models: the event field whose values tell its models apart, and their type."""

    name: str = Field(min_length=1)
    type: KeyType


class Partitions(Part):
    """A hierarchy of models: `leaves` below the root, of which the most specific one that exists scores a row.

    fields: the levels from the top. output: the field of the inference record that names the leaf that scored.
    root: there is a model for rows for which nothing more specific exists. models, bytes: of the leaves, without equal
    ones.
    """

    fields: list[PartitionField] = Field(min_length=1)
    output: str = Field(default="partition", pattern=FIELD)
    root: bool
    leaves: int = Field(ge=1)
    models: int = Field(ge=1)
    bytes: int = Field(ge=1)

    @model_validator(mode="after")
    def _one_level_per_field(self) -> Partitions:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError("partitions: a field is listed twice")
        return self


class Manifest(Part):
    """Everything that a bundle says about one version of a model."""

    format: Literal[1] = 1
    name: str = Field(pattern=NAME)
    version: Annotated[str, AfterValidator(_uuid_text)]
    created: AwareDatetime
    tags: list[Tag] = []  # given to the version when it is added; the repository moves tags later
    author: str = ""
    description: str = ""
    card: Card = Card()
    framework: str = ""
    libraries: dict[str, str] = {}
    training: Training = Training()
    metrics: dict[str, float] = {}
    graph: Graph
    inputs: list[Input] = Field(min_length=1)
    outputs: list[Output] = Field(min_length=1)
    missing: dict[str, Value] = {}  # what stands in for null, per feature; the deployment's wins
    not_finite: Literal["refuse", "pass"] = "refuse"  # NaN and infinities in events
    example: list[dict[str, Value | list[Any] | None]] = []  # rows that the model can score, for warm-up
    reference: bool = False  # the bundle holds a reference profile
    partitions: Partitions | None = None  # graph, inputs and outputs are those of every model of the hierarchy

    @model_validator(mode="after")
    def _names_are_unique(self) -> Manifest:
        for what, names in (
            ("inputs", [part.name for part in self.inputs]),
            ("outputs", [field.name for field in self.fields]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{what}: a name is used twice")
        if unknown := sorted(set(self.missing) - set(self.features)):
            raise ValueError(f"missing: {', '.join(unknown)} is not a feature of the model")
        return self

    @property
    def features(self) -> list[str]:
        """Names of the event fields that the model reads, without repeats, in the order of the inputs."""
        return list(dict.fromkeys(feature for part in self.inputs for feature in part.features))

    @property
    def fields(self) -> tuple[OutputField, ...]:
        """What an inference record says of the model: its outputs, and the leaf that scored where there are leaves."""
        leaf = [OutputField(self.partitions.output, "label", "string")] if self.partitions else []
        return (*(output.field for output in self.outputs), *leaf)

    @property
    def ref(self) -> str:
        """`NAME@VERSION`: what the repository resolves to this version and no other."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> bytes:
        """The manifest as the bytes that stand in a bundle.

        What is not there is left out, so that other bundles keep their digests, and older versions can read them.
        """
        there = {"card": self.card != Card(), "partitions": self.partitions is not None}
        left_out: dict[str, Any] = {name: True for name, given in there.items() if not given}
        if unknown := {name for name in ("since", "until") if getattr(self.training, name) is None}:
            left_out["training"] = unknown
        return self.model_dump_json(indent=2, exclude=left_out).encode() + b"\n"

    @staticmethod
    def check_tag(tag: str) -> None:
        """Raises BundleInvalid unless the text can be a tag."""
        if not re.match(NAME, tag) or UUID_TEXT.match(tag):
            raise BundleInvalid(f"{tag!r} cannot be a tag: letters, digits, '.', '_' and '-', and not like a version")

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Parse a bundle's manifest; raises BundleInvalid naming every wrong key."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BundleInvalid(f"manifest.json is not a valid manifest: {findings(error)}") from error


def findings(error: ValidationError) -> str:
    """What pydantic found, one place after the other."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())


def now() -> datetime:
    """The time in UTC, to the millisecond, as `created` records it."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
