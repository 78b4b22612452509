"""The one kind of error that people see: what was wrong, where, and a hint what to do."""

from __future__ import annotations

import errno

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ReleaseError(Exception):
    """An error for people, printed as one line and turned into exit status 1 by the command line.

    Args:
        what: What is wrong, without a final full stop ("unknown size '69m'").
        where: The file, key, row or endpoint it was found at.
        hint: What to do or type next.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        parts = [what, f"in {where}" if where else None, f"hint: {hint}" if hint else None]
        super().__init__("; ".join(part for part in parts if part))


class CannotRun(ReleaseError):
    """A model is here, and this machine or these libraries cannot run it, or not in one configuration."""


def disk_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of space, or of a quota or limit; safetensors and torch only say so in their text."""
    return getattr(error, "errno", None) in NO_SPACE or "No space left on device" in str(error)
