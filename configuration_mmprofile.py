"""What a profile is (`ProfileSchema`) and what the model is (`MMProfileConfig`)."""

import copy
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from string import capwords
from typing import Any, NamedTuple

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

ATTRIBUTE_SEPARATOR = " | "
NAME_SEPARATOR = ": "
VALUE_SEPARATOR = ", "
VISION_FEATURES = ("cls", "patches")
PARADIGMS = ("multimodal", "unimodal", "combined")
# How what a model makes of a user's views becomes one: the mean of their log-probabilities of a profile, the mean of
# their probabilities, or a decoder that attends to the states of all (fusion-in-decoder, Izacard and Grave, 2021).
COMBINATIONS = ("product", "mixture", "states")
LINEAR_WEIGHTS = ("float", "int8")
SWITCHES = {
    "vision_feature": VISION_FEATURES,
    "paradigm": PARADIGMS,
    "combination": COMBINATIONS,
    "linear_weights": LINEAR_WEIGHTS,
}

# One profile: attribute key -> its value, a list of values where the attribute takes several, None where unknown.
Profile = dict[str, str | list[str] | None]


@dataclass(frozen=True)
class ProfileAttribute:
    """One attribute of a profile. What has the same fields is equal, of whichever copy of this class: a checkpoint's
    configuration, processor and model load this file each for itself.

    Args:
        name: what the profile's text calls it, e.g. "Favorite Category".
        values: the values that it may take, in the order in which several are written.
        count: how many different values a profile takes, from 1 to `len(values)`.

    Raises:
        ValueError: if the name or a value is empty, repeated, padded with blanks or holds a separator of the text
            form, or if `count` does not fit.
    """

    name: str
    values: tuple[str, ...]
    count: int = 1

    def __post_init__(self):
        object.__setattr__(self, "values", tuple(self.values))
        for word in (self.name, *self.values):
            if not isinstance(word, str) or not word or " ".join(word.split()) != word or "<" in word:
                raise ValueError(
                    f"a name or value is non-empty text with single blanks between words and no '<', got {word!r}"
                    f" in attribute {self.name!r}"
                )
            if any(separator.strip() in word for separator in (ATTRIBUTE_SEPARATOR, NAME_SEPARATOR)):
                raise ValueError(f"a name or value holds neither '|' nor ':', got {word!r}")
        if not self.values or len(set(self.values)) < len(self.values):
            raise ValueError(f"attribute {self.name!r} needs different values, at least one, got {list(self.values)}")
        if type(self.count) is not int or not 1 <= self.count <= len(self.values):
            raise ValueError(
                f"attribute {self.name!r} takes from 1 to {len(self.values)} of its values, got count={self.count!r}"
            )
        if self.count > 1 and any(VALUE_SEPARATOR.strip() in value for value in self.values):
            raise ValueError(f"values of {self.name!r}, which takes {self.count}, hold no ',': {list(self.values)}")

    def __eq__(self, other) -> bool:
        if not _is_attribute(other):
            return NotImplemented
        return (self.name, self.values, self.count) == (other.name, other.values, other.count)

    @property
    def key(self) -> str:
        """The name in lower case with underscores: the column in a dataset and the key in a profile."""
        return self.name.lower().replace(" ", "_")


