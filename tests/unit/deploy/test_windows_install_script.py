"""The install script, without Windows: it parses, names only what exists, and undoes what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter_powershell
from lxml import etree
from tree_sitter import Language, Node, Parser

WINDOWS = Path(__file__).parents[3] / "deploy" / "windows"
SOURCE = (WINDOWS / "install.ps1").read_bytes()
PARSER = Parser(Language(tree_sitter_powershell.language()))
TREE = PARSER.parse(SOURCE).root_node

CMDLETS = {
    "Copy-Item", "ForEach-Object", "Get-CimInstance", "Get-Date", "Get-FileHash", "Get-Item", "Get-Service",
    "Invoke-CimMethod", "Join-Path", "New-Item", "Out-Null", "Remove-Item", "Set-StrictMode", "Split-Path",
    "Start-Service", "Start-Sleep", "Stop-Service", "Test-Path", "Write-Output",
}  # fmt: skip
"""Of Windows PowerShell 5.1."""
AUTOMATIC = {"null", "true", "false", "_", "LASTEXITCODE", "PSScriptRoot", "ErrorActionPreference"}


def nodes(node: Node, kind: str) -> Iterator[Node]:
    if node.type == kind:
        yield node
    for child in node.children:
        yield from nodes(child, kind)


def said(node: Node) -> str:
    return node.text.decode()


def commands() -> dict[str, list[str]]:
    """Calls of a script, with the text of each."""
    found: dict[str, list[str]] = {}
    for command in nodes(TREE, "command"):
        name = command.child_by_field_name("command_name")
        found.setdefault(said(name) if name is not None else "", []).append(said(command))
    return found


def test_it_parses() -> None:
    assert not TREE.has_error
    assert PARSER.parse(SOURCE[: SOURCE.rindex(b"}")]).root_node.has_error


def test_windows_powershell_reads_it_in_any_code_page() -> None:
    SOURCE.decode("ascii")
    assert b"#Requires -Version 5.1" in SOURCE


def test_everything_it_calls_exists() -> None:
    own = {said(each) for each in nodes(TREE, "function_name")}
    called = {name for name in commands() if name and not name.startswith("$")}
    assert called - own <= CMDLETS
    assert own <= called
    external = set(re.findall(r"Invoke-Program '([^']+)'", SOURCE.decode()))
    assert external == {"icacls.exe", "sc.exe"}


def test_every_variable_is_set_before_it_is_read() -> None:
    """Strict mode ends the script at one that is not; names are compared as PowerShell does, without case."""
    text = SOURCE.decode()
    known = {name.lower() for name in AUTOMATIC}
    known |= {name.lower() for name in re.findall(r"\$(\w+)\s*=", text)}
    known |= {name.lower() for name in re.findall(r"foreach \(\$(\w+) in", text)}
    known |= {said(each).removeprefix("$").lower() for part in nodes(TREE, "script_parameter")
              for each in nodes(part, "variable")}  # fmt: skip
    used = {said(each).strip("@${}").lower() for each in nodes(TREE, "variable")}
    assert "programdirectory" in used
    assert {name for name in used if not name.startswith("env:")} <= known


def test_every_program_that_fails_ends_it() -> None:
    """Cmdlets stop by the preference; programs only where their status is looked at."""
    text = SOURCE.decode()
    assert "$ErrorActionPreference = 'Stop'" in text
    assert "Set-StrictMode -Version Latest" in text
    # The call operator appears once, in the function that looks at the status.
    assert [call for calls in commands().values() for call in calls if call.startswith("&")] == ["& $Path @Arguments"]
    assert "$LASTEXITCODE -ne 0" in text


def test_services_are_those_of_the_definitions_and_removed_as_they_were_made() -> None:
    text = SOURCE.decode()
    [table] = re.findall(r"^\$Services = \[ordered\]@\{(.+)\}$", text, re.MULTILINE)
    services = dict(re.findall(r"'([\w-]+)' = '(\w+)'", table))
    assert services == {path.stem: etree.parse(path).getroot().findtext("id") for path in sorted(WINDOWS.glob("*.xml"))}
    for verb in ("Install-SemdService", "Remove-SemdService"):
        assert f"{verb} $name $Services[$name]" in text
    # Run again, it takes the old ones away first, before the files they run from are replaced.
    install = text[text.rindex("Assert-Wrapper") :]
    steps = ["Remove-SemdService", "Install-Package", "Install-SemdService", "Initialize-Data", "Start-Service -Name"]
    assert [install.index(step) for step in steps] == sorted(install.index(step) for step in steps)


def test_folders_are_those_of_the_definitions() -> None:
    text = SOURCE.decode()
    assert "$DataDirectory = Join-Path $env:ProgramData 'semd'" in text
    for path in WINDOWS.glob("*.xml"):
        service = etree.parse(path).getroot()
        assert service.findtext("workingdirectory") == r"%ProgramData%\semd"
        assert service.findtext("logpath") == r"%ProgramData%\semd\service-logs"
        assert service.findtext("executable") == r"%BASE%\venv\Scripts\semd.exe"
    assert "'service-logs'" in text
    assert r"'venv\Scripts\semd.exe'" in text


def test_data_are_never_deleted_and_the_configuration_is_not_the_services_to_write() -> None:
    text = SOURCE.decode()
    assert commands()["Remove-Item"] == ["Remove-Item -LiteralPath $ProgramDirectory -Recurse -Force"]
    assert "if (-not (Test-Path -LiteralPath $ConfigFile))" in text
    assert "Invoke-Program 'icacls.exe' @($ConfigFile, '/grant', \"NT SERVICE\\${id}:R\")" in text
    rights = re.findall(r"@\(\$ConfigFile, .*?\)\n", text, re.DOTALL)
    assert len(rights) == 2
    assert all(
        "}:F" not in right.replace("${Administrators}:F", "").replace("${LocalSystem}:F", "") for right in rights
    )


@pytest.mark.parametrize("word", ["Invoke-Expression", "Invoke-WebRequest", "Start-Process", "DownloadFile", "http:"])
def test_it_fetches_and_runs_nothing_from_elsewhere(word: str) -> None:
    assert word not in SOURCE.decode()
