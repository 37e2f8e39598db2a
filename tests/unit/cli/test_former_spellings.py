"""Former spellings of the command line go on working, and the help shows the present ones alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from typer.testing import CliRunner

from semd.cli import app
from semd.cli.former_spellings import present_spelling
from semd.errors import ConfigError

CLI = Path(__file__).parents[3] / "semd" / "cli"


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("score --rival resnet50=FILE --data D", "score --baseline resnet50=FILE --data D"),
        ("score --rival=resnet50=FILE", "score --baseline=resnet50=FILE"),
        ("score --aside D --passes-scale 0.5", "score --validation D --epochs-scale 0.5"),
        ("control --images --run R", "images --run R"),
        ("control --from-records S --start A", "records --from-records S --start A"),
        ("control --from-records=S", "records --from-records=S"),
        ("control --run R", "control --run R"),
        ("control", "control"),
    ],
)
def test_a_former_spelling_is_replaced(former: str, present: str) -> None:
    assert present_spelling(former.split()) == present.split()


@pytest.mark.parametrize("words", ["--images --from-records S", "--start A", "--config=F"])
def test_options_that_do_not_go_together_are_refused(words: str) -> None:
    with pytest.raises(ConfigError, match="--from-records"):
        present_spelling(["control", *words.split()])


@pytest.mark.parametrize("words", ["train score --aside D", "evaluate score --rival N=F", "train control --images"])
def test_the_commands_take_former_spellings(words: str) -> None:
    result = CliRunner().invoke(app, [*words.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert not any(word in result.output for word in ("--rival", "--aside", "--images", "--passes-scale"))


def test_no_command_has_more_than_fourteen_parameters() -> None:
    counts = {
        f"{path.stem}.{node.name}": len(node.args.args) + len(node.args.kwonlyargs)
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: count for name, count in counts.items() if count > 14} == {}
