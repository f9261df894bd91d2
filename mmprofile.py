"""The import name `mmprofile` over the flat Hub repository.

The files of a Hub model repository stand at its root and import one another relatively. Setting `__path__` makes this
folder the package, so that `from mmprofile.modeling_mmprofile import ...` works from a checkout without installation.
The classes are imported when they are first asked for: a file that needs no torch is there at once.
"""

from importlib import import_module
from pathlib import Path

__path__ = [str(Path(__file__).parent)]
__version__ = "0.1.0"

_HOMES = {
    "MMProfileConfig": "configuration_mmprofile",
    "MMProfileForConditionalGeneration": "modeling_mmprofile",
    "MMProfilePreTrainedModel": "modeling_mmprofile",
    "MMProfileProcessor": "processing_mmprofile",
    "ProfileAttribute": "configuration_mmprofile",
    "ProfileSchema": "configuration_mmprofile",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
