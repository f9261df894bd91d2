"""The model card: metadata that the Hub parses, a body that tells the measured truth, and no folder of the machine."""

import base64
import functools
import json
import re
from pathlib import Path

import jinja2
import pytest
from huggingface_hub import EvalResult, ModelCard
from PIL import Image

from handler import EndpointHandler
from mmprofile.configuration_mmprofile import ProfileSchema
from tests.tiny_folder import save_tiny_folder
from training.arguments import JointTrainingArguments
from training.model_card import write_model_card
from training.results import describe_corpus

SCHEMA = ProfileSchema(
    (
        {"name": "Mood", "values": ["Calm", "Wild"]},
        {"name": "Stars", "values": ["1", "2", "3"]},
        {"name": "Hobbies", "values": [f"hobby {n}" for n in range(30)], "count": 2},
    )
)
KEYS = ("mood", "stars", "hobbies", "average")
ROWS = {"mmprofile": (90.123, 70.0, 20.0, 60.04), "majority class": (33.0, 20.0, 20.0, 24.33)}
RESULTS = {
    "test_f1": {row: dict(zip(KEYS, f1, strict=True)) for row, f1 in ROWS.items()},
    "test_average_f1": 60.04,
    "test_majority_average_f1": 24.33,
    "test_text_only_average_f1": 48.0,
    "test_unpaired_average_f1": 41.5,
    "test_calibration": {
        "mood": {"expected_error": 0.123},
        "stars": {"expected_error": 0},
        "hobbies": {"expected_error": 0.5},
    },
    "test_shortened_texts": {"users": 7, "reviews_read": 0.934, "captions_read": 1.0},
    "test_forged_agreement": {
        "mood": {"without": 50.2, "with": 53.0, "with_five": 54.0},
        "stars": {"without": 30, "with": 90, "with_five": 95},
        "hobbies": {"without": 0, "with": 1.6, "with_five": 1},
    },
    "test_intervals": {row: dict.fromkeys(KEYS, [f1[3] - 2.44, f1[3] + 2.04]) for row, f1 in ROWS.items()},
    "test_differences": {"reviews alone": dict.fromkeys(KEYS, [-1.26, 3.04])},
    "test_resolution": {"users": 400, "resamples": 10000, "half_width": 2.24, "paired_half_width": 2.149},
    "train_seconds": 3723.4,
    "train_software": "torch 2.0",
    "best_epoch": 2,
}
HISTORY = [{"dev_f1": {"average": f1}, "users_per_second": speed} for f1, speed in ((50.0, 10.0), (61.25, 12.0))]
EXAMPLE = {
    "reviews": ["Nice\n\nplace.", "Too loud."],
    "read": 2,
    "profile": "Mood: Calm | Stars: 3 | Hobbies: hobby 1, hobby 2",
    "truth": "Mood: Wild | Stars: 3 | Hobbies: hobby 1, hobby 7",
    "right": 1,
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a card of a run with some flags, and loads it; a field that the template misses is an error."""
    monkeypatch.setattr(jinja2, "Template", functools.partial(jinja2.Template, undefined=jinja2.StrictUndefined))

    def written(
        results=None,
        tested=None,
        trained=None,
        example=None,
        towers=("mt5", "dinov2"),
        model_type="mmprofile",
        history=HISTORY,
        config=None,
        **flags,
    ):
        output = tmp_path / "outputs" / "my-model"
        output.mkdir(parents=True, exist_ok=True)
        kinds = zip(("text_config", "vision_config"), towers, strict=True)
        saved = {tower: {"model_type": kind} for tower, kind in kinds} | {"model_type": model_type}
        (output / "config.json").write_text(json.dumps(saved | (config or {})))
        arguments = JointTrainingArguments(**{"dataset": "org/reviews", "output_dir": str(output)} | flags)
        corpus, known = describe_corpus(arguments), trained != {}
        found = RESULTS | {"test_corpus": corpus | {"split": "test", "users": 400} | (tested or {})}
        if known:
            found["train_corpus"] = corpus | {"train": 3000, "dev": 500, "test": 400} | (trained or {})
        else:
            found = {name: value for name, value in found.items() if not name.startswith(("train", "best"))}
        write_model_card(output, arguments, SCHEMA, found | (results or {}), history, example, flags_known=known)
        assert sorted(path.name for path in output.iterdir()) == ["README.md", "config.json"]
        return ModelCard.load(output / "README.md")

    return written


def test_the_results_are_the_model_index_an_attribute_each_and_the_average(write):
    card = write(dataset_config="full")
    assert card.data.model_name == "my-model"
    results = card.data.eval_results
    where = {"task_name": "User profiling", "dataset_config": "full", "dataset_split": "test"}
    what = {"metric_name": "Macro-F1, Stars (percent)", "metric_args": {"average": "macro"}}
    assert results[0] == EvalResult("user-profiling", "org/reviews", "org/reviews", "f1", 70.0, **where, **what)
    assert [result.metric_value for result in results] == [70.0, 90.12, 20.0, 60.04]
    assert [result.metric_name.split()[1] for result in results] == ["Stars", "Mood", "Hobbies", "average"]
    assert all(result.unique_identifier == results[0].unique_identifier for result in results)


def test_the_metadata_says_what_the_hub_files_the_model_under(write):
    data = write(example=EXAMPLE).data.to_dict()
    assert {key: value for key, value in data.items() if key not in ("model-index", "widget")} == {
        "language": "en",
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["mmprofile", "user-profiling", "multimodal", "mt5", "dinov2"],
        "datasets": ["org/reviews"],
        "metrics": ["f1"],
        "base_model": ["google/flan-t5-base", "google/vit-base-patch16-224"],
        "base_model_relation": "finetune",
    }
    assert data["widget"][0]["text"] == "Nice place. Too loud."


@pytest.mark.parametrize(
    "towers, sentence, tags",
    [
        (("t5", "vit"), "A T5 encoder-decoder reads the text and a ViT the photos,", ["t5", "vit"]),
        (("mt5", "siglip_vision_model"), "An mT5 encoder-decoder reads the text and a SigLIP the", ["mt5", "siglip"]),
        (("umt5", "clip_vision_model"), "A umT5 encoder-decoder reads the text and a CLIP the", ["umt5", "clip"]),
        (("t5", "dinov2"), "reads the text and a DINOv2 the photos,", ["t5", "dinov2"]),
        (("t5", "ijepa"), "reads the text and a vision tower of type `ijepa` the photos,", ["t5", "ijepa"]),
    ],
)
def test_the_towers_are_called_what_they_are(write, towers, sentence, tags):
    card = write(towers=towers)
    assert sentence in card.text and card.data.tags[-2:] == tags


@pytest.mark.parametrize(
    "flags, base_models",
    [
        ({"text_model": "tiny", "vision_model": "tiny"}, None),
        ({"text_model": "./towers/t5"}, ["google/vit-base-patch16-224"]),
        ({"model": "org/profiler"}, ["org/profiler"]),
        ({"model": "/data/profiler"}, None),
    ],
)
def test_base_models_are_the_hub_checkpoints_that_training_started_from(write, flags, base_models):
    data = write(**flags).data
    assert data.base_model == base_models
    assert ("base_model_relation" in data) == bool(base_models)


def test_no_folder_of_the_machine_is_named(write, tmp_path):
    tower, corpus = tmp_path / "private" / "my-t5", tmp_path / "private" / "corpus"
    card = write(dataset=str(corpus), text_model=str(tower), vision_model=f"{tmp_path}/private/", dataset_config="x")
    text = str(card)
    assert "`corpus`" in text and "`my-t5`" in text
    assert str(tmp_path) not in text and tmp_path.name not in text and "private/" not in text
    assert card.data.datasets is None and card.data.base_model is None
    assert {result.dataset_type for result in card.data.eval_results} == {"unknown"}


def test_a_folder_that_is_here_comes_before_the_hub_repository_of_that_name(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "reviews").mkdir(parents=True)
    card = write()
    assert card.data.datasets is None and "org/reviews" not in str(card)


def test_the_card_says_what_photos_bring_and_what_strangers_photos_do(write):
    text = write().text
    assert (
        "A person's own photos and photo captions add **12.04 points** to the average that the reviews alone reach"
        " (60.04 against 48.00; 95 % interval of the difference -1.3 to +3.0).\n"
        "In no attribute do the reviews alone do better.\n"
        "With the photos and photo captions of another person the same model reaches 41.50;"
        " giving everybody the most frequent values, 24.33." in text
    )
    assert (
        "](curves.png)" in text and "true value of the test split was taken for, by attribute](confusion.png)" in text
    )
    worse = write({"test_text_only_average_f1": 61.04}).text
    assert "photo captions take **1.00 points** off the average that the reviews alone reach" in worse


def test_the_card_names_what_photos_cost_where_they_cost_and_how_much_is_chance(write):
    alone = dict(zip(KEYS, (90.124, 82.18, 20.0, 64.1), strict=True))
    row = {"reviews alone": alone}
    ends = {"reviews alone": RESULTS["test_intervals"]["mmprofile"]}
    text = write(
        {"test_f1": RESULTS["test_f1"] | row, "test_intervals": RESULTS["test_intervals"] | ends},
    ).text
    assert (
        "They cost where the reviews alone do better: Stars 12.18 points (70.00 against 82.18; -1.3 to +3.0), Mood"
        in text
    )
    assert "(percentile bootstrap over users, 10,000 resamples)" in text
    assert (
        "The average is known to ± 2.2 points, its difference from the reviews alone, on the same users, to ± 2.1"
        in text
    )


def test_each_figure_has_its_interval_below_it(write):
    table = re.search(r"below each figure its 95 % interval:\n\n(.*?)\n\n", write().text, re.DOTALL).group(1)
    assert table.split("\n") == [
        "|                |     Stars |      Mood |   Hobbies |   Average |",
        "| :------------- | --------: | --------: | --------: | --------: |",
        "| mmprofile      |     70.00 |     90.12 |     20.00 |     60.04 |",
        "| 95 % interval  | 57.6–62.1 | 57.6–62.1 | 57.6–62.1 | 57.6–62.1 |",
        "| majority class |     20.00 |     33.00 |     20.00 |     24.33 |",
        "| 95 % interval  | 21.9–26.4 | 21.9–26.4 | 21.9–26.4 | 21.9–26.4 |",
    ]


def test_an_evaluation_elsewhere_is_told_apart_from_the_training(write):
    where = {"split": "validation", "users": 36, "name": "other", "dataset": "org/other"}
    card = write(tested=where)
    assert "on the validation split of [org/other](https://huggingface.co/datasets/org/other) (36 users)" in card.text
    assert "- **Data**: [org/reviews](https://huggingface.co/datasets/org/reviews): 3,000 users" in card.text
    assert "test split" not in card.text and "7 of the 36 validation users" in card.text
    assert {(r.dataset_type, r.dataset_split) for r in card.data.eval_results} == {("org/other", "validation")}
    assert card.data.datasets == ["org/reviews"]


def test_of_a_training_that_is_not_known_nothing_is_told(write):
    card = write(trained={}, history=[], text_model="tiny", vision_model="tiny", batch_size=16)
    assert card.data.base_model is None and card.data.datasets is None
    text = card.text.split("## Training")[1].split("## Intended use")[0]
    assert text.strip() == ("- **Objectives**: fusion, text, mask_image, mask_profile, in the `combined` paradigm.")
    assert "curves.png" not in card.text and "Training showed" not in card.text and "Training wrote" not in card.text
    assert "tanh gate" not in card.text and "confusion.png" in card.text
    known = write(trained={}, history=HISTORY, results={"best_epoch": 2}).text
    assert "- **Length**: 2 epochs; 11.0 users/s in training. The weights are those of epoch 2" in known


def test_a_majority_that_is_not_known_is_left_out(write):
    rows = {"test_f1": {"mmprofile": RESULTS["test_f1"]["mmprofile"]}}
    results = {name: value for name, value in RESULTS.items() if "majority" not in name} | rows
    kept = dict(RESULTS)
    try:
        RESULTS.clear()
        RESULTS.update(results)
        text = write().text
    finally:
        RESULTS.update(kept)
    assert "of another person the same model reaches 41.50.\n" in text and "most frequent values" not in text


def test_the_card_states_each_attributes_error_and_those_that_the_majority_matches(write):
    text = write().text
    assert "in percent: Stars 30.00, Mood 9.88, Hobbies 80.00." in text
    assert "**No better than always giving the most frequent value: Hobbies.**" in text


def test_the_card_says_how_far_probabilities_are_off(write):
    text = write().text
    assert "(expected calibration error, ten bins): Stars 0.00, Mood 0.12, Hobbies 0.50.\n" in text
    assert "](calibration.png)" in text


def test_flags_that_differ_from_their_defaults_are_listed_and_no_others(write):
    text = write(objectives=["fusion", "text"], objective_weights=[1.0, 2.5], batch_size=16).text
    assert re.findall(r"^\| `.*", text, re.MULTILINE) == [
        "| `objectives` | fusion, text | fusion, text, mask_image, mask_profile |",
        "| `objective_weights` | 1.0, 2.5 | none |",
        "| `batch_size` | 16 | 4 |",
    ]
    assert "Every flag of `train.py` has its default" in write().text


def test_the_run_is_told_by_its_figures(write):
    text = write().text
    assert "3,000 users for training, 500 for development, 400 for the test." in text
    assert "2 epochs in 1:02:03 (h:mm:ss), evaluation included; 11.0 users/s in training" in text
    assert "those of epoch 2, the best by average Macro-F1 on the development split (61.25)" in text


@pytest.mark.parametrize(
    "paradigm, arguments",
    [("multimodal", "reviews images"), ("unimodal", "reviews captions"), ("combined", "reviews images captions")],
)
def test_the_usage_is_python_that_gives_the_model_what_it_was_trained_on(write, paradigm, arguments):
    code = re.search(r"```python\n(.*?)```", write(paradigm=paradigm).text, re.DOTALL).group(1)
    compile(code, "README.md", "exec")
    assert re.findall(r"^    (\w+)=\[", code, re.MULTILINE) == arguments.split()
    assert 'repo = "USER/my-model"' in code
    assert "predictions = model.generate_profiles(**inputs, tokenizer=processor.tokenizer)" in code


@pytest.mark.parametrize("paradigm", ["multimodal", "unimodal", "combined"])
def test_the_usage_runs_and_the_endpoint_takes_the_request(write, paradigm, tmp_path, monkeypatch, capsys):
    text = write(paradigm=paradigm).text
    monkeypatch.chdir(tmp_path)
    save_tiny_folder("profiler", paradigm=paradigm)
    for name in ("first.jpg", "second.jpg"):
        Image.new("RGB", (40, 30), "green").save(name)
    code = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)).replace("USER/my-model", "profiler")
    exec(compile(code, "README.md", "exec"), {})
    line, probabilities, answer = capsys.readouterr().out.splitlines()
    assert line.startswith("Mood: ") and probabilities.startswith("{'mood': {'Calm': 0.")
    assert answer.startswith("{'mood': '") and "} {'mood': {'Calm': 0." in answer

    request = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL).group(1))
    photo = base64.b64encode(Path("first.jpg").read_bytes()).decode()
    assert ("images" in request["inputs"]) == (paradigm != "unimodal")
    if paradigm != "unimodal":
        assert photo.startswith(request["inputs"]["images"][0].removesuffix("..."))
        request["inputs"]["images"] = [photo]
    assert EndpointHandler("profiler")(request)["text"].startswith("Mood: ")


@pytest.mark.parametrize(
    ("system", "model_type", "made"),
    [
        ("od_tup", "t5", "makes a plain model of type `t5` of it, without what is the system's own,"),
        ("coopnet", "mmprofile_coopnet", "refuses it\\."),
    ],
)
def test_the_card_of_another_system_warns_of_auto_classes_and_names_what_loads_it(write, system, model_type, made):
    rows = {name: {system: RESULTS[name]["mmprofile"]} for name in ("test_f1", "test_intervals")}
    text = write(rows, system=system, model_type=model_type).text
    assert re.search(f"Do not load it by `AutoModel`[^.]*{made}", text)
    assert "model = load_model(repo, None)" in text and "AutoModel.from_pretrained" not in text
    assert "Do not load it by" not in write().text


def test_the_schema_is_told_and_a_long_list_of_values_cut_and_counted(write):
    text = write().text
    assert "| Mood | Calm; Wild | 1 |" in text
    assert "; hobby 19; ... 30 in all, see `config.json` | 2 |" in text and "hobby 20" not in text


@pytest.mark.parametrize(
    "name, tested, synthetic",
    [("Yelp", None, False), ("Synthetic Yelp", None, True), ("synthetic Yelp", {"name": "Yelp"}, False)],
)
def test_a_synthetic_corpus_is_called_so(write, name, tested, synthetic):
    text = write(tested=tested, dataset_name=name).text
    assert ("they say nothing of real persons" in text) == ("The data is synthetic." in text) == synthetic


def test_the_example_shows_reviews_the_profile_written_and_the_true_one(write):
    assert (
        "A person of the test split of typical accuracy, with 1 of 3 attributes right, as many as the median person"
        " has:\n\n"
        "```text\nReviews:\n- Nice place.\n- Too loud.\n\n"
        "Generated: Mood: Calm | Stars: 3 | Hobbies: hobby 1, hobby 2\n"
        "True:      Mood: Wild | Stars: 3 | Hobbies: hobby 1, hobby 7\n```" in write(example=EXAMPLE).text
    )
    card = write(example=None)
    assert "widget" not in card.data and "Generated:" not in card.text


def test_the_example_of_a_longer_history_says_how_much_of_it_is_shown(write):
    long = write(example=EXAMPLE | {"read": 9}).text
    assert "```text\nOf 9 reviews that were read, the newest 2:\n- Nice place.\n- Too loud.\n\nGenerated:" in long


@pytest.mark.parametrize(
    ("objectives", "read", "claimed"), [(["text"], 2, True), (["text"], 9, False), (["fusion", "text"], 2, False)]
)
def test_the_widget_claims_no_output_but_of_its_texts(write, objectives, read, claimed):
    (shown,) = write(example=EXAMPLE | {"read": read}, objectives=objectives).data.widget
    output = {"output": {"text": EXAMPLE["profile"]}} if claimed else {}
    assert shown == {"example_title": "One user's reviews", "text": "Nice place. Too loud."} | output


def test_a_review_cannot_break_out_of_the_card(write):
    nasty = "```\n---\n{{ results }} {% raw %} ````"
    card = write(example=EXAMPLE | {"reviews": [nasty], "read": 1})
    assert card.data.widget[0]["text"] == "``` --- {{ results }} {% raw %} ````"
    assert "`````text\nReviews:\n- ``` --- {{ results }} {% raw %} ````\n" in card.text
    assert card.text.endswith("}\n```\n") and len(card.data.eval_results) == 4


def test_results_without_the_models_row_are_refused(write):
    with pytest.raises(ValueError, match=r"need a row 'mmprofile', got \['majority class'\]"):
        write({"test_f1": {"majority class": RESULTS["test_f1"]["majority class"]}})


def test_the_language_is_the_one_that_the_flag_names(write):
    card = write(language="de")
    assert card.data.language == "de" and "Reviews in others than `de` were neither trained nor measured" in card.text


def test_a_quantized_model_says_so(write):
    assert "quantized to 8 bits" in write(config={"linear_weights": "int8"}).text
    assert "quantized" not in write(config={"linear_weights": "float"}).text and "quantized" not in write().text


def test_what_was_shortened_and_how_often_a_forged_profile_was_believed_are_stated(write):
    text = write().text
    assert "The texts of 7 of the 400 test users have more than 600 tokens and were shortened" in text
    assert "93 % of all reviews' tokens and 100 % of the captions' were read." in text
    assert (
        "(in brackets with five such reviews, and with none): Stars 90 (95, 30), Mood 53 (54, 50), Hobbies 2 (1, 0)."
        in text
    )
    assert "into the texts of 30 % of the users" in text
    assert "`--forged_lines 0.3` does" in write(forged_lines=0.0).text
    whole = write({"test_shortened_texts": {"users": 0, "reviews_read": 1.0, "captions_read": 1.0}}).text
    assert "No text of the 400 test users has more than 600 tokens" in whole
    captions_withheld = write({"test_shortened_texts": {"users": 7, "reviews_read": 0.934}}).text
    assert "93 % of all reviews' tokens were read." in captions_withheld


def test_whether_weights_tell_what_counted_is_said_as_the_deletion_test_found_it(write):
    def deleted(part, **changes):
        found = {"users": 1250, "top": 0.3016, "random": 0.1092, "interval": [0.0722, 0.3276], "more": 0.484}
        return {"test_faithfulness": {part: found | {"difference": 0.1924, "faithful": True} | changes}}

    heading = "### Whether the weights tell what counted\n\nWithout the pixels of the photo with most weight"
    said = write(deleted("photos")).text
    assert heading in said
    assert (
        "the natural logarithm of the probability of the profile written falls by 0.302 on average, without another"
        " one, drawn at random, by 0.109 (95 % interval of the difference +0.072 to +0.328; 1,250 users, of whom 48 %"
        " have the larger fall without the first).\nSo the weights tell more than chance does which photo mattered"
    ) in said
    assert "view_weights" not in said
    for part, what in (("photos", "which photo mattered"), ("views", "which reviews mattered")):
        assert f"do not tell {what}" in write(deleted(part, faithful=False, interval=[-0.1, 0.2])).text
        assert f"too few users to say whether the weights tell {what}" in write(deleted(part, faithful=None)).text
    views = write(deleted("views")).text
    assert "Of the reviews that are read together, views, each has a weight too (`view_weights`).\nSearched" in views
    assert "(`image_weights`)" not in views
    plain = write().text
    assert "tell what counted" not in plain
    for text in (said, views, plain):
        between = text[text.index("### Calibration") : text.index("### Long texts")]
        assert between.endswith(".\n\n") or between.endswith(")\n\n")
        assert "\n\n\n" not in between
