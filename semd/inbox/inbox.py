"""The inbox: the files in the watch directory, and the frames among them that are complete (protocol, section 1).

The scan is the truth and events are hints. "Complete" is judged from the content of both files, and only once
the writer has let go of them: each was closed or renamed into place since it last changed, or has rested.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semd.config import WatchConfig, default
from semd.errors import (
    FileLinkError,
    FileUnreadableError,
    FrameError,
    ImageFormatError,
    ImageSizeError,
    PairIncompleteError,
    ParameterRangeError,
)
from semd.inbox.frame import LoadedFrame, RejectedFrame
from semd.inbox.load import FrameLoader
from semd.inbox.pair_file import read_pair_file
from semd.inbox.watch import Hints
from semd.protocol.pairing import Candidate, natural_key, pair_names
from semd.service.failpoints import Failpoint, reach
from semd.service.storage import storage_error

Signature = tuple[str, int, int, int]
"""(name, size, mtime_ns, ctime_ns) of one file."""
Fingerprint = tuple[Signature, ...]

_TESCAN_HEADER = re.compile(r"-(?:tif|tiff|png|jpg|jpeg|bmp)$", re.IGNORECASE)
_FINAL = (ParameterRangeError, ImageFormatError, ImageSizeError, FileLinkError, FileUnreadableError)
"""Errors that more bytes will not mend, once the files have rested."""
_SCAN_S_PER_FILE = 1e-4
"""The full scan waits this long for each file there is, ten times what it takes: 40,000 files, every 4 s."""
_AT_ONCE = 32
"""Frames handed on by one poll: a backlog of thousands is not decoded into memory first."""


@dataclass(frozen=True, slots=True)
class Item:
    """A frame ready to be answered or rejected, and how its files looked when they were read."""

    content: LoadedFrame | RejectedFrame
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class InboxTimeouts:
    """Timeouts of the inbox.

    Attributes:
        rescan_s: period of the full scan.
        quiet_s: rest after the last change when no event says that the writer has closed the files.
        settle_s: rest after which an incomplete frame is given up.
        unreadable_s: rest after which one whose files cannot be read is.
    """

    rescan_s: float = default(WatchConfig, "rescan_s")
    quiet_s: float = default(WatchConfig, "quiet_s")
    settle_s: float = default(WatchConfig, "settle_s")
    unreadable_s: float = default(WatchConfig, "unreadable_s")


@dataclass(slots=True)
class _PendingFrame:
    """A stem that is not settled.

    Attributes:
        candidate: its files' names.
        fingerprint: of its files when last looked at.
        changed_s: when that was first seen.
        closed: names closed since they last changed.
        next_look_s: nothing can change before this but by an event.
        is_held: True where a file could not be read at the last attempt.
    """

    candidate: Candidate
    fingerprint: Fingerprint
    changed_s: float
    closed: set[str]
    next_look_s: float = float("-inf")
    is_held: bool = False


class Inbox:
    """Finds complete frames.

    Args:
        directory: the watch directory.
        loader: reads them.
        timeouts: how long to wait.
        is_known: True where files that look like this were answered before (the ledger).
    """

    def __init__(
        self,
        directory: Path,
        loader: FrameLoader,
        timeouts: InboxTimeouts,
        is_known: Callable[[Fingerprint], bool],
    ) -> None:
        self._directory = directory
        self._loader = loader
        self._timeouts = timeouts
        self._is_known = is_known
        self._files: dict[str, dict[str, Signature]] = {}
        self._settled: dict[str, Fingerprint] = {}
        self._pending: dict[str, _PendingFrame] = {}
        self._last_scan_s = float("-inf")
        self._looked_s = float("-inf")
        self._rescan_s = timeouts.rescan_s
        self._usual_lines = 0
        self._usually_ended = False

    @property
    def waiting(self) -> int:
        """Frames seen but not complete."""
        return len(self._pending)

    @property
    def unreadable(self) -> int:
        """Frames among them of which a file cannot be read, though it has long been left alone."""
        since_s = self._looked_s - self._timeouts.settle_s
        return sum(seen.is_held and seen.changed_s <= since_s for seen in self._pending.values())

    def poll(self, hints: Hints, now_s: float, *, force_rescan: bool = False) -> list[Item]:
        """Look at what the hints name, and at everything once in a while.

        Args:
            hints: from the watch.
            now_s: a monotonic clock.
            force_rescan: scan everything now: events may have been lost.

        Returns:
            Frames that are ready, in the order in which their files were finished; the first of them when there
            are many. Each comes again until `settle` is called for it.

        Raises:
            StorageError: the directory cannot be scanned.
        """
        self._looked_s = now_s
        if hints.lost:
            for seen in self._pending.values():
                seen.closed.clear()  # it may have been written to since, and nobody told
        touched = {self._group(name) for name in hints.touched}
        if force_rescan or hints.lost or now_s - self._last_scan_s >= self._rescan_s:
            touched |= self._scan()
            self._last_scan_s = now_s
        for name in hints.touched:
            self._look(name)
        for group in touched:
            self._notice(group, hints, now_s)
        due = [seen for seen in self._pending.values() if seen.next_look_s <= now_s]
        items: list[Item] = []
        for seen in sorted(due, key=_finished):
            item = self._judge(seen, now_s)
            if item is not None:
                items.append(item)
                if len(items) == _AT_ONCE:
                    break
        return items

    def settle(self, item: Item) -> None:
        """The frame was answered or rejected: do not hand it out again while it looks like this."""
        group = self._group(item.fingerprint[0][0])
        self._settled[group] = item.fingerprint
        self._pending.pop(group, None)

    def next_look_s(self, now_s: float) -> float:
        """Seconds until the next look is due without any event."""
        due = [
            self._last_scan_s + self._rescan_s,
            *(seen.next_look_s for seen in self._pending.values()),
        ]
        return max(0.0, min(due) - now_s)

    def _scan(self) -> set[str]:
        """Read the whole directory; returns the groups that look different from what was settled."""
        found: dict[str, dict[str, Signature]] = {}
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    try:
                        signature = _sign(entry.name, entry.stat(follow_symlinks=False))
                    except OSError:
                        continue  # gone again, or nobody's to ask about: none hides the others
                    if signature is not None:
                        found.setdefault(self._group(entry.name), {})[entry.name] = signature
        except OSError as error:
            self._last_scan_s = float("-inf")
            raise storage_error(self._directory, "scan", error) from error
        # An event may have told of it before: then it is in the first no more.
        for gone in (self._files.keys() | self._settled.keys()) - found.keys():
            self._settled.pop(gone, None)
            self._pending.pop(gone, None)
        self._files = found
        self._rescan_s = max(self._timeouts.rescan_s, _SCAN_S_PER_FILE * sum(map(len, found.values())))
        return {group for group, files in found.items() if set(self._settled.get(group, ())) != set(files.values())}

    def _look(self, name: str) -> None:
        """Read one file's signature anew."""
        group = self._group(name)
        try:
            signature = _sign(name, (self._directory / name).lstat())
        except OSError:
            signature = None
        if signature is not None:
            self._files.setdefault(group, {})[name] = signature
        else:
            self._files.get(group, {}).pop(name, None)
            if not self._files.get(group):
                self._files.pop(group, None)

    def _notice(self, group: str, hints: Hints, now_s: float) -> None:
        """Keep what is known of a group's files up to date; reads none of them."""
        names = self._files.get(group, {})
        candidate = next(iter(pair_names(names, self._loader.dialect)), None)
        if candidate is None:
            self._pending.pop(group, None)
            return
        fingerprint = tuple(names[name] for name in (candidate.image, candidate.text) if name is not None)
        if fingerprint == self._settled.get(group):
            self._pending.pop(group, None)
            return
        seen = self._pending.get(group)
        if seen is None and self._is_known(fingerprint):
            self._settled[group] = fingerprint
            return
        if seen is None or seen.fingerprint != fingerprint:
            # Of a settled frame whose files are written anew one half may be old: no close of it is remembered.
            same = set(seen.fingerprint if seen is not None else ()) & set(fingerprint)
            closed = seen.closed & {signature[0] for signature in same} if seen is not None else set()
            seen = self._pending[group] = _PendingFrame(candidate, fingerprint, now_s, closed)
        rewritten = (hints.touched - hints.closed) & names.keys()
        if rewritten & seen.closed:
            # Written again within one tick of the file system's clock, at the same size: looks the same, is not.
            seen.closed -= rewritten
            seen.changed_s = now_s
        seen.closed |= hints.closed & names.keys()
        if hints.touched & names.keys():
            seen.next_look_s = now_s

    def _judge(self, seen: _PendingFrame, now_s: float) -> Item | None:
        """Decide whether an open frame is complete, hopeless, or to be waited for."""
        rest_s = now_s - seen.changed_s
        item = self._judge_pair(seen, rest_s) if seen.candidate.whole else self._judge_incomplete(seen, rest_s)
        if item is None:
            timeouts = self._timeouts
            waits = (timeouts.quiet_s, 2 * timeouts.quiet_s, timeouts.settle_s / 4, timeouts.settle_s)
            due = (seen.changed_s + wait for wait in waits)
            # What its writer still holds after all this is tried again and again.
            seen.next_look_s = min((moment for moment in due if moment > now_s), default=now_s + timeouts.quiet_s)
        else:
            seen.next_look_s = now_s
        return item

    def _judge_pair(self, seen: _PendingFrame, rest_s: float) -> Item | None:
        timeouts = self._timeouts
        let_go = {signature[0] for signature in seen.fingerprint} <= seen.closed
        if not let_go and rest_s < timeouts.quiet_s:
            return None
        reach(Failpoint.FRAME_PICKED_UP)
        content = self._read(seen, rest_s)
        if content is None:
            return None
        error = content.image_error if isinstance(content, LoadedFrame) else content.error
        final = isinstance(error, _FINAL) and rest_s >= 2 * timeouts.quiet_s
        return Item(content, seen.fingerprint) if error is None or final or rest_s >= timeouts.settle_s else None

    def _read(self, seen: _PendingFrame, rest_s: float) -> LoadedFrame | RejectedFrame | None:
        """Read both files; None when they changed meanwhile, are held by their writer or seem unfinished."""
        candidate = seen.candidate
        image_path = self._directory / str(candidate.image)
        text_path = self._directory / candidate.text if candidate.text is not None else None
        give_up_s = self._timeouts.unreadable_s
        seen.is_held = False
        try:
            image = read_pair_file(image_path, self._loader.read_image, rest_s, give_up_s)
            text = read_pair_file(text_path, self._loader.read_text, rest_s, give_up_s)
            now = tuple(_sign(name, (self._directory / name).lstat()) for name, *_ in seen.fingerprint)
        except OSError as held:
            seen.is_held = not isinstance(held, FileNotFoundError)
            return None
        if now != seen.fingerprint:
            return None
        # Where the image carries the parameters, it is as needed for them as the text is elsewhere.
        error = text.error or (image.error if text_path is None else None)
        if error is not None:
            return RejectedFrame(candidate.stem, image_path, text_path, image.digest, text.digest, error)
        if text_path is not None and not self._text_seems_whole(text.data, rest_s):
            return None
        try:
            frame = self._loader.build(candidate.stem, image_path, text_path, image.data, text.data, image.error)
        except FrameError as found:
            return RejectedFrame(candidate.stem, image_path, text_path, image.digest, text.digest, found)
        if frame.image_error is None:
            self._usual_lines = text.data.count(b"\n")
            self._usually_ended = _ends_a_line(text.data)
        return frame

    def _text_seems_whole(self, text: bytes, rest_s: float) -> bool:
        """A text that ends within a line, or has fewer lines than the last, may have more to come."""
        timeouts = self._timeouts
        if not _ends_a_line(text):
            longest_s = max(2 * timeouts.quiet_s, timeouts.settle_s / 4)
            return rest_s >= (longest_s if self._usually_ended else 2 * timeouts.quiet_s)
        return text.count(b"\n") >= self._usual_lines or rest_s >= timeouts.quiet_s

    def _judge_incomplete(self, seen: _PendingFrame, rest_s: float) -> Item | None:
        if rest_s < self._timeouts.settle_s:
            return None
        candidate = seen.candidate
        image_path = self._directory / candidate.image if candidate.image is not None else None
        text_path = self._directory / candidate.text if candidate.text is not None else None
        there, missing = ("image", "parameter text") if image_path is not None else ("parameter text", "image")
        give_up_s = self._timeouts.unreadable_s
        seen.is_held = False
        try:
            image = read_pair_file(image_path, self._loader.read_image, rest_s, give_up_s)
            text = read_pair_file(text_path, self._loader.read_text, rest_s, give_up_s)
        except OSError as held:
            seen.is_held = not isinstance(held, FileNotFoundError)
            return None
        error = (
            image.error
            or text.error
            or PairIncompleteError(
                f"{there} {seen.fingerprint[0][0]!r} rested {self._timeouts.settle_s:g} s and its {missing} never came"
            )
        )
        image_digest = image.digest if image_path is not None else None
        text_digest = text.digest if text_path is not None else None
        return Item(
            RejectedFrame(candidate.stem, image_path, text_path, image_digest, text_digest, error), seen.fingerprint
        )

    def _group(self, name: str) -> str:
        """Files of one frame share a group: the stem, also for TESCAN's `a-tif.hdr`."""
        stem, _, suffix = name.rpartition(".")
        return _TESCAN_HEADER.sub("", stem) if suffix.lower() == "hdr" else stem


def _sign(name: str, found: os.stat_result) -> Signature | None:
    """Signature of a file; None for anything but a file or a link, since reading a pipe would never end."""
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        return None
    return name, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _ends_a_line(text: bytes) -> bool:
    """Return True if the last line is ended; the zero bytes are UTF-16's."""
    return text.rstrip(b"\0").endswith((b"\n", b"\r"))


def _finished(seen: _PendingFrame) -> tuple[int, object]:
    return max(signature[2] for signature in seen.fingerprint), natural_key(seen.candidate.stem)
