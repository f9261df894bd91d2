"""`ProfileSchema` is data with one text form; `MMProfileConfig` keeps it, and both towers, through config.json."""

import importlib.util
import json
import sys
from typing import Any

import pytest
from datasets import ClassLabel, Value
from datasets import List as ListFeature

from mmprofile import configuration_mmprofile
from mmprofile.configuration_mmprofile import MMProfileConfig, ProfileAttribute, ProfileSchema

PROFILE = {
    "stars": "4",
    "favorite_category": ["Pizza", "Coffee & Tea"],
    "preferred_meal": "Dinner",
    "budget_range": "Low",
    "discount_preference": "True",
    "service_preference": "True",
}
TEXT = (
    "Stars: 4 | Favorite Category: Pizza, Coffee & Tea | Preferred Meal: Dinner | Budget Range: Low"
    " | Discount Preference: True | Service Preference: True"
)
UNKNOWN = dict.fromkeys(PROFILE)


def changed(**values) -> dict:
    return PROFILE | values


def test_a_profile_has_one_text_form_and_is_read_back_from_it():
    schema = ProfileSchema()
    assert schema.render(PROFILE) == TEXT
    assert schema.render(changed(favorite_category=["Coffee & Tea", "Pizza"])) == TEXT
    assert schema.render(dict(reversed(PROFILE.items()))) == TEXT
    assert schema.parse(TEXT) == PROFILE


def test_masked_attributes_are_written_as_the_mask():
    text = ProfileSchema().render(PROFILE, masked={"stars", "favorite_category"}, mask_token="[M]")
    assert text.startswith("Stars: [M] | Favorite Category: [M] | Preferred Meal: Dinner | ")
    assert ProfileSchema().render(PROFILE, ["stars"]).startswith("Stars: <extra_id_0> | Favorite Category: Pizza, ")


def test_masking_an_attribute_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"can be masked, got \['age'\]"):
        ProfileSchema().render(PROFILE, masked=["age"])


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"stars": "4"}, r"a profile has the attributes .*, got \['stars'\]"),
        (changed(age="4"), "a profile has the attributes"),
        (None, "got None"),
        (changed(stars="6"), "Stars takes 1 of .*, got '6'"),
        (changed(stars=4), "got 4"),
        (changed(stars=None), "got None"),
        (changed(stars=["4", "5"]), "takes 1 of"),
        (changed(favorite_category="Pizza"), "Favorite Category takes 2 of .*, got 'Pizza'"),
        (changed(favorite_category=["Pizza", "Pizza"]), "takes 2 of"),
        (changed(favorite_category=["Pizza", "Sushi"]), "got .*'Sushi'"),
    ],
)
def test_an_invalid_profile_is_refused_with_what_was_given(profile, message):
    with pytest.raises(ValueError, match=message):
        ProfileSchema().render(profile)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Stars: 4",
        TEXT.lower(),
        TEXT + " ",
        TEXT + " | Stars: 4",
        TEXT.replace("Pizza, ", "Sushi, "),
        TEXT.replace("Pizza, ", "Shopping, Pizza, "),
    ],
)
def test_strict_parsing_takes_nothing_but_the_text_form(text):
    with pytest.raises(ValueError, match="not a profile of"):
        ProfileSchema().parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT.lower().replace(" | ", "|"), PROFILE),
        (" | ".join(reversed(TEXT.split(" | "))), PROFILE),
        (TEXT + " | Stars: 4 | Age: 40 | nonsense", PROFILE),
        (TEXT + " | Stars: 5", changed(stars=None)),
        (TEXT + " | Stars: 5 | Stars: 5", changed(stars=None)),
        (TEXT.replace("Stars: 4", "Stars: 44"), changed(stars=None)),
        (TEXT.replace("Pizza, ", ""), changed(favorite_category=None)),
        (TEXT.replace("Pizza, ", "Pizza, Shopping, "), changed(favorite_category=None)),
        (TEXT.replace("Coffee & Tea", "Pizza"), changed(favorite_category=None)),
        ("Stars: 4 | Favorite Cat", UNKNOWN | {"stars": "4"}),
        ("|||:::, <extra_id_0> \x00", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_lenient_parsing_keeps_what_it_understands_and_never_fails(text, expected):
    assert ProfileSchema().parse(text, strict=False) == expected


def test_users_define_their_own_attributes():
    schema = ProfileSchema([{"name": "Pet", "values": ["cat", "dog"]}, ProfileAttribute("Trips", ("sea", "hills"), 2)])
    assert schema.keys == ("pet", "trips")
    assert schema.render({"pet": "dog", "trips": ["hills", "sea"]}) == "Pet: dog | Trips: sea, hills"
    assert ProfileSchema(schema.to_list()) == schema
    assert schema.to_list() == [
        {"name": "Pet", "values": ["cat", "dog"], "count": 1},
        {"name": "Trips", "values": ["sea", "hills"], "count": 2},
    ]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ([], r"at least one attribute and different keys, got \[\]"),
        ([{"name": "A", "values": ["x"]}, {"name": "a", "values": ["y"]}], r"got \['a', 'a'\]"),
        ([{"name": "A", "values": ["x", "x"]}], r"different values, at least one, got \['x', 'x'\]"),
        ([{"name": "A", "values": []}], r"got \[\]"),
        ([{"name": "A", "values": ["x", ""]}], "got ''"),
        ([{"name": "", "values": ["x"]}], "got ''"),
        ([{"name": "A", "values": [" x"]}], "got ' x'"),
        ([{"name": "A", "values": [1]}], "got 1"),
        ([{"name": "A", "values": ["<x"]}], "got '<x'"),
        ([{"name": "A", "values": ["x|y"]}], r"got 'x\|y'"),
        ([{"name": "A:", "values": ["x"]}], "got 'A:'"),
        ([{"name": "A", "values": ["x, y", "z"], "count": 2}], "hold no ','"),
        ([{"name": "A", "values": ["x"], "count": 2}], "from 1 to 1 of its values, got count=2"),
        ([{"name": "A", "values": ["x"], "count": True}], "got count=True"),
        ([{"name": "A", "values": "xyz"}], "are a list of texts, got 'xyz'"),
        ([{"name": "A"}], "got {'name': 'A'}"),
        (["A"], "got 'A'"),
    ],
)
def test_a_schema_that_has_no_one_text_form_is_refused(attributes, message):
    with pytest.raises(ValueError, match=message):
        ProfileSchema(attributes)