@dataclass(frozen=True, init=False)
class ProfileSchema:
    """The attributes of a profile, in order; it is data, and lives in `config.json`.

    Renders a profile to its one line of text, `Stars: 4 | Favorite Category: Pizza, Coffee & Tea | ...`, parses such
    a line back, and masks attributes. Several values stand in schema order, so that a profile has one text form.
    Schemas of the same attributes are equal, of whichever copy of this class.

    Args:
        attributes: `ProfileAttribute`s, or mappings with their fields; or another schema, whose attributes these are.
            Default: the six attributes of the paper (section 3, appendix A).

    Raises:
        ValueError: if there are no attributes, two have the same key, or one is named "Average".
    """

    attributes: tuple[ProfileAttribute, ...]

    def __init__(self, attributes: "Sequence[ProfileAttribute | Mapping] | ProfileSchema | None" = None):
        given = getattr(attributes, "attributes", attributes)  # those of a schema
        if given is not None and not isinstance(given, list | tuple):
            raise ValueError(f"a schema is a list of attributes, got {attributes!r}")
        own = tuple(map(_own_attribute, YELP_ATTRIBUTES if given is None else given))
        keys = [attribute.key for attribute in own]
        if not keys or len(set(keys)) < len(keys):
            raise ValueError(f"a schema has at least one attribute and different keys, got {keys}")
        if "average" in keys:
            raise ValueError("an attribute cannot be named Average: that is the key of the attributes' mean score")
        object.__setattr__(self, "attributes", own)

    def __eq__(self, other) -> bool:
        return self.attributes == other.attributes if hasattr(other, "attributes") else NotImplemented

    @classmethod
    def from_features(cls, features: Mapping) -> "ProfileSchema":
        """The schema of a dataset's `profile` column, from its `datasets` features.

        Args:
            features: key -> `ClassLabel`, or a list of `ClassLabel` whose length is the attribute's count. The name
                is the key with capitals: `favorite_category` becomes "Favorite Category".

        Raises:
            ValueError: if a feature is neither, or a list has no fixed length.
        """
        attributes = []
        for key, feature in features.items():
            label, count = feature, 1
            if hasattr(feature, "feature"):  # a list of labels
                label, count = feature.feature, feature.length
            if not hasattr(label, "names") or count < 1:
                raise ValueError(f"profile.{key} must be a ClassLabel or a List(ClassLabel, length=n), got {feature}")
            attributes.append(ProfileAttribute(capwords(key.replace("_", " ")), tuple(label.names), count))
            if attributes[-1].key != key:
                raise ValueError(f"a profile's columns are lower case with underscores, got {key!r}")
        return cls(tuple(attributes))

    def to_list(self) -> list[dict]:
        """The schema as JSON: one `{"name": ..., "values": [...], "count": ...}` an attribute."""
        return [{"name": a.name, "values": list(a.values), "count": a.count} for a in self.attributes]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(attribute.key for attribute in self.attributes)

    def profile_from_labels(self, labels: Mapping) -> Profile:
        """Class indices as a dataset stores them (int, or list of int) -> values.

        Raises:
            ValueError: if a key is missing or an index has no value.
        """
        profile = {}
        for attribute in self.attributes:
            indices = labels.get(attribute.key)
            many: Sequence[Any] = indices if isinstance(indices, list | tuple) else [indices]
            if not all(type(index) is int and 0 <= index < len(attribute.values) for index in many):
                raise ValueError(f"{attribute.key} takes indices from 0 to {len(attribute.values) - 1}, got {indices}")
            values = [attribute.values[index] for index in many]
            profile[attribute.key] = values[0] if attribute.count == 1 and len(values) == 1 else values
        return self.validate(profile)

    def validate(self, profile: Mapping) -> Profile:
        """The profile with its attributes and values in schema order.

        Raises:
            ValueError: if an attribute is missing or unknown, a value is not one of the attribute's, or their number
                is not its count.
        """
        if not isinstance(profile, Mapping) or set(profile) != set(self.keys):
            given = sorted(profile, key=str) if isinstance(profile, Mapping) else profile
            raise ValueError(f"a profile has the attributes {list(self.keys)}, got {reprlib.repr(given)}")
        checked = {attribute.key: _checked_value(attribute, profile[attribute.key]) for attribute in self.attributes}
        for attribute in self.attributes:
            if checked[attribute.key] is None:
                raise ValueError(
                    f"{attribute.name} takes {attribute.count} of {list(attribute.values)},"
                    f" got {reprlib.repr(profile[attribute.key])}"
                )
        return checked

    def render(self, profile: Mapping, masked: Collection[str] = (), mask_token: str = "<extra_id_0>") -> str:
        """A profile's one line of text, the attributes whose keys are in `masked` as `mask_token`.

        The default mask is T5's first sentinel, the paper's `<mask>` (section 5.1).

        Raises:
            ValueError: if the profile is not valid, or `masked` names no attribute of it.
        """
        profile = self.validate(profile)
        if unknown := set(masked) - set(self.keys):
            raise ValueError(f"only {list(self.keys)} can be masked, got {sorted(unknown)}")
        parts = []
        for attribute in self.attributes:
            value = profile[attribute.key]
            text = value if isinstance(value, str) else VALUE_SEPARATOR.join(value or ())
            parts.append(attribute.name + NAME_SEPARATOR + (mask_token if attribute.key in masked else text))
        return ATTRIBUTE_SEPARATOR.join(parts)

    def parse(self, text: str, strict: bool = True) -> Profile:
        """A line of text back to a profile.

        Args:
            text: e.g. `Stars: 4 | Budget Range: Low`.
            strict: if True, only a text that `render` gives back to the letter is taken. If False, every attribute
                that is missing, repeated with another value, or has a value that is not one of its own becomes
                `None`; blanks, capitals, the order of attributes and of values do not matter. Never an exception.

        Raises:
            ValueError: if `strict` and the text is not a valid profile's.
        """
        profile: Profile = dict.fromkeys(self.keys)
        by_name = {attribute.name.lower(): attribute for attribute in self.attributes}
        seen: dict[str, set] = {key: set() for key in self.keys}
        for part in str(text).split(ATTRIBUTE_SEPARATOR.strip()):
            name, _, values = part.partition(NAME_SEPARATOR.strip())
            attribute = by_name.get(" ".join(name.split()).lower())
            if attribute is None:
                continue
            value = _parsed_value(attribute, values)
            seen[attribute.key].add(str(value))
            profile[attribute.key] = value if len(seen[attribute.key]) == 1 else None
        if strict and (None in profile.values() or self.render(profile) != text):
            raise ValueError(f"not a profile of {list(self.keys)}: {text!r}, understood as {profile}")
        return profile


