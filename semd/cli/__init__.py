"""The command line (protocol, section 4).

Commands import what they need when they run: the Middle Client stays light because of that.
Exit status: 0 fine, 1 the answer is no (not healthy, not converged), 2 the call or the configuration is wrong.
"""

from __future__ import annotations

import sys

import typer

from semd.cli import config_commands, crashes, endure, evaluate, lab, learn, operate, play
from semd.cli.output import forgive_consoles
from semd.errors import SemdError

app = typer.Typer(
    name="semd",
    help="Autonomous operator for scanning electron microscopes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_commands.register(app)
operate.register(app)
play.register(app)
learn.register(app)
lab.register(app)
evaluate.register(app)
endure.register(app)
crashes.register(evaluate.evaluate_app)


def main() -> None:
    """Run the command line; every foreseen error is one line on standard error and exit status 2."""
    forgive_consoles()
    try:
        app()
    except SemdError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