def test_a_schema_is_read_from_a_datasets_features():
    features = {"stars": ClassLabel(names=["1", "2"]), "pet_names": ListFeature(ClassLabel(names=["a", "b"]), 2)}
    schema = ProfileSchema.from_features(features)
    assert schema.to_list() == [
        {"name": "Stars", "values": ["1", "2"], "count": 1},
        {"name": "Pet Names", "values": ["a", "b"], "count": 2},
    ]
    assert schema.profile_from_labels({"stars": 1, "pet_names": [1, 0]}) == {"stars": "2", "pet_names": ["a", "b"]}


@pytest.mark.parametrize("feature", [Value("string"), ListFeature(ClassLabel(names=["a"]))])
def test_features_that_are_no_labels_are_refused(feature):
    with pytest.raises(ValueError, match=r"profile\.stars must be a ClassLabel"):
        ProfileSchema.from_features({"stars": feature})


@pytest.mark.parametrize("labels", [{}, {"a": 2}, {"a": -1}, {"a": None}, {"a": "x"}, {"a": [0, 1]}])
def test_labels_without_a_value_are_refused(labels):
    with pytest.raises(ValueError, match="got"):
        ProfileSchema([{"name": "A", "values": ["x", "y"]}]).profile_from_labels(labels)


def test_a_config_keeps_its_schema_and_towers_through_the_disk(tmp_path):
    schema = ProfileSchema([{"name": "Pet", "values": ["cat", "dog"]}])
    text_config = {"vocab_size": 40, "d_model": 32, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}
    vision_config = {"hidden_size": 16, "num_attention_heads": 2}
    config = MMProfileConfig(
        text_config=text_config, vision_config=vision_config, fusion="concat", profile_schema=schema
    )
    config.save_pretrained(tmp_path)
    loaded = MMProfileConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert (loaded.fusion, loaded.profile_schema) == ("concat", schema)
    assert (loaded.text_config.d_model, loaded.vision_config.hidden_size) == (32, 16)
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.decoder_start_token_id) == (0, 1, 0)
    # What this field of Flan-T5's files means to transformers 5: decoder states go to the head unscaled.
    assert not loaded.text_config.scale_decoder_outputs
    assert MMProfileConfig(text_config={"tie_word_embeddings": True}).text_config.scale_decoder_outputs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"fusion": "sum"}, "'sum'"), ({"vision_feature": "pool"}, "'pool'"), ({"profile_schema": []}, r"got \[\]")),
        *(({"objectives": names}, "objectives must be different ones") for names in ([], ["text"] * 2, ["sum"])),
    ],
)
def test_a_config_refuses_other_switches(options, message):
    with pytest.raises(ValueError, match=message):
        MMProfileConfig(**options)


def test_a_config_keeps_the_objectives_and_one_without_them_is_of_all(tmp_path):
    MMProfileConfig(objectives=("text", "fusion")).save_pretrained(tmp_path)
    assert MMProfileConfig.from_pretrained(tmp_path).objectives == ["text", "fusion"]
    assert MMProfileConfig.from_pretrained(tmp_path, objectives=["text"]).objectives == ["text"]
    assert MMProfileConfig().objectives is None


FIT = {
    "temperatures": {"stars": 1.5, "budget_range": 1},
    "odds_powers": {"stars": 0.8},
    "value_weights": {"budget_range": {"Low": 2.0, "High": 1}},
    "precision_thresholds": {"stars": {"0.9": 0.75}, "budget_range": {}},
}
CALIBRATIONS = {"product": {"1": FIT, "12": {}}, "mixture": {"8": FIT}}


