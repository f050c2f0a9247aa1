"""From a graph to the inputs and outputs of a manifest, and back: whether a manifest says what the graph says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from models.errors import BundleInvalid
from models.graph import Examined, Port
from models.manifest import Input, Manifest, Output, TensorType, findings

# element type of a graph output -> the Avro primitive that carries every one of its values
AVRO_OF = {
    "float": "float",
    "float16": "float",
    "double": "double",
    "int8": "int",
    "uint8": "int",
    "int16": "int",
    "uint16": "int",
    "int32": "int",
    "uint32": "long",
    "int64": "long",
    "bool": "boolean",
    "string": "string",
}
Features = Sequence[str] | Mapping[str, str | Sequence[str]] | None


def manifest_for(examined: Examined, features: Features, outputs: Any, content: Mapping[str, Any]) -> Manifest:
    """The manifest of an examined model; raises BundleInvalid naming every wrong key."""
    try:
        inputs, results = describe_inputs(examined, features), describe_outputs(examined, outputs)
        return Manifest.model_validate({"graph": examined.summary, "inputs": inputs, "outputs": results, **content})
    except ValidationError as error:
        raise BundleInvalid(f"the bundle cannot be built: {findings(error)}") from error


def describe_inputs(examined: Examined, features: Features) -> list[Input]:
    """The graph's inputs with the event fields that fill them; raises BundleInvalid where the numbers disagree."""
    if features is None:
        features = {}
    elif not isinstance(features, Mapping):
        if len(examined.inputs) != 1:
            names = ", ".join(port.name for port in examined.inputs)
            raise BundleInvalid(f"the model has the inputs {names}: give features as a mapping from input to fields")
        features = {examined.inputs[0].name: features}
    if unknown := set(features) - {port.name for port in examined.inputs}:
        raise BundleInvalid(f"features: the model has no input {', '.join(sorted(unknown))}")
    return [_input(port, features.get(port.name, port.name)) for port in examined.inputs]


def _input(port: Port, fields: str | Sequence[str]) -> Input:
    names = [fields] if isinstance(fields, str) else list(fields)
    if port.type not in get_args(TensorType):
        raise BundleInvalid(f"input {port.name} is of type {port.type}; possible are {', '.join(get_args(TensorType))}")
    common = {"name": port.name, "type": port.type, "features": names}
    if port.rank not in (1, 2) or (len(names) == 1 and (port.width or 1) > 1):
        if len(names) != 1:
            raise BundleInvalid(f"input {port.name} has rows of the shape {list(port.row)}: one array field fills it")
        return Input.model_validate({**common, "shape": list(port.row)})
    columns = port.width if port.rank == 2 else 1
    if columns is not None and columns != len(names):
        raise BundleInvalid(f"input {port.name} has {columns} columns, but {len(names)} features are given: {names}")
    return Input.model_validate({**common, "rank": port.rank})


def describe_outputs(examined: Examined, outputs: Any) -> list[Output]:
    """The outputs as the inference record carries them: all of the graph's, the chosen ones, or as declared."""
    ports = {port.name: port for port in examined.outputs}
    if outputs is None:
        return [_output(port, examined, field_name(port.name)) for port in ports.values()]
    if not isinstance(outputs, Mapping):
        return [item if isinstance(item, Output) else Output.model_validate(item) for item in outputs]
    if unknown := set(outputs) - set(ports):
        raise BundleInvalid(f"outputs: the model has no output {', '.join(sorted(unknown))}; it has {', '.join(ports)}")
    return [_output(ports[tensor], examined, name) for tensor, name in outputs.items()]


def field_name(tensor: str) -> str:
    """A graph output's name as a field name of Avro."""
    name = re.sub(r"\W", "_", tensor, flags=re.ASCII)
    return f"_{name}" if name[:1].isdigit() else name


def _output(port: Port, examined: Examined, name: str) -> Output:
    common: dict[str, Any] = {"name": name, "tensor": port.name}
    if port.zipped:
        return Output(**common, kind="map", classes=list(port.classes))
    if port.rank == 1 or port.width == 1:
        common["type"] = AVRO_OF[port.type]
        labels = list(examined.class_labels) if port.type in ("int64", "string", "bool") else []
        return Output(**common, kind="label" if labels or port.type == "string" else "scalar", classes=labels)
    if port.rank not in (None, 2):
        raise BundleInvalid(f"output {port.name} has rank {port.rank}: let the model end in a Flatten")
    if port.width is None:
        raise BundleInvalid(
            f"the graph does not say how many columns output {port.name} has: declare it with outputs="
            f'[{{"name": "{name}", "tensor": "{port.name}", "kind": "vector", "classes": [...]}}]'
        )
    classes = examined.class_labels if len(examined.class_labels) == port.width else ()
    return Output(**common, kind="vector", classes=list(classes))


def disagreements(manifest: Manifest, examined: Examined) -> list[str]:
    """Where the manifest says something else than the graph: every finding at once."""
    return [*_input_disagreements(manifest, examined), *_output_disagreements(manifest, examined)]


def _input_disagreements(manifest: Manifest, examined: Examined) -> list[str]:
    ports = {port.name: port for port in examined.inputs}
    declared = {part.name: part for part in manifest.inputs}
    found = [f"the graph needs the input {name}, which the manifest lacks" for name in ports if name not in declared]
    for name, part in declared.items():
        port = ports.get(name)
        if port is None:
            found.append(f"the manifest declares the input {name}, which the graph lacks")
        elif port.type != part.type:
            found.append(f"input {name} is {part.type} in the manifest and {port.type} in the graph")
        elif part.shape:
            if port.row != tuple(part.shape):
                found.append(f"input {name} has rows of {part.shape} in the manifest, {list(port.row)} in the graph")
        elif port.rank != part.rank or port.width not in (None, len(part.features)):
            width = port.width if port.rank == 2 else 1
            found.append(f"input {name} has {len(part.features)} features in the manifest and {width} in the graph")
    return found


def _output_disagreements(manifest: Manifest, examined: Examined) -> list[str]:
    ports = {port.name: port for port in examined.outputs}
    found = []
    for part in manifest.outputs:
        port = ports.get(part.tensor)
        if port is None:
            found.append(f"output {part.name}: the graph has no {part.tensor}; it has {', '.join(ports)}")
        elif part.kind == "map" and not port.zipped:
            found.append(f"output {part.name} is a map in the manifest, but {part.tensor} is not made by a ZipMap")
        elif part.kind in ("scalar", "label") and part.type != AVRO_OF[port.type]:
            found.append(f"output {part.name} is {part.type} in the manifest and {AVRO_OF[port.type]} in the graph")
        elif port.width is not None and part.column is not None and part.column >= port.width:
            found.append(f"output {part.name}: column {part.column} of {part.tensor}, which has {port.width} columns")
    return found
