"""`app.py` without a browser: form to results, the Space's folder, the start."""

import importlib
import random
import re
import shutil
import tempfile
from html import escape
from math import exp
from pathlib import Path

import pytest
from huggingface_hub import metadata_load
from PIL import Image

from tests import ROOT

pytest.importorskip("gradio", reason="the page needs gradio, see requirements-app.txt")

import app  # noqa: E402
from tests.malformed_requests import photo  # noqa: E402
from tests.tiny_folder import save_tiny_folder  # noqa: E402
from web.results import _did, percent, render_answers  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_folder(folder)
    return str(folder)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def profiler(model, uploads):
    return app.Profiler(model, uploads)


@pytest.fixture
def folder(uploads):
    """One of Gradio's, which are named by a photo's digest."""
    folder = Path(tempfile.mkdtemp(dir=uploads))
    yield folder
    shutil.rmtree(folder)


def gallery(folder, names=("first.jpg", "second.jpg")) -> list:
    rng = random.Random(0)
    for name in names:
        (folder / name).write_bytes(photo(rng))
    return [(str(folder / name), None) for name in names]


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def requests_of(profiler, monkeypatch) -> list:
    seen, handler = [], profiler.handler

    def noting(request):
        seen.append(request)
        return handler(request)

    noting.decoded = handler.decoded
    monkeypatch.setattr(profiler, "handler", noting)
    return seen


def test_results_show_profile_shares_photos_and_runners_up(profiler, folder):
    answer = profiler.handler({"inputs": "great pizza", "parameters": app.SEARCH})
    shown = words(profiler("great pizza", gallery(folder), "", []))
    assert "Mood" in shown and "Favorite Food" in shown and "first.jpg attention" in shown
    assert "Runners-up" in shown and "as probable" in shown and "All values" in shown
    text = words(profiler("great pizza", None, "", []))
    mood = answer["profile"]["mood"]
    assert f"Mood {mood} {percent(answer['probabilities']['mood'][mood])}" in text and "Photos" not in text


def test_the_model_computes_by_onednn(profiler, products):
    profiler("great pizza", None, "", [])
    layers = [profiler.handler.model.text_model.encoder.block[0].layer[-1].DenseReluDense.wo]
    layers.append(profiler.handler.model.text_model.lm_head)
    assert {weight for _, weight in products} >= {tuple(layer.weight.shape) for layer in layers}


def test_what_counted_is_computed_by_onednn_too(profiler, products, monkeypatch):
    """Beside its searches `explain_user` asks the encoder, and the decoder for what the profile found is worth."""
    model, searched = profiler.handler.model, type(profiler.handler.model).generate_profiles
    monkeypatch.setattr(model, "generate_profiles", lambda *args, **options: searched(model, *args, **options))
    profiler.effects("great pizza\n\ncold soup", None, "", [app.EACH])
    layers = [model.text_model.encoder.block[0].layer[-1].DenseReluDense.wo, model.text_model.lm_head]
    assert {weight for _, weight in products} >= {tuple(layer.weight.shape) for layer in layers}


def test_paragraphs_are_reviews_and_lines_are_captions(profiler, folder, monkeypatch):
    seen = requests_of(profiler, monkeypatch)
    profiler("great\npizza\n \n\n cold soup \n", gallery(folder), "a cake\n\n tea ", [])
    user = seen[0]["inputs"]
    assert user["reviews"] == ["great\npizza", "cold soup"] and user["captions"] == ["a cake", "tea"]
    assert user["images"] == [(folder / name).read_bytes() for name in ("first.jpg", "second.jpg")]


def test_each_switch_adds_an_answer_to_compare(profiler, folder, monkeypatch):
    seen = requests_of(profiler, monkeypatch)
    html = profiler("great pizza", gallery(folder), "a cake", ["Reviews alone", "Without photos"])
    assert re.findall('<th scope="col">(.*?)</th>', html) == [
        *("Attribute", "Everything", "Without photos", "Reviews alone")
    ]
    assert [request["parameters"] for request in seen] == [
        {"min_coverage": 0.5},
        {"min_coverage": 0.5, "without_photos": True},
        {"min_coverage": 0.5, "without_photos": True, "without_captions": True},
    ]
    alone = profiler.handler({"inputs": "great pizza", "parameters": app.SEARCH})["profile"]["mood"]
    assert f'<td data-title="Reviews alone"><ul><li><span class="value">{alone}' in html.replace(
        ' class="changed"', ""
    )


