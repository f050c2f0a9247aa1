"""`penstock model show`: the model card of a version, as text, as Markdown or for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from penstock.cli.common import open_repository, repository_option, said_plainly, servers_option

if TYPE_CHECKING:
    from models.repository import Entry, Repository
    from penstock.card import Known
    from penstock.history import History


@click.command("show")
@click.argument("ref", metavar="NAME@TAG|NAME@VERSION")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object.")
@click.option("--markdown", "as_markdown", is_flag=True, help="As a model card in Markdown.")
@repository_option
@servers_option
def show(ref: str, as_json: bool, as_markdown: bool, repository: str | None, bootstrap_servers: str | None) -> None:
    """Everything about one version: who made it, of what, how good it is, where it is and was deployed, and why.

    Where it is deployed is in Kafka: without a broker the rest is shown, and that this is not known.
    """
    if as_json and as_markdown:
        raise click.UsageError("give --json or --markdown, not both")
    with said_plainly():
        from penstock.card import card, facts
        from penstock.pages import markdown, text

        opened = open_repository(repository)
        known = known_of(opened, opened.resolve(ref), bootstrap_servers)
        if as_json:
            click.echo(json.dumps(facts(known), indent=2))
        else:
            click.echo((markdown if as_markdown else text)(card(known)), nl=False)


def known_of(repository: Repository, entry: Entry, bootstrap_servers: str | None) -> Known:
    """Gather what the repository and, where a broker is known, the audit tell of a version."""
    from models.errors import ModelError
    from models.reference import Reference
    from models.summary import summary_of
    from penstock.card import Known

    history, why = _history(entry, bootstrap_servers)
    if not entry.manifest.reference:
        return Known(entry, history, why)
    try:
        reference = Reference.from_bytes(repository.load(entry).reference or b"")
    except ModelError as error:
        return Known(entry, history, why, columns=None, why_no_columns=str(error))
    return Known(entry, history, why, columns=summary_of(reference), rows=reference.tally.rows)


def _history(entry: Entry, bootstrap_servers: str | None) -> tuple[History | None, str]:
    """Return what the audit tells of the version, or None and why that is not known."""
    from penstock import audit
    from penstock.client.errors import ClientError, NoSuchTopic
    from penstock.config import kafka_settings
    from penstock.errors import ConfigError
    from penstock.history import History, history_of

    try:
        entries, unreadable = audit.read(kafka_settings(bootstrap_servers), audit.TOPIC)
    except NoSuchTopic:
        return History(), ""  # nobody has changed anything through it yet
    except (ClientError, ConfigError) as error:
        return None, str(error)
    if unreadable:
        click.echo(
            f"{len(unreadable)} records of {audit.TOPIC} are no entries, from offset {unreadable[0]} on", err=True
        )
    return history_of(entries).of(entry.manifest.name, entry.manifest.version), ""
