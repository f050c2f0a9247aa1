"""Whether a `penstock` command line would be understood: parsed by the real commands, and nothing is run."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from penstock.cli import main


def command_problem(words: Sequence[str], *, whole: bool) -> str | None:
    """What is wrong with the words after `penstock`, or None.

    `whole`: the line is meant to run as it stands, so arguments are counted and required ones asked for. Otherwise it
    only mentions a command (`penstock broker start|stop`): every alternative and every option named must exist.
    """
    try:
        return _parsed(main, list(words), "penstock") if whole else _mentioned(main, list(words), "penstock")
    except click.UsageError as error:
        return error.format_message()
    except ImportError as error:
        return f"the command cannot be imported: {error}"


def _parsed(command: click.Command, words: list[str], name: str) -> str | None:
    context = click.Context(command, info_name=name)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if values.get("help") or values.get("version"):
        return None
    if isinstance(command, click.Group):
        if not rest:
            return None
        child_name, child, remaining = command.resolve_command(context, rest)
        assert child is not None  # resolve_command raises for an unknown name
        return _parsed(child, remaining, f"{name} {child_name}")
    if rest:
        return f"unexpected argument {rest[0]}"
    return next(filter(None, (_value_problem(param, values.get(param.name or "")) for param in command.params)), None)


def _value_problem(param: click.Parameter, value: object) -> str | None:
    given = [item for item in (value if isinstance(value, list | tuple) else [value]) if isinstance(item, str)]
    if param.required and not given and param.envvar is None:
        return f"{param.human_readable_name} is missing"
    if isinstance(param.type, click.Choice):
        for item in given:
            if item not in param.type.choices:
                return f"{item} is not one of {', '.join(map(str, param.type.choices))}"
    return None


def _mentioned(command: click.Command, words: list[str], name: str) -> str | None:
    context = click.Context(command, info_name=name)
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        for alternative in words[0].split("|"):
            child = command.get_command(context, alternative) if re.match(r"^[a-z]", alternative) else None
            if child is None:
                return f"{name} has no command {alternative}"
            if problem := _mentioned(child, words[1:], f"{name} {alternative}"):
                return problem
        return None
    known = {option for param in command.get_params(context) for option in (*param.opts, *param.secondary_opts)}
    for option in re.findall(r"(?<![\w-])--[\w-]+", " ".join(words)):
        if option not in known:
            return f"{name} has no option {option}"
    return None