def test_a_config_keeps_what_was_fitted_and_one_without_it_has_none(tmp_path):
    MMProfileConfig(calibrations=CALIBRATIONS).save_pretrained(tmp_path)
    assert MMProfileConfig.from_pretrained(tmp_path).calibrations == CALIBRATIONS
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["calibrations"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert MMProfileConfig.from_pretrained(tmp_path).calibrations is None
    other = {"states": {"3": FIT}}
    assert MMProfileConfig.from_pretrained(tmp_path, calibrations=other).calibrations == other


def test_what_was_fitted_goes_with_the_schema_that_it_is_of():
    config, same = MMProfileConfig(calibrations=CALIBRATIONS), ProfileSchema()
    config.profile_schema = same
    assert config.calibrations == CALIBRATIONS
    config.profile_schema = [{"name": "Stars", "values": ["1", "2"]}]
    assert config.calibrations is None
    config.calibrations = {"product": {"1": {"temperatures": {"stars": 0.5}}}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("temperatures", value) for value in ({"age": 1.0}, {"stars": 0}, {"stars": -1.0}, {"stars": True})),
        *(
            ("temperatures", value)
            for value in ({"stars": "1"}, {"stars": float("inf")}, {"stars": float("nan")}, [1])
        ),
        *(("precision_thresholds", value) for value in ({"age": {}}, {"stars": 0.5}, {"stars": {"0.9": 1.5}}, [1])),
        *(("odds_powers", value) for value in ({"age": 1.0}, {"stars": 0}, {"stars": None})),
        *(("value_weights", value) for value in ({"age": {"1": 1.0}}, {"stars": {"6": 1.0}}, {"stars": {"1": 0}})),
        *(("value_weights", value) for value in ({"stars": 1.0}, [1])),
        *(("precision_thresholds", {"stars": value}) for value in ({0.9: 0.5}, {"high": 0.5}, {"1": 0.5}, {"0": 0.5})),
    ],
)
def test_a_config_refuses_what_cannot_have_been_fitted(field, value):
    refuse_calibrations({"product": {"1": {field: value}}}, f"{field} .*got ")


@pytest.mark.parametrize(
    "value",
    [
        *([1], {"sum": {"1": FIT}}, {"product": {}}, {"product": FIT}, {"product": {"0": FIT}}, {"product": {1: FIT}}),
        *({"product": {"1.5": FIT}}, {"product": {"many": FIT}}, {"product": {"1": [1]}}),
        {"product": {"1": {"age": {}}}},
    ],
)
def test_a_config_refuses_calibrations_of_another_form(value):
    refuse_calibrations(value, "calibrations .*got ")


def refuse_calibrations(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MMProfileConfig(calibrations=value)
    config = MMProfileConfig(calibrations=CALIBRATIONS)
    with pytest.raises(ValueError, match=message):
        config.calibrations = value
    assert config.calibrations == CALIBRATIONS


def test_no_attribute_takes_the_name_of_the_scores_mean():
    with pytest.raises(ValueError, match="cannot be named Average"):
        ProfileSchema([{"name": "Average", "values": ["a", "b"]}])


@pytest.fixture
def copy_of_the_module(monkeypatch):
    """The module loaded once more, as for each part of a checkpoint that is loaded from its folder."""
    spec = importlib.util.spec_from_file_location("configuration_again", configuration_mmprofile.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_schemas_of_two_copies_of_the_class_are_one_schema(copy_of_the_module):
    pets = [{"name": "Pet", "values": ["cat", "dog"]}, {"name": "Food", "values": ["a", "b", "c"], "count": 2}]
    own, other = ProfileSchema(pets), copy_of_the_module.ProfileSchema(pets)
    assert type(own) is not type(other)
    assert own == other and other == own
    assert not (own != other or other != own)  # noqa: SIM202
    assert len({own, other}) == 1 and len({*own.attributes, *other.attributes}) == 2
    for different in (copy_of_the_module.ProfileSchema(pets[:1]), copy_of_the_module.ProfileSchema(pets[::-1]), pets):
        assert own != different and different != own
    assert own.attributes[0] != other.attributes[1] and own.attributes[0] != "Pet"
    for taken in (ProfileSchema(other), ProfileSchema(other.attributes), ProfileSchema(list(other.attributes))):
        assert taken == own
        assert {type(attribute) for attribute in taken.attributes} == {ProfileAttribute}


def test_a_config_takes_a_schema_of_another_copy_of_the_class(copy_of_the_module):
    config, other = MMProfileConfig(), copy_of_the_module.ProfileSchema([{"name": "Pet", "values": ["cat", "dog"]}])
    config.profile_schema = other
    assert type(config.profile_schema) is ProfileSchema
    assert config.profile_schema == other == MMProfileConfig(profile_schema=other).profile_schema
