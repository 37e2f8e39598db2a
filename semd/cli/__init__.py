"""The command line (protocol, section 4).

Commands import what they need when they run: the Middle Client stays light because of that.
Exit status: 0 fine, 1 the answer is no (not healthy, not converged), 2 the call or the configuration is wrong.
"""

from __future__ import annotations

import sys

import typer

from semd.cli import (
    calibrate_commands,
    campaign_commands,
    config_commands,
    dataset_commands,
    demo_commands,
    evaluate_control_commands,
    evaluate_score_commands,
    evaluate_speed_commands,
    evaluation_options,
    instrument_commands,
    model_commands,
    replay_commands,
    safety_commands,
    train_commands,
)
from semd.cli.output import forgive_consoles
from semd.errors import SemdError

app = typer.Typer(
    name="semd",
    help="Autonomous operator for scanning electron microscopes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (
    config_commands,
    instrument_commands,
    safety_commands,
    replay_commands,
    demo_commands,
    model_commands,
    dataset_commands,
    train_commands,
    calibrate_commands,
    evaluation_options,
    evaluate_score_commands,
    evaluate_control_commands,
    evaluate_speed_commands,
    campaign_commands,
):
    group.register(app)


def main() -> None:
    """Run the command line; every foreseen error is one line on standard error and exit status 2."""
    forgive_consoles()
    try:
        app()
    except SemdError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
