"""What the Hub answers when it refuses, and what to do about it; and which repositories may be written to."""

import json

from huggingface_hub import HfApi, get_token
from huggingface_hub import utils as hub_utils
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
# A status -> what to do about it.
REFUSED = {
    401: f"the Hub does not know the token: {LOG_IN}",
    403: "the token may not write there: it needs the permission to write, in a namespace of yours",
}
PASSING_STATUS = {408, 409, 412, 429}  # and 5xx


def check_name(name: str) -> None:
    """Raises a `ValueError` if no repository can have that name."""
    if name.count("/") != 1:
        raise ValueError(f"a repository's name is user/name, got {name!r}")
    hub_utils.validate_repo_id(name)


def check_writer(user: dict, namespace: str) -> None:
    """Raises a `ValueError` if a token may not write in a namespace, as far as the Hub tells without being asked to.

    Args:
        user: what `HfApi.whoami` returns.
    """
    namespaces = [user["name"], *(organization["name"] for organization in user.get("orgs", ()))]
    if namespace not in namespaces:
        raise ValueError(f"the token is of {user['name']}, who may write to {', '.join(namespaces)}, not {namespace}")
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ValueError(f"the token of {user['name']} may only read, and a push needs one that may write")


def check_access(api: HfApi, name: str, kind: str = "model", private: bool | None = None, create: bool = True) -> None:
    """Asks the Hub whether the token may write to a repository, which need not be there.

    Args:
        name: `user/name`, or `name` for the token's user.
        kind: model, or space: of Gradio.
        private: of a repository that is created; None: as its namespace has it.
        create: make one that is not there: of what a token with permissions of its own may create, the Hub tells no
            more.

    Raises:
        ValueError: if there is no token, or it may not write there.
        HfHubHTTPError, OSError and others of huggingface_hub: if the Hub cannot be reached, or asks to come later.
    """
    if not (api.token or get_token()):
        raise ValueError(f"there is no token to write to {name!r} of the Hub: {LOG_IN}")
    sdk = "gradio" if kind == "space" else None
    try:
        name = name if "/" in name else f"{api.whoami()['name']}/{name}"
        try:
            api.auth_check(name, repo_type=kind, write=True)
        except RepositoryNotFoundError:
            check_writer(api.whoami(), name.split("/")[0])
            if create:
                api.create_repo(name, repo_type=kind, space_sdk=sdk, private=private, exist_ok=True)
    except HfHubHTTPError as error:
        if is_passing(error):
            raise
        raise ValueError(f"nothing can be pushed to {name!r} of the Hub: {refusal(error)}") from error


def is_passing(error: BaseException) -> bool:
    """Whether the same request may work later."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in PASSING_STATUS or error.response.status_code >= 500
    # A gateway's page in the place of the Hub's JSON is a ValueError, too.
    return isinstance(error, json.JSONDecodeError) or not isinstance(error, (ValueError, PermissionError))


def refusal(error: BaseException) -> str:
    """Why a push failed, in one line."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__  # what the network or the Hub said of a large file
    if isinstance(error, HfHubHTTPError) and error.response.status_code in REFUSED:
        return f"{REFUSED[error.response.status_code]}."
    text = " ".join(str(error).split())
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"