def _is_attribute(item) -> bool:
    """Whether it has an attribute's fields, as every copy of the class has."""
    return all(hasattr(item, field.name) for field in fields(ProfileAttribute))


def _own_attribute(item) -> ProfileAttribute:
    if isinstance(item, ProfileAttribute):
        return item
    if _is_attribute(item):
        return ProfileAttribute(item.name, item.values, item.count)
    if not isinstance(item, Mapping) or not {"name", "values"} <= set(item) <= {"name", "values", "count"}:
        raise ValueError(f'an attribute is {{"name": ..., "values": [...], "count": ...}}, got {item!r}')
    if isinstance(item["values"], str) or not isinstance(item["values"], Iterable):
        raise ValueError(f"the values of {item['name']!r} are a list of texts, got {item['values']!r}")
    return ProfileAttribute(**item)


def _checked_value(attribute: ProfileAttribute, value) -> str | list[str] | None:
    """The value, several in schema order; None where it is not valid."""
    many = [value] if isinstance(value, str) else value
    if not isinstance(many, list | tuple) or not all(isinstance(item, str) for item in many):
        return None
    if len(many) != attribute.count or len(set(many)) < len(many) or not set(many) <= set(attribute.values):
        return None
    ordered = sorted(many, key=attribute.values.index)
    return ordered[0] if attribute.count == 1 else ordered


def _parsed_value(attribute: ProfileAttribute, text: str) -> str | list[str] | None:
    spelled = {value.lower(): value for value in attribute.values}
    words = text.split(VALUE_SEPARATOR.strip()) if attribute.count > 1 else [text]
    values = [" ".join(word.split()) for word in words]
    return _checked_value(attribute, [v if v in attribute.values else spelled.get(v.lower(), v) for v in values])


YELP_ATTRIBUTES = (
    ProfileAttribute("Stars", ("1", "2", "3", "4", "5")),
    ProfileAttribute(
        "Favorite Category",
        (
            "Automotive",
            "Shopping",
            "Event Planning & Services",
            "Pizza",
            "Coffee & Tea",
            "Active Life",
            "Beauty & Spas",
            "Local Services",
            "Health & Medical",
            "Home Services",
        ),
        count=2,
    ),
    ProfileAttribute("Preferred Meal", ("Lunch", "Dinner")),
    ProfileAttribute("Budget Range", ("Low", "High")),
    ProfileAttribute("Discount Preference", ("True", "False")),
    ProfileAttribute("Service Preference", ("True", "False")),
)


class Sees(NamedTuple):
    """What a model was trained to see beside the reviews, and whether it was trained on users without a review."""

    images: bool
    captions: bool
    without_reviews: bool = False


class View(NamedTuple):
    """What an objective shows of a user: a text, its parts joined by "+", and a set of photos.

    Parts are reviews, captions, masked_captions and masked_profile, sets photos and masked_photos.
    """

    text: str
    photos: str | None = None


# Objective -> paradigm -> view (section 5 of the paper). One entry more is one objective more.
OBJECTIVES = {
    "fusion": {
        "multimodal": View("reviews", "photos"),
        "unimodal": View("reviews+captions"),
        "combined": View("reviews+captions", "photos"),
    },
    "text": {
        "multimodal": View("reviews"),
        "unimodal": View("reviews"),
        "combined": View("reviews"),
    },
    "mask_image": {
        "multimodal": View("reviews", "masked_photos"),
        "unimodal": View("reviews+masked_captions"),
        "combined": View("reviews+masked_captions", "masked_photos"),
    },
    "mask_profile": {
        "multimodal": View("masked_profile", "photos"),
        "unimodal": View("masked_profile+captions"),
        "combined": View("masked_profile+captions", "photos"),
    },
}
PAPER_OBJECTIVES = ("fusion", "text", "mask_image", "mask_profile")