def test_reviews_and_photos_are_left_out_by_turns(profiler, folder, monkeypatch):
    seen, reviews = requests_of(profiler, monkeypatch), "great pizza\n\n<b>cold</b> soup " + "again " * 30
    photos = gallery(folder)
    shown = words(profiler.effects(reviews, photos, "", [app.EACH]))
    assert [request["parameters"] for request in seen] == [{"min_coverage": 0.5, "explain": True}]
    section = shown.partition("Which reviews counted")[2].partition("Photos")[0]
    assert re.search(r"great pizza counted .*\d+% .*&lt;b&gt;cold&lt;/b&gt; soup again .* \.\.\. counted", section)
    assert section.count("Without it") == 2 and shown.count("Without it") == 4
    assert re.search(r"first\.jpg attention \S+% counted \S+% Without it", shown)
    assert "counted" not in profiler(reviews, photos, "", [app.EACH])  # the first answer waits for none of it
    assert "explain" not in seen[1]["parameters"]
    for form in ((reviews, photos, "", []), ("great pizza", None, "", [app.EACH]), ("", photos[:1], "", [app.EACH])):
        assert profiler.effects(*form) == app.gr.skip()


def test_what_changes_without_a_review_is_told():
    names = {"stars": "Stars", "food": "Favorite Food"}
    answer = {
        "profile": {"stars": "5", "food": ["Pizza", "Tea"]},
        "probabilities": {"stars": {"5": 0.8, "4": 0.2}, "food": {"Pizza": 1.0, "Tea": 0.6, "Soup": 0.4}},
    }
    little = {"stars": {"5": 0.001}, "food": {"Pizza": 0.0, "Tea": -0.002}}
    effects = [
        {"share": 0.75, "probabilities": {"stars": {"5": 0.5}}, "changed": {"stars": "4", "food": ["Pizza", "Soup"]}},
        {"share": 0.25, "probabilities": {"stars": {"5": 0.04}, "food": {"Tea": 0.1}}, "changed": {}},
        {"share": 0.0, "probabilities": {"stars": {"5": -0.3}}, "changed": {}},
        {"share": 0.0, "probabilities": little, "changed": {}},
        {"error": "nothing is left to read without it"},
        None,
    ]
    told = [words(_did(answer, effect, names)) for effect in effects]
    assert told == [
        "counted 75% Without it, Stars: 4 ; Favorite Food: Pizza, Soup .",
        "counted 25% Without it, Favorite Food Tea falls from 60% to 50%.",
        "counted 0% Without it, Stars 5 rises from 80% to 100%.",
        "counted 0% Without it hardly anything changes.",
        "There is no answer without it.",
        "",
    ]


def test_of_what_was_not_asked_nothing_is_told(profiler, folder):
    reviews, photos = "\n\n".join(f"cold soup {number}" for number in range(22)), gallery(folder, "abcd")
    shown = profiler.effects(reviews, photos, "", [app.EACH])
    section = words(shown).partition("Which reviews counted")[2].partition("Photos")[0]
    assert [f"cold soup {number} counted" in section for number in range(22)] == [True] * 20 + [False] * 2
    assert "cold soup 21" not in section and section.count("counted") == 20
    assert [f"{name} attention" in words(shown) for name in "abcd"] == [True] * 4
    assert "Effects are told of 24 of 26 reviews and photos, the first of each." in words(shown)
    alone = words(profiler.effects("great pizza", photos[:1], "", [app.EACH]))
    assert ["There is no answer without it." in told for told in (words(shown), alone)] == [False, True]


def test_an_answer_that_cannot_be_given_is_a_sentence_beside_the_others(profiler, folder):
    html = profiler("", gallery(folder), "", ["Without photos"])
    assert html.count("There is nothing to read; this model takes reviews with words or photos or captions.") == 2


@pytest.mark.parametrize(
    "form, sentence",
    [
        (("", None, "", []), app.NOTHING),
        ((" \n\n ", [], None, ["Without photos"]), app.NOTHING),
        (("a\n\n" * 201, None, "", []), "The reviews are too many: a user has up to 200, got 201."),
        (("good", None, "a\n" * 201, []), "The captions are too many: a user has up to 200, got 201."),
        (("word " * 30_000, None, "", []), "Reviews and captions have up to 100000 characters, got 149999."),
    ],
)
def test_a_form_that_cannot_be_read_gets_a_sentence(profiler, form, sentence):
    assert profiler(*form) == f'<p class="problem" role="alert">{sentence}</p>'


