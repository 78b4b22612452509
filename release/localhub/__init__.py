"""The embedded Hub: publish for real, on loopback, with the real client, before anything is public."""

from __future__ import annotations

from release.errors import ReleaseError

try:
    from release.localhub.app import create_app
    from release.localhub.auth import Account
    from release.localhub.fsck import Report, fsck
    from release.localhub.server import running_hub, serve
except ModuleNotFoundError as error:
    package = str(error.name).partition(".")[0]
    if package == "release":
        raise
    hint = "pip install 'ettin-release[localhub]'"
    raise ReleaseError(f"the embedded Hub needs the package {package}", hint=hint) from error

__all__ = ["Account", "Report", "create_app", "fsck", "running_hub", "serve"]
