"""Access tokens as Entra ID gives them: JWTs with an audience and an end, here signed with the emulator's own key."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

import jwt

from intermodal.backends.azureml.emulator.identity import AML_RESOURCE, Identity

_LIFETIME = 3600
_ALGORITHM = "HS256"


class BadToken(Exception):
    """A token that the service refuses; the text says why, as the service does."""


def make_token(identity: Identity, audience: str, *, run: str = "", lifetime: float = _LIFETIME) -> tuple[str, int]:
    """Return a token and when it ends (seconds since the epoch). `run` binds it to one run; `lifetime` may be negative."""
    now = int(time.time())
    ends = int(now + lifetime)
    claims: dict[str, Any] = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{identity.tenant}/",
        "iat": now,
        "nbf": min(now, ends) - 300,
        "exp": ends,
        "tid": identity.tenant,
        "oid": identity.id,
        "name": "emulator",
    }
    if run:
        claims["run"] = run
    return jwt.encode(claims, identity.token_key, algorithm=_ALGORITHM), ends


def check_token(identity: Identity, token: str, audiences: Collection[str]) -> Mapping[str, Any]:
    """Return the claims of a token that is valid now for one of the audiences (a final slash does not count). Raises BadToken."""
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token, identity.token_key, algorithms=[_ALGORITHM], options={"verify_aud": False, "require": ["exp", "aud"]}
        )
    except jwt.ExpiredSignatureError as error:
        raise BadToken("The access token expiry UTC time is earlier than current UTC time.") from error
    except jwt.InvalidTokenError as error:
        raise BadToken(f"The access token is invalid: {error}.") from error
    audience = str(claims["aud"]).rstrip("/")
    if audience not in {known.rstrip("/") for known in audiences}:
        raise BadToken(f"The access token has been obtained for wrong audience or resource '{audience}'.")
    return claims


def check_user_token(identity: Identity, token: str) -> None:
    """Check the token of the header x-azureml-token, with which a pipeline job runs as its user. Raises BadToken."""
    check_token(identity, token, {AML_RESOURCE})
