"""The signature of a repository by OpenSSF Model Signing: every file but the card, so that a corrected card does not break it.

The family file names who signs, so that card, staged folder and whoever verifies know whether there must be a signature: a key by
the fingerprint of its public half (`[family] signing_key`), whose private half is a PEM file that RELEASE_SIGNING_KEY names and
that never leaves its place; or, without any key, a CI job (`signing_identity`, `signing_provider`) for which Sigstore vouches.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.family import Signer
from release.files import copy_file, list_files, write_atomic

SIGNATURE, PUBLIC_KEY = "release.sig", "release.pub"  # in the repository
FILES = (SIGNATURE, PUBLIC_KEY)
UNSIGNED = ("README.md", SIGNATURE, ".cache")  # .cache is the client's own, where somebody downloads to a folder
VARIABLE = "RELEASE_SIGNING_KEY"
MISSING = "pip install 'ettin-release[sign]'"


def files(signer: Signer | None) -> tuple[str, ...]:
    """What a signature adds to a repository: by Sigstore the certificate is in it, and there is no key."""
    return FILES if signer and signer.key else (SIGNATURE,) if signer else ()


def sign(folder: Path, signer: Signer, earlier: Path) -> None:
    """Sign `folder`, or keep the signature of `earlier` where that signs the same: no two signatures of one content are equal.

    Raises:
        ReleaseError: No private key or identity is here, or it is another one than the family's.
    """
    if all((earlier / name).is_file() for name in files(signer)):
        for name in files(signer):
            copy_file(earlier / name, folder / name)
        if problem(folder, signer) is None:
            return
    from model_signing import hashing  # the extra `sign` brings it

    making = _by_key(folder, signer.key) if signer.key else _by_identity(signer)
    making.set_hashing_config(hashing.Config().set_ignored_paths(paths=UNSIGNED))
    try:
        making.sign(folder, folder / SIGNATURE)
    except Exception as error:  # of Sigstore's services, which have many
        hint = "an elliptic curve key is needed" if signer.key else "look at the network and the permission id-token"
        raise ReleaseError(f"cannot be signed ({_line(error)})", where=str(earlier), hint=hint) from error
    if line := problem(folder, signer):
        hint = "the family file names another identity than this job has: correct it, or run that job"
        raise ReleaseError(line, where="[family] signing_identity", hint=hint)


def _by_key(folder: Path, fingerprint: str) -> Any:
    """What signs with the private key that is named; its public half comes into `folder`."""
    path = os.environ.get(VARIABLE, "")
    if not path:
        hint = f"{VARIABLE}=key.pem, the private key of that fingerprint"
        raise ReleaseError(
            "the family file names a signing key, and no private key is named", where=VARIABLE, hint=hint
        )
    from cryptography.hazmat.primitives import serialization  # the extra `sign` brings these two
    from model_signing import signing

    try:
        private = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        hint = "openssl ecparam -genkey -name prime256v1 -noout -out key.pem makes one"
        raise ReleaseError(
            f"no private key in PEM without a password ({type(error).__name__})", where=path, hint=hint
        ) from error
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    write_atomic(folder / PUBLIC_KEY, private.public_key().public_bytes(serialization.Encoding.PEM, form))
    if (given := key_fingerprint(folder / PUBLIC_KEY)) != fingerprint:
        what = f"the private key has the fingerprint {given}, and the family file names {fingerprint}"
        raise ReleaseError(what, where=VARIABLE, hint="name the other key, or correct [family] signing_key")
    return signing.Config().use_elliptic_key_signer(private_key=path)


def _by_identity(signer: Signer) -> Any:
    """What signs as the CI job that this is; nobody is asked to log in, for a job has no browser.

    Raises:
        ReleaseError: This is no CI job that Sigstore knows, or Sigstore cannot be reached.
    """
    from model_signing import signing  # the extra `sign` brings these two
    from sigstore import oidc

    try:
        token = oidc.detect_credential()
    except Exception as error:  # a CI that gives this job no token
        raise ReleaseError(f"this job may not say who it is ({_line(error)})", hint=IDENTITY) from error
    if token is None:
        what = f"the family file says that {signer.identity} signs, and this is no CI job"
        raise ReleaseError(what, where="[family] signing_identity", hint=IDENTITY)
    try:
        return signing.Config().use_sigstore_signer(identity_token=token)
    except Exception as error:
        raise ReleaseError(f"Sigstore cannot be reached ({_line(error)})", hint="look at the network") from error


IDENTITY = "run make stage in that job, with `permissions: id-token: write`, or sign with a key ([family] signing_key)"


def key_fingerprint(public_key: Path) -> str:
    """The sha256 of a public key (DER): `openssl pkey -pubin -in release.pub -outform DER | sha256sum`."""
    from cryptography.hazmat.primitives import serialization  # the extra `sign` brings it

    key = serialization.load_pem_public_key(public_key.read_bytes())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def problem(folder: Path, signer: Signer) -> str | None:
    """What is wrong with the signature of a folder, None where it is that of the signer and of these files.

    Raises:
        ReleaseError: It cannot be checked here: a package is missing, or Sigstore's keys cannot be read.
    """
    if missing := [name for name in files(signer) if not (folder / name).is_file()]:
        return f"{missing[0]}: the family file says that it is signed, and it is not there"
    try:
        from model_signing import verifying

        config = verifying.Config()
        if signer.key is None:
            _trust(config, signer)
        elif key_fingerprint(folder / PUBLIC_KEY) != signer.key:
            return f"{PUBLIC_KEY}: not the key that the family file names"
        else:
            config.use_elliptic_key_verifier(public_key=folder / PUBLIC_KEY)
        config.verify(folder, folder / SIGNATURE)
        if names := sorted(_present(folder) - _signed(folder / SIGNATURE)):
            return f"{SIGNATURE}: does not sign {', '.join(names[:3])}"
    except ModuleNotFoundError as error:
        raise ReleaseError("a signature cannot be checked here", where=str(folder), hint=MISSING) from error
    except ReleaseError:
        raise
    except Exception as error:  # the library has no error of its own for what does not verify
        return f"{SIGNATURE}: does not sign these files ({_line(error)[:120]})"
    return None


def _trust(config: Any, signer: Signer) -> None:
    """Let `config` verify what that identity signed, by the keys that Sigstore publishes."""
    from sigstore.errors import Error  # the extra `sign` brings it

    try:
        config.use_sigstore_verifier(identity=signer.identity, oidc_issuer=signer.provider)
    except Error as error:
        what = f"the signature by {signer} cannot be checked here: Sigstore's keys cannot be read ({_line(error)})"
        raise ReleaseError(what, hint="look at the network, and run it again") from error


def _present(folder: Path) -> set[str]:
    """The files of a folder that a signature must cover."""
    return {name for name in list_files(folder) if name.split("/")[0] not in (*UNSIGNED, ".gitattributes")}


def _signed(signature: Path) -> set[str]:
    """The files that a verified statement covers: the library leaves out whatever the statement itself says is left out."""
    payload = json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]
    return {each["name"] for each in json.loads(base64.b64decode(payload))["predicate"]["resources"]}


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
