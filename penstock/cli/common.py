"""What several commands share: their options, and how errors that say what to do are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from models.repository import Repository

Command = TypeVar("Command", bound=Callable[..., Any])

servers_option = click.option(
    "--bootstrap-servers",
    metavar="HOST:PORT[,HOST:PORT...]",
    help="Where Kafka is; else PENSTOCK_BOOTSTRAP_SERVERS, or the broker started here.",
)
repository_option = click.option(
    "--repository",
    metavar="URL",
    help="Where models live: a folder or any fsspec URL.  [default: PENSTOCK_REPOSITORY, else .penstock/models]",
)
registry_option = click.option(
    "--registry", envvar="PENSTOCK_REGISTRY", help="URL of a Confluent-compatible schema registry."
)
schemas_option = click.option(
    "--schemas", "schema_folder", type=click.Path(path_type=Path), help="Folder of writer schemas (.avsc)."
)
arm_option = click.option(
    "--arm",
    default="active",
    show_default=True,
    help="active, whose workers score for all arms but shadows, or the name of a shadow.",
)
metrics_host_option = click.option(
    "--metrics-host", default="127.0.0.1", show_default=True, help="Address to serve them on."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a page.")
json_lines_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
log_format_option = click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)


def options(*stack: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator for several options, in their order on the page of `--help`."""

    def decorate(command: Command) -> Command:
        for option in reversed(stack):
            command = option(command)
        return command

    return decorate


# of commands that score what was recorded, and tell of it on a page
recorded_options = options(
    json_option, servers_option, repository_option, registry_option, schemas_option, log_format_option
)


def open_repository(url: str | None) -> Repository:
    """Return the repository of the option, the environment or this folder."""
    from models.repository import Repository
    from penstock.config import repository_url

    return Repository(repository_url(url))


def counted(count: int, what: str) -> str:
    """Return a count with its noun: `1 dead letter`, `2,000 dead letters`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


class Refusal(click.ClickException):
    """What was asked for is not done, and the message says what to change; ends with 2, as wrong options do."""

    exit_code = 2


@contextlib.contextmanager
def said_plainly() -> Iterator[None]:
    """Show an error that says what to do as it is, without a traceback, and end with 2."""
    from schemas.errors import Explained

    try:
        yield
    except Explained as error:
        raise Refusal(str(error)) from error


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """The same for commands that run for long: end with 3 when another process has the slot, with 6 when a slot has
    more memory than its quota, else with 2.
    """
    from schemas.errors import Explained
    from streams.errors import Fenced, Outgrown

    try:
        yield
    except Explained as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(3 if isinstance(error, Fenced) else 7 if isinstance(error, Outgrown) else 2) from error