@pytest.mark.parametrize("paradigm", ["combined", "unimodal"])
def test_a_bad_photo_is_named_without_its_folder(tmp_path, uploads, folder, paradigm):
    save_tiny_folder(tmp_path / "model", paradigm=paradigm)
    profiler, photos = app.Profiler(str(tmp_path / "model"), uploads), gallery(folder)
    (folder / "second.jpg").write_text("no photo")
    shown = words(profiler("great pizza", photos, "", []))
    assert shown == (
        "The photo “second.jpg” was not taken: the image of 8 bytes is none of JPEG, PNG, WEBP, GIF, BMP."
    )
    assert str(folder) not in shown
    assert "5 photos are too many, the model takes up to 4." in profiler("great pizza", photos[:1] * 5, "", [])


def test_a_photo_that_was_deleted_is_asked_for_again(profiler, folder):
    photos = gallery(folder)
    (folder / "second.jpg").unlink()
    shown = words(profiler("great pizza", photos, "", []))
    assert shown == "The photo “second.jpg” is no longer here; add it again."


def test_what_is_no_photo_leaves_the_gallery_with_a_sentence(profiler, folder):
    photos = gallery(folder, ["good.jpg", "bad.jpg", "cut.jpg"])
    (folder / "bad.jpg").write_text("no photo")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:400])
    kept, html = profiler.keep_photos(photos)
    assert kept == [folder / "good.jpg"] and html.startswith('<p class="problem"')
    assert "“bad.jpg” was not taken" in html and "“cut.jpg” was not taken: the image of 400 bytes is broken" in html
    assert profiler.keep_photos(photos[:1]) == ([folder / "good.jpg"], app.gr.skip())
    assert profiler.keep_photos(None) == ([], app.gr.skip())


def test_a_refusal_names_no_setting_of_the_program(profiler, folder, monkeypatch):
    monkeypatch.setattr(profiler.processor, "max_image_pixels", 99)
    shown = words(profiler("great pizza", gallery(folder), "", []))
    assert shown.startswith("The photo “first.jpg” was not taken: ") and "_" not in shown and "&#x27;" not in shown


def test_the_whole_profiles_probability_is_told_beside_that_of_a_blind_guess(profiler):
    answer = profiler.handler({"inputs": "great pizza", "parameters": app.SEARCH})
    shown = words(profiler("great pizza", None, "", []))
    assert shown.startswith("This profile is the most probable of all 9, which is proved.")
    whole = escape(percent(exp(answer["log_probability"])))
    assert (
        f"all 2 attributes are right at once is always rarer: {whole} , where a profile picked blindly has 1 in 9."
        in (shown)
    )
    found = answer | {"exact": False, "problems": ["the text was shortened to max_text_tokens=64: 9 were read"]}
    shown = words(render_answers({"Everything": found}, profiler.names, []))
    assert shown.startswith(
        "This profile is the most probable one found."
    ) and "The text was shortened to 64 tokens: 9 were read." in (shown)


def test_of_several_views_no_probability_of_the_whole_is_told(profiler):
    """It is the mean of what each view says, and far below what the bars, which are calibrated, say together."""
    reviews = "\n\n".join(["great pizza", "cold soup", "the staff was kind", "loud music"])
    assert profiler.handler({"inputs": {"reviews": reviews.split("\n\n")}})["views"] == 2
    several, one = (words(profiler(text, None, "", [])) for text in (reviews, "great pizza"))
    for told in ("right at once", "picked blindly", "as probable"):
        assert told in one and told not in several
    assert "Each bar is the probability of one value by itself." in several and "Runners-up" in several


def test_a_value_that_is_left_open_is_marked_and_the_notes_say_why(profiler):
    answer = profiler.handler({"inputs": "great pizza", "parameters": app.SEARCH})
    why = "What is left open is not sure enough for the precision asked for."
    open_ = answer | {"decided": answer["profile"] | {"mood": None}}
    html = render_answers({"Everything": open_}, profiler.names, [])
    rows = [words(row) for row in html.split("<tr>") if "data-title" in row]
    assert ["left open" in row for row in rows] == [True, False] and why in words(html)
    assert answer["profile"]["mood"] in rows[0]
    for decided in (answer, answer | {"decided": answer["profile"]}):
        shown = words(render_answers({"Everything": decided}, profiler.names, []))
        assert "left open" not in shown


