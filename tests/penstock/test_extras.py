"""A command whose extra is not installed says which one to install."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from penstock.cli import LazyGroup


def group_missing(name: str, command: str) -> click.Group:
    @click.command(command)
    def needy() -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    class Known(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            return needy

    return Known("penstock")


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("polars", "worker", "worker"),
        ("polars", "monitor", "monitor"),
        ("polars", "report", "monitor"),
        ("jgo.util", "broker", "broker"),
    ],
)
def test_a_missing_package_names_the_extra_that_brings_it(missing: str, command: str, extra: str) -> None:
    result = CliRunner().invoke(group_missing(missing, command), [command])
    assert result.exit_code == 2
    assert result.output.strip().endswith(f"install penstock[{extra}]")


def test_a_missing_module_of_ours_is_a_defect_and_stays_one() -> None:
    result = CliRunner().invoke(group_missing("streams.nothing", "worker"), ["worker"])
    assert isinstance(result.exception, ModuleNotFoundError)
