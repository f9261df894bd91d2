"""The import name `mmprofile` over the flat Hub repository.

The files of a Hub model repository stand at its root and import one another relatively. Setting `__path__` makes this
folder the package, so that `from mmprofile.modeling_mmprofile import ...` works from a checkout without installation.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parent)]
__version__ = "0.1.0"

from mmprofile.configuration_mmprofile import MMProfileConfig, ProfileAttribute, ProfileSchema
from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration, MMProfilePreTrainedModel
from mmprofile.processing_mmprofile import MMProfileProcessor

__all__ = [
    "MMProfileConfig",
    "MMProfileForConditionalGeneration",
    "MMProfilePreTrainedModel",
    "MMProfileProcessor",
    "ProfileAttribute",
    "ProfileSchema",
]
