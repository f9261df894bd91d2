"""What the Hub answers when it refuses, and what to do about it; and which names a repository may have."""

from huggingface_hub import utils as hub_utils
from huggingface_hub.errors import HfHubHTTPError

# A status -> what to do about it.
REFUSED = {
    401: "the Hub does not know the token: log in with `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there: it needs the permission to write, in a namespace of yours",
}


def check_name(name: str) -> None:
    """Raises a `ValueError` if no repository can have that name."""
    if name.count("/") != 1:
        raise ValueError(f"a repository's name is user/name, got {name!r}")
    hub_utils.validate_repo_id(name)


def refusal(error: BaseException) -> str:
    """Why a push failed, in one line."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__  # what the network or the Hub said of a large file
    if isinstance(error, HfHubHTTPError) and error.response.status_code in REFUSED:
        return f"{REFUSED[error.response.status_code]}."
    text = " ".join(str(error).split())
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"