def check_objectives(names: Iterable[str]) -> list[str]:
    """The names, if they are different ones of the table, at least one; else a `ValueError`."""
    names = list(names)
    if not names or len(set(names)) < len(names) or not set(names) <= set(OBJECTIVES):
        raise ValueError(f"objectives must be different ones of {list(OBJECTIVES)}, got {names}")
    return names


def seen_by(trained) -> Sees:
    """What a model sees of a user: what some objective of its training showed it (section 5 of the paper).

    Args:
        trained: has `paradigm` and `objectives`, None for the paper's four: a model's config, or the arguments of a
            training.

    Raises:
        ValueError: if an objective is unknown, as one of a checkpoint with code of its own may be.
    """
    objectives = getattr(trained, "objectives", None)  # a checkpoint with older code has no such field
    names = PAPER_OBJECTIVES if objectives is None else check_objectives(objectives)
    views = [OBJECTIVES[name][trained.paradigm] for name in names]
    return Sees(
        images=any(view.photos for view in views),
        captions=any("captions" in view.text for view in views),
        without_reviews=not all("reviews" in view.text for view in views),
    )


def _check_positive(schema: ProfileSchema, given: Any) -> None:
    if not isinstance(given, Mapping) or not set(given) <= set(schema.keys) or not all(map(_positive, given.values())):
        raise ValueError(
            f"temperatures and odds_powers are positive numbers by {list(schema.keys)}, got {reprlib.repr(given)}"
        )


def _check_precision_thresholds(schema: ProfileSchema, given: Any) -> None:
    if not isinstance(given, Mapping) or not set(given) <= set(schema.keys):
        raise ValueError(f"precision_thresholds are mappings by {list(schema.keys)}, got {reprlib.repr(given)}")
    for key, of_precisions in given.items():
        if not isinstance(of_precisions, Mapping) or not all(
            _is_share(precision) and _is_number(least) and 0 <= least <= 1
            for precision, least in of_precisions.items()
        ):
            raise ValueError(
                f"precision_thresholds of {key} are numbers from 0 to 1 by precisions, as text, got"
                f" {reprlib.repr(of_precisions)}"
            )