def test_a_profile_decided_by_attributes_is_not_called_the_most_probable(profiler):
    answer = profiler.handler({"inputs": "great pizza", "parameters": app.SEARCH})
    best = {name: answer[name] for name in ("profile", "text", "log_probability")}
    other, *rest = answer["runners_up"]
    for by_marginals in (other, other | {"log_probability": None}):
        found = answer | by_marginals | {"exact": False, "runners_up": [best, *rest]}
        shown = words(render_answers({"Everything": found}, profiler.names, []))
        assert shown.startswith("This profile is decided attribute by attribute.")
        assert ("right at once" in shown) == (by_marginals is other)


def test_what_visitors_send_is_never_markup(profiler, folder):
    name = "<img src=x onerror=alert(1)>.jpg"
    for html in (
        profiler("<script>alert(1)</script>", gallery(folder, [name]), "<b>", []),
        profiler("good", [(str(folder / name), None)] * 5, "", []),
    ):
        assert "<script" not in html and "<img src=x" not in html and "<b>cake" not in html
    (folder / name).write_bytes(b"<script>alert(1)</script>")
    html = profiler("good", [(str(folder / name), None)], "", [])
    assert (
        html.startswith('<p class="problem"')
        and html.count("<") == 2
        and "&lt;img src=x onerror=alert(1)&gt;.jpg" in html
    )


def test_shares_are_whole_percent_and_never_falsely_nothing_or_all():
    assert [percent(share) for share in (0, 0.001, 0.01, 0.304, 0.996, 0.9999, 1)] == [
        *("0%", "<1%", "1%", "30%", ">99%", ">99%", "100%")
    ]


def test_a_space_holds_the_page_its_header_and_what_it_needs(tmp_path):
    app.save_space(tmp_path / "space", "org/some-model")
    app.save_space(tmp_path / "space", "org/model")
    paths = [path for path in (tmp_path / "space").rglob("*") if path.is_file()]
    files = {p.relative_to(tmp_path / "space").as_posix(): p.read_bytes().decode("utf-8", "ignore") for p in paths}
    assert sorted(files) == sorted([*app.SPACE_FILES, app.PICTURE, "README.md", "requirements.txt"])
    header = metadata_load(tmp_path / "space" / "README.md")
    assert header["sdk"] == "gradio" and header["app_file"] == "app.py" and header["models"] == ["org/model"]
    assert header["sdk_version"] == importlib.import_module("gradio").__version__
    assert len(header["title"]) <= 60 and len(header["short_description"]) <= 60
    assert header["python_version"] == "3.11" and header["suggested_hardware"] == "cpu-basic" and header["tags"]
    assert "thumbnail" not in header
    with Image.open(tmp_path / "space" / app.PICTURE) as picture:
        assert picture.size == (1200, 630)
    app.save_space(tmp_path / "space", "org/model", "org/page")
    link = metadata_load(tmp_path / "space" / "README.md")["thumbnail"]
    assert link == f"https://huggingface.co/spaces/org/page/resolve/main/{app.PICTURE}"
    needed = (ROOT / "requirements-inference.txt").read_text().split()
    assert set(needed) < set(files["requirements.txt"].split())
    imported = set(re.findall(r"^from ((?:cli|prediction|web)\.\w+) import", "".join(files.values()), re.MULTILINE))
    assert imported and {f"{module.replace('.', '/')}.py" for module in imported} <= set(files)


def test_the_page_is_private_and_bounded(model):
    page = app.build_app(model)
    assert page.analytics_enabled is False
    assert [fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"] == ["profile"]
    assert {fn.concurrency_limit for fn in page.fns.values() if isinstance(fn.fn, app.Profiler)} == {2}
    assert page._queue.max_size == app.WAITING
    assert page._queue.pending_messages_per_session.max_size == app.UNREAD
    assert page.uploads.is_dir() and app.UPLOAD_BYTES == importlib.import_module("handler").MAX_PHOTO_BYTES


def test_a_model_whose_handler_is_older_than_the_page_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "launch", None)
    save_tiny_folder(tmp_path / "old")
    handler = tmp_path / "old" / "handler.py"
    handler.write_text(handler.read_text().replace("def cut(", "def _cut(").replace("self.cut(", "self._cut("))
    with pytest.raises(SystemExit, match="cannot be loaded: its handler.py is older than this page"):
        app.main(["--model", str(tmp_path / "old"), "--trust_remote_code"])


def test_a_start_without_a_model_says_what_is_needed(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("MODEL_ID", raising=False)
    with pytest.raises(SystemExit):
        app.main([])
    assert "--model is needed, or the environment variable MODEL_ID" in capsys.readouterr().err
    monkeypatch.setenv("MODEL_ID", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="The model '.*nowhere' cannot be loaded: "):
        app.main([])
