"""What may be published of the names that a run was given: those of the Hub, and of this machine's folders the last
part alone."""

from pathlib import Path, PureWindowsPath

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


def is_on_hub(name: str) -> bool:
    """Whether `from_pretrained` and `load_dataset` take a name for a Hub repository's: what is here comes first."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def public_name(name: str) -> str:
    """A Hub name as it is, of a folder the last part only, with either separator."""
    return name if is_on_hub(name) else PureWindowsPath(name).name or "a local folder"


def portable_name(name: str) -> str:
    """`public_name` as a file can keep it: a folder's is `./NAME`, which is a Hub repository's on no machine."""
    return name if is_on_hub(name) else f"./{public_name(name)}"


def link(name: str, kind: str = "") -> str | None:
    """A link in Markdown to a Hub repository, None of a folder; `kind` is "datasets/" of a corpus."""
    return f"[{name}](https://huggingface.co/{kind}{name})" if is_on_hub(name) else None