def _check_value_weights(schema: ProfileSchema, given: Any) -> None:
    values = {attribute.key: set(attribute.values) for attribute in schema.attributes}

    def fits(key: str, weights: Any) -> bool:
        known = isinstance(weights, Mapping) and set(weights) <= values.get(key, set())
        return known and all(map(_positive, weights.values()))

    if not isinstance(given, Mapping) or not all(fits(key, weights) for key, weights in given.items()):
        raise ValueError(f"value_weights are positive numbers by {list(values)} and values, got {reprlib.repr(given)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < float("inf")


def _is_share(text: Any) -> bool:
    try:
        return isinstance(text, str) and 0 < float(text) < 1
    except ValueError:
        return False


# What is fitted on a development split -> what checks it against the schema.
FITTED = {
    "temperatures": _check_positive,
    "odds_powers": _check_positive,
    "value_weights": _check_value_weights,
    "precision_thresholds": _check_precision_thresholds,
}


def _check_calibrations(schema: ProfileSchema, given: Any) -> None:
    if not isinstance(given, Mapping) or not set(given) <= set(COMBINATIONS):
        raise ValueError(f"calibrations are mappings by {list(COMBINATIONS)}, got {reprlib.repr(given)}")
    for combination, by_views in given.items():
        if not isinstance(by_views, Mapping) or not by_views or not all(map(_is_count, by_views)):
            found = reprlib.repr(by_views)
            raise ValueError(f"calibrations of {combination} are by numbers of views, as text, got {found}")
        for fit in by_views.values():
            if not isinstance(fit, Mapping) or not set(fit) <= set(FITTED):
                raise ValueError(f"calibrations have {list(FITTED)}, got {reprlib.repr(fit)}")
            for name, value in fit.items():
                FITTED[name](schema, value)


def _is_count(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and text[0] != "0"


class MMProfileConfig(PreTrainedConfig):
    r"""Configuration of `MMProfileForConditionalGeneration`.

    Args:
        text_config: T5's, mT5's or umT5's configuration, or its fields with its `model_type`; default: "t5".
        vision_config: that of a vision model with a state per patch, likewise; default: "vit".
        fusion: a name in `FUSIONS`: "gated" (text-guided attention and tanh gate, Eq. 6-8) or "concat" (the basic
            model, Eq. 3).
        vision_feature: "cls", the [CLS] state of each photo (section 4.2), or "patches", its patch states.
        profile_schema: `ProfileSchema`, or its list of attributes; default: the paper's six.
        paradigm: how the model was trained, and so what it expects (section 5): "multimodal", photos; "unimodal",
            captions; "combined", both.
        objectives: which of `OBJECTIVES` it was trained on; None: the paper's four. One trained on "text" alone has
            seen no photo and no caption, whatever the paradigm.
        view_reviews: how many reviews a view of a user's history has, at least 1: as many as in training.
        combination: of the views of a user, of `COMBINATIONS`; a model is trained with "states" or without.
        calibrations: combination -> number of views, as text, e.g. "8" -> what was fitted on the development split to
            users of whom so many views are read, see `calibration_mmprofile.fit_of_views`:

            - `temperatures`: attribute key -> what the probabilities of an answer are calibrated with, see
              `calibration_mmprofile.tempered`; without an entry 1;
            - `odds_powers`: likewise, the powers beside the temperatures, of attributes with one value;
            - `value_weights`: attribute key -> value -> what its calibrated probability is multiplied by where
              profiles are decided as "weighted";
            - `precision_thresholds`: attribute key -> precision, as text, e.g. "0.9" -> the least calibrated
              probability with which a value is decided so that this share of them is right; an attribute has no entry
              for a precision that it does not reach.

            Of a combination that has none, probabilities are the model's own, and "weighted" and `min_precision` are
            refused. They are of one schema: where it is replaced by another, they become None.
        linear_weights: "float", or "int8", see `int8_mmprofile`: of a checkpoint that was quantized, for inference.
        float_linears: of such a one, names of linear layers that were not.

    Raises:
        ValueError: if a switch has another value, an objective is unknown, the schema is not valid, or a number,
            temperature, precision, threshold or number of views is out of range or of no attribute.
    """

    model_type = "mmprofile"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(AutoConfig, model_type="t5"),
        "vision_config": SubConfigSpec(AutoConfig, model_type="vit"),
    }
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    text_config: Any = None  # a configuration, whatever it was made of
    vision_config: Any = None
    fusion: str = "gated"
    vision_feature: str = "cls"
    profile_schema: Any = None  # a `ProfileSchema`
    paradigm: str = "combined"
    objectives: list[str] | None = None
    view_reviews: int = 3
    combination: str = "product"
    calibrations: dict[str, dict[str, dict]] | None = None
    linear_weights: str = "float"
    float_linears: list[str] | None = None
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    eos_token_id: int | None = None
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.pad_token_id = self.text_config.pad_token_id
        self.eos_token_id = self.text_config.eos_token_id
        # T5 starts the decoder with the padding token.
        self.decoder_start_token_id = getattr(self.text_config, "decoder_start_token_id", None)
        if self.decoder_start_token_id is None:
            self.decoder_start_token_id = self.text_config.decoder_start_token_id = self.pad_token_id

    def __setattr__(self, name: str, value: Any):
        # Here, since `from_pretrained(..., fusion="concat")` sets what it is given once all else is made.
        fitting = SWITCHES.get(name)
        if name == "fusion":
            from .fusion_mmprofile import FUSIONS  # it imports torch

            fitting = list(FUSIONS)
        if fitting is not None and value not in fitting:
            raise ValueError(f"{name} must be one of {list(fitting)}, got {value!r}")
        if name == "objectives" and value is not None:
            value = check_objectives(value)
        if name == "profile_schema":
            value = ProfileSchema(value)
            if self.profile_schema is not None and value != self.profile_schema:
                self.calibrations = None
        if name == "view_reviews" and (type(value) is not int or value < 1):
            raise ValueError(f"view_reviews is a whole number of at least 1, got {value!r}")
        if name == "calibrations" and value is not None:
            _check_calibrations(ProfileSchema(self.profile_schema), value)
        super().__setattr__(name, value)

    @property
    def sees(self) -> Sees:
        """What the model was trained to see of a user."""
        return seen_by(self)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """T5's configuration; of its decoder alone, if asked for, with the decoder's number of layers.

        `generate` makes a cache of so many layers, and T5 counts its encoder's as `num_layers`.
        """
        config = super().get_text_config(decoder=decoder, encoder=encoder)
        if decoder and not encoder and config.num_decoder_layers != config.num_layers:
            config = copy.copy(config)
            config.num_layers = config.num_decoder_layers
        return config

    def to_dict(self) -> dict:
        return super().to_dict() | {"profile_schema": self.profile_schema.to_list()}


MMProfileConfig.register_for_auto_class()
