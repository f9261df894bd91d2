"""The import name `mmprofile` over the flat Hub repository, and the one way to the library's names.

The files of a Hub model repository stand at its root and import one another relatively. Setting `__path__` makes this
folder their package, so that `from mmprofile import ProfileSchema` works from a checkout without installation. A
name's file is imported when the name is first asked for: what needs no torch is there at once.

Programs and rooms take what they need from here; tests take what is not named here from its file, for example
`mmprofile.texts_mmprofile`. The rooms (`training`, `scoring` and so on) are packages of their own.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

__path__ = [str(Path(__file__).parent)]
__version__ = "0.1.0"

if TYPE_CHECKING:  # for editors, the same names once more; a test holds both lists together
    from calibration_mmprofile import DECISIONS as DECISIONS
    from calibration_mmprofile import calibrated as calibrated
    from calibration_mmprofile import check_decision as check_decision
    from calibration_mmprofile import confidence as confidence
    from calibration_mmprofile import fit_of_views as fit_of_views
    from calibration_mmprofile import likely_values as likely_values
    from calibration_mmprofile import marginal_profile as marginal_profile
    from calibration_mmprofile import probability_table as probability_table
    from calibration_mmprofile import tempered as tempered
    from calibration_mmprofile import thresholds_of as thresholds_of
    from configuration_mmprofile import ATTRIBUTE_SEPARATOR as ATTRIBUTE_SEPARATOR
    from configuration_mmprofile import COMBINATIONS as COMBINATIONS
    from configuration_mmprofile import FITTED as FITTED
    from configuration_mmprofile import OBJECTIVES as OBJECTIVES
    from configuration_mmprofile import PAPER_OBJECTIVES as PAPER_OBJECTIVES
    from configuration_mmprofile import PARADIGMS as PARADIGMS
    from configuration_mmprofile import VISION_FEATURES as VISION_FEATURES
    from configuration_mmprofile import MMProfileConfig as MMProfileConfig
    from configuration_mmprofile import Profile as Profile
    from configuration_mmprofile import ProfileAttribute as ProfileAttribute
    from configuration_mmprofile import ProfileSchema as ProfileSchema
    from configuration_mmprofile import Sees as Sees
    from configuration_mmprofile import View as View
    from configuration_mmprofile import check_objectives as check_objectives
    from configuration_mmprofile import seen_by as seen_by
    from fusion_mmprofile import FUSIONS as FUSIONS
    from fusion_mmprofile import FusedEncoderOutput as FusedEncoderOutput
    from fusion_mmprofile import Fusion as Fusion
    from fusion_mmprofile import join_views as join_views
    from generation_mmprofile import profile_users as profile_users
    from generation_mmprofile import sum_target_losses as sum_target_losses
    from generation_mmprofile import target_losses as target_losses
    from generation_mmprofile import write_profiles as write_profiles
    from images_mmprofile import Photo as Photo
    from images_mmprofile import is_address as is_address
    from images_mmprofile import load_rgb as load_rgb
    from images_mmprofile import shown_path as shown_path
    from int8_mmprofile import Int8Linear as Int8Linear
    from int8_mmprofile import fastest_weights as fastest_weights
    from int8_mmprofile import quantize_model as quantize_model
    from modeling_mmprofile import COMPANIONS as COMPANIONS
    from modeling_mmprofile import MMProfileForConditionalGeneration as MMProfileForConditionalGeneration
    from modeling_mmprofile import MMProfilePreTrainedModel as MMProfilePreTrainedModel
    from pipeline_mmprofile import UserProfilingPipeline as UserProfilingPipeline
    from processing_mmprofile import MMProfileProcessor as MMProfileProcessor
    from processing_mmprofile import join_padded as join_padded
    from processing_mmprofile import max_profile_tokens as max_profile_tokens
    from profile_constraint_mmprofile import AllowedTokens as AllowedTokens
    from profile_heuristic_mmprofile import Heuristic as Heuristic
    from profile_heuristic_mmprofile import SearchLimits as SearchLimits
    from profile_prefixes_mmprofile import branch_table as branch_table
    from profile_search_mmprofile import ProfileSearch as ProfileSearch
    from profile_trie_mmprofile import ProfileTrie as ProfileTrie
    from profile_trie_mmprofile import profile_trie as profile_trie
    from sections_mmprofile import EncodedText as EncodedText
    from texts_mmprofile import MASK_TOKEN as MASK_TOKEN
    from texts_mmprofile import SECTION_MARKS as SECTION_MARKS
    from texts_mmprofile import shown as shown
    from user_deletions_mmprofile import EncodedHistory as EncodedHistory
    from user_deletions_mmprofile import encode_deletions as encode_deletions
    from user_explanations_mmprofile import explain_user as explain_user
    from user_histories_mmprofile import MOST_VIEWS as MOST_VIEWS
    from user_histories_mmprofile import REVIEW_FIELDS as REVIEW_FIELDS
    from user_histories_mmprofile import UserView as UserView
    from user_histories_mmprofile import cut_history as cut_history
    from user_histories_mmprofile import photo_weights as photo_weights
    from user_histories_mmprofile import photos_of_parts as photos_of_parts
    from user_histories_mmprofile import split_reviews as split_reviews
    from user_histories_mmprofile import user_views as user_views
    from user_views_mmprofile import UserViews as UserViews

_NAMES = {
    "calibration_mmprofile": (
        "DECISIONS",
        "calibrated",
        "check_decision",
        "confidence",
        "fit_of_views",
        "likely_values",
        "marginal_profile",
        "probability_table",
        "tempered",
        "thresholds_of",
    ),
    "configuration_mmprofile": (
        "ATTRIBUTE_SEPARATOR",
        "COMBINATIONS",
        "FITTED",
        "OBJECTIVES",
        "PAPER_OBJECTIVES",
        "PARADIGMS",
        "VISION_FEATURES",
        "MMProfileConfig",
        "Profile",
        "ProfileAttribute",
        "ProfileSchema",
        "Sees",
        "View",
        "check_objectives",
        "seen_by",
    ),
    "fusion_mmprofile": ("FUSIONS", "FusedEncoderOutput", "Fusion", "join_views"),
    "generation_mmprofile": ("profile_users", "sum_target_losses", "target_losses", "write_profiles"),
    "images_mmprofile": ("Photo", "is_address", "load_rgb", "shown_path"),
    "int8_mmprofile": ("Int8Linear", "fastest_weights", "quantize_model"),
    "modeling_mmprofile": ("COMPANIONS", "MMProfileForConditionalGeneration", "MMProfilePreTrainedModel"),
    "pipeline_mmprofile": ("UserProfilingPipeline",),
    "processing_mmprofile": ("MMProfileProcessor", "join_padded", "max_profile_tokens"),
    "profile_constraint_mmprofile": ("AllowedTokens",),
    "profile_heuristic_mmprofile": ("Heuristic", "SearchLimits"),
    "profile_prefixes_mmprofile": ("branch_table",),
    "profile_search_mmprofile": ("ProfileSearch",),
    "profile_trie_mmprofile": ("ProfileTrie", "profile_trie"),
    "sections_mmprofile": ("EncodedText",),
    "texts_mmprofile": ("MASK_TOKEN", "SECTION_MARKS", "shown"),
    "user_deletions_mmprofile": ("EncodedHistory", "encode_deletions"),
    "user_explanations_mmprofile": ("explain_user",),
    "user_histories_mmprofile": (
        "MOST_VIEWS",
        "REVIEW_FIELDS",
        "UserView",
        "cut_history",
        "photo_weights",
        "photos_of_parts",
        "split_reviews",
        "user_views",
    ),
    "user_views_mmprofile": ("UserViews",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
if not TYPE_CHECKING:
    __all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
