"""What can go wrong with a schema, a message or a deployment's declaration."""

from __future__ import annotations


class Explained(Exception):
    """The root of every error of ours that is meant for a person: its text says what, where, and what to do."""


class SchemaError(Explained):
    """Base of every error of this package."""


class SchemaRefused(SchemaError):
    """A schema that Penstock does not read: recursive, amplifying, or not resolvable to the deployment's columns."""


class UnknownSchema(SchemaError):
    """No source knows the writer schema that a message names; the message becomes a dead letter."""


class SourceUnavailable(SchemaError):
    """The schema source (registry, topic) did not answer; the batch waits, nothing is lost."""


class BlockFailed(SchemaError):
    """The block path did not decode a batch; the strict path decides message by message."""


class DeploymentInvalid(SchemaError):
    """A deployment's declaration is wrong; `problems` lists each finding with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LabelsUnusable(SchemaError):
    """Declared labels that cannot be read, or that do not fit the outputs of the models."""


class ArmUnknown(SchemaError):
    """A deployment declares no such arm, or none that has workers."""


class InferenceRefused(SchemaError):
    """Outputs, echoed fields or a frame that do not make an inference record."""


class RecordInvalid(SchemaError):
    """Bytes that are not a single-object record of the expected schema."""
