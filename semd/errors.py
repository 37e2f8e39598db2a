"""The one tree of errors. Each class has a stable code that appears in logs and reason files.

This module imports nothing else of semd.
"""

from __future__ import annotations

from typing import ClassVar


class SemdError(Exception):
    """Base of every error semd raises on purpose.

    Attributes:
        code: stable identifier, `SEMD-<area><number>`; never reused for another meaning.
    """

    code: ClassVar[str] = "SEMD-000"

    def __str__(self) -> str:
        """Return the message with its code in front, as logs and reason files show it."""
        return f"{self.code}: {super().__str__()}"

    @property
    def message(self) -> str:
        """The message without the code."""
        return super().__str__()


class ConfigError(SemdError):
    """The configuration file is missing, malformed or contradicts itself."""

    code = "SEMD-C01"


class ModelError(SemdError):
    """A model file is missing, does not match its manifest or has the wrong shape."""

    code = "SEMD-M01"


class FrameError(SemdError):
    """A frame (image or parameters) cannot be used. Base of the reasons found in quarantine."""

    code = "SEMD-F00"


class ParameterTextError(FrameError):
    """Parameter text cannot be read: unknown encoding, a malformed or not finite value."""

    code = "SEMD-F01"


class ParameterMissingError(FrameError):
    """A needed parameter is absent."""

    code = "SEMD-F02"


class ParameterRangeError(FrameError):
    """A parameter lies outside the limits of the instrument."""

    code = "SEMD-F03"


class ImageIncompleteError(FrameError):
    """The image's bytes end early, or its tail was never written."""

    code = "SEMD-F04"


class ImageFormatError(FrameError):
    """The image is not what its name says, or cannot be decoded."""

    code = "SEMD-F05"


class ImageSizeError(FrameError):
    """The image has too many bytes or pixels, or is smaller than the network's input."""

    code = "SEMD-F06"


class PairIncompleteError(FrameError):
    """The other file of the pair did not arrive within the settle time, or a file is gone."""

    code = "SEMD-F07"


class FileUnreadableError(FrameError):
    """A file of the frame cannot be read: permission is missing, or its writer never releases it."""

    code = "SEMD-F08"


class FileLinkError(FrameError):
    """A file of the frame is a link, and links are not followed."""

    code = "SEMD-F09"


class AnswerFailedError(FrameError):
    """The scoring or the control machine failed on this frame, or ended the process repeatedly."""

    code = "SEMD-F10"


class ActionTextError(SemdError):
    """An action file breaks the protocol (field order, values, CRC32)."""

    code = "SEMD-A01"


class LedgerError(SemdError):
    """The ledger cannot be opened, or was not written by semd."""

    code = "SEMD-L01"


class LedgerDamagedError(LedgerError):
    """The ledger is damaged, or has lost rows that were committed."""

    code = "SEMD-L02"


class StorageError(SemdError):
    """A directory or file that must be written cannot be (full disk, read-only, vanished)."""

    code = "SEMD-S01"


class LinkError(SemdError):
    """The link to the microscope broke or spoke out of turn."""

    code = "SEMD-N01"


class DatasetError(SemdError):
    """A dataset or recording is missing, malformed or incomplete."""

    code = "SEMD-D01"


class TrainingError(SemdError):
    """Training cannot start or go on (bad checkpoint, not finite loss)."""

    code = "SEMD-T01"


class CalibrationError(SemdError):
    """The instrument cannot be calibrated: no focus found, or it does not do as it is told."""

    code = "SEMD-K01"


class BaselineError(SemdError):
    """A baseline method is not installed, returned no result or exceeded its frame budget."""

    code = "SEMD-E01"
