"""Fates of the action files: where they lie, and which of them reached the SEM over the link."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from isem_aisem import AisemServer, WdMag
from isem_protocol import MalformedActionError, ReadAction, read_action
from isem_server import TextServer

FOLDERS: Final = (".", "sent", "refused", "expired", "uncertain")
# Half a digit of the action file's four decimals, and a little for the command's own rounding.
_WD_ROUNDING_MM: Final = 6e-5


@dataclass(frozen=True, slots=True)
class FiledAction:
    """An action file where it lies; `action` is None when the file is malformed, `fault` says why."""

    folder: str
    name: str
    action: ReadAction | None
    fault: str


def filed_actions(actions_dir: Path, axes: tuple[str, ...]) -> list[FiledAction]:
    """Return every `action-*.txt` in the action directory and its folders, ordered by name.

    A file that moves while this looks may be missed or come twice.
    """
    found = []
    for path in actions_dir.rglob("action-*.txt"):
        folder = str(path.parent.relative_to(actions_dir))
        try:
            payload = path.read_bytes()
        except FileNotFoundError:
            continue
        try:
            found.append(FiledAction(folder, path.name, read_action(payload, axes), ""))
        except MalformedActionError as error:
            found.append(FiledAction(folder, path.name, None, str(error)))
    return sorted(found, key=lambda filed: filed.name)


def text_problems(link: TextServer, filed: list[FiledAction], *, kills: int) -> list[str]:
    """Compare the files with what the `text` link received, acknowledged and refused.

    Args:
        link: The SEM's end.
        filed: Every action file after the processes ended.
        kills: How often the client was killed; each kill excuses one resend.
    """
    by_id = {f.action.action_id: f for f in filed if f.action}
    found = []
    for action in (*link.applied, *link.refused):
        file = by_id.get(action.action_id)
        if file is None or file.action is None:
            found.append(f"SEQ={action.seq} was sent, but its file is nowhere")
            continue
        if file.action.payload != action.payload:
            found.append(f"SEQ={action.seq} was sent with other bytes than its file's")
        if action.action_id in link.acknowledged and file.folder != "sent":
            found.append(f"SEQ={action.seq} was acknowledged, its file is in {file.folder}")
        if action in link.refused and file.folder != "refused":
            found.append(f"SEQ={action.seq} was refused, its file is in {file.folder}")
    for key, file in by_id.items():
        if file.folder == "sent" and key not in link.order.receipts:
            found.append(f"{file.folder}/{file.name} never reached the SEM")
        if file.folder in (".", "uncertain", "expired"):
            found.append(f"{file.folder}/{file.name} was left")
    spare = sum(max(0, n - 1 - link.excused.get(key, 0)) for key, n in link.order.receipts.items())
    if spare > kills:
        found.append(f"{spare} messages sent again without a reason (client kills: {kills})")
    return found


def aisem_problems(link: AisemServer, filed: list[FiledAction]) -> list[str]:
    """Match the commands, in order, to actions by SEQ; each action explains at most one command.

    The dialect has no ids, so a second command for one action is a command that no later action explains. An action
    that answers a frame from before the last command is superseded: it lies in `expired` and explains none.
    """
    moves = [
        f.action
        for f in sorted(filed, key=lambda f: f.name)
        if f.action and f.action.status != "DONE" and f.folder in ("sent", "uncertain")
    ]
    found = []
    queue = iter(moves)
    for number, command in enumerate(link.commands, start=1):
        if not any(_explains(action, command) for action in queue):
            found.append(f"command {number} {command} was sent for no action, or twice")
            break
    asked = sum(f.folder == "sent" and f.action is not None and f.action.status in ("ADJUST", "HOLD") for f in filed)
    if asked > len(link.commands):
        found.append(f"{asked} moves lie in sent, the SEM got {len(link.commands)} commands")
    # An action may be superseded by one that answers a newer frame and was sent; nothing else may expire here.
    newest = max((action.seq for action in moves), default=0)
    found += [
        f"{f.folder}/{f.name} was left"
        for f in filed
        if f.folder == "expired" and (f.action is None or f.action.seq > newest)
    ]
    return found


def _explains(action: ReadAction, command: WdMag) -> bool:
    return (
        abs(action.targets["wd"] - command.wd_mm) < _WD_ROUNDING_MM
        and abs(action.magnification - command.magnification) <= 1e-3 * action.magnification
    )
