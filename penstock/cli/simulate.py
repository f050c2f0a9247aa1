"""`penstock simulate`: what a policy would do, in worlds whose truth is known or on recorded outcomes."""

from __future__ import annotations

import json

import click

from penstock.cli.common import json_option, said_plainly, servers_option


@click.command("simulate")
@click.argument("policy", metavar="FILE")
@click.option("--rollouts", default=1000, show_default=True, type=click.IntRange(1), help="Of each world.")
@click.option(
    "--rate", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Labelled events/s."
)
@click.option(
    "--mean", default=0.8, show_default=True, type=click.FloatRange(0, 1), help="Of the incumbent's outcomes."
)
@click.option(
    "--gain",
    "gains",
    multiple=True,
    type=click.FloatRange(-1, 1),
    help="By how much the candidate's mean is larger, as a share of the range; several times for several worlds.",
)
@click.option("--swing", default=0.0, show_default=True, type=float, help="By which both means move over a day.")
@click.option("--delay", default=30.0, show_default=True, type=click.FloatRange(0), help="Seconds from event to label.")
@click.option("--tick", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds from look to look.")
@click.option(
    "--days", default=7.0, show_default=True, type=click.FloatRange(0, min_open=True), help="That a rollout lasts."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--recorded", is_flag=True, help="Instead on the outcomes that the deployment's topic of rewards holds.")
@json_option
@servers_option
def command(
    policy: str,
    rollouts: int,
    rate: float,
    mean: float,
    gains: tuple[float, ...],
    swing: float,
    delay: float,
    tick: float,
    days: float,
    seed: int,
    recorded: bool,
    as_json: bool,
    bootstrap_servers: str | None,
) -> None:
    """Try the policy FILE: how often it promotes what it should not, how soon it finds harm, what it costs.

    Without --gain three worlds are tried: no difference, the candidate better by 0.02, and worse by 0.05. Every
    proposal counts as approved.
    """
    from penstock.controller.declared import load_policy
    from penstock.controller.simulating import lines, of_recorded, of_worlds

    with said_plainly():
        declared = load_policy(policy)
        if recorded:
            found = of_recorded(declared, bootstrap_servers)
        else:
            from monitoring.simulation import World

            worlds = [
                World(rate, mean, gain, swing, tick, delay, days * 86_400.0) for gain in gains or (0.0, 0.02, -0.05)
            ]
            found = of_worlds(declared, worlds, rollouts, seed)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in lines(found):
        click.echo(line)
