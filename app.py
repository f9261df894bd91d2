"""A web page that writes profiles from reviews and photos.

    python app.py --model outputs/quickstart
    python app.py --model org/mmprofile --revision 1f0c9a2 --port 7861

It is also a Space of the Hugging Face Hub, whose variables MODEL_ID and MODEL_REVISION name the model: `save_space`
writes the Space's folder. The page answers with this checkout's `handler.py`, or with --trust_remote_code, as in a
Space, whose variable TRUST_REMOTE_CODE is true, with the model's own: what that takes holds here.
"""

from web.arguments import argument_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    argument_parser(__doc__).parse_known_args()

import atexit
import base64
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Default
from huggingface_hub import metadata_save
from PIL import Image
from starlette.middleware import Middleware
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from cli.progress import log_progress
from prediction.linear import by_fast_linears
from web.about import read_card, read_train_corpus, render_about, save_thumbnail
from web.requests import UPLOAD_BYTES, Gate, Page, read_upload, shown_name
from web.results import EMPTY, render_answers, render_error, thumbnail

ROOT = Path(__file__).parent
SPACE_FILES = (
    *("app.py", "cli/__init__.py", "cli/progress.py", "prediction/__init__.py", "prediction/linear.py"),
    *("web/__init__.py", "web/about.py", "web/arguments.py", "web/requests.py", "web/results.py"),
    *("web/page.css", "web/examples.json"),
)
EXAMPLES = json.loads((ROOT / "web" / "examples.json").read_text(encoding="utf-8"))
SESSIONS = 1000  # kept at a time
UNREAD = 256  # visitors whose answers are kept until they are fetched, photos' thumbnails among them
WAITING = 32  # visitors in the queue; more are told to come back
DELETED = (600, 3600)  # every so many seconds, photos that are older than so many

TITLE = "A profile from reviews and photos"
# Of a Space: what the Hub shows of it, and the picture of a link to it.
SHORT = "Guesses a person's profile from reviews and photos"
TAGS = ["user-profiling", "multimodal", "t5", "vit"]
PICTURE = "thumbnail.jpg"
HEAD = f"""<h1>{TITLE}</h1>
<p>The model reads all that a person wrote about places and looks at photos of these places. It guesses the person's
profile, and says how sure it is. Texts are not kept, photos are deleted after about an hour.</p>"""
SEARCH = {"min_coverage": 0.5}
EVERYTHING = "Everything"
# An answer's title -> parameters of the request.
VARIANTS = {
    "Without photos": {"without_photos": True},
    "Without captions": {"without_captions": True},
    "Reviews alone": {"without_photos": True, "without_captions": True},
}
# On a phone the results are below the form.
SHOW_RESULTS = """() => {
    const results = document.getElementById("results");
    if (results.getBoundingClientRect().top > innerHeight / 2) results.scrollIntoView();
}"""
SHOW_PROBLEM = f"""() => {{
    if (document.querySelector("#results .problem")) ({SHOW_RESULTS})();
}}"""
EACH = "Each"
SWITCHES = [*zip(("photos", "captions", "both"), VARIANTS, strict=True), ("each review and photo by turns", EACH)]
NOTHING = "There is nothing to read yet. Write or paste a review, add a photo, or try an example."

# Fonts of the visitor's system: the page asks no other server for anything. Colours have a contrast of 4.5 and more.
THEME = Default(
    primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_label_text_color="*neutral_700",
    block_title_text_color="*neutral_700",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    color_accent="*primary_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
)


def load_handler(model_id: str, revision: str | None, trusted: bool) -> Any:
    """The handler of a model, by this checkout's code, or by the code that came with the model where it is `trusted`.

    Raises:
        ValueError: if there is no such model, or it needs code of its own and is not trusted.
    """
    if trusted:
        own = get_class_from_dynamic_module("handler.EndpointHandler", model_id, revision=revision)
        return own(model_id, revision=revision) if revision else own(model_id)
    try:
        from files.checkpoint_code import load_model, load_processor
        from files.checkpoint_files import exact_revision
        from handler import QUANTIZATION, EndpointHandler
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no code here but the model's own, see --trust_remote_code ({error})") from error

    class Handler(EndpointHandler):
        def load(self, path, revision):
            dtype = os.environ.get(QUANTIZATION) or "auto"
            processor, model = load_processor(path, revision)[0], load_model(path, revision, dtype=dtype)
            if not hasattr(model, "generate_profiles"):
                system = model.config.system
                raise ValueError(f"the page shows models that search for profiles, as mmprofile; {system} does not")
            return processor, model

    return Handler(model_id, exact_revision(model_id, revision))


class Profiler:
    """Turns the form into a request for the model's handler, and its answers into HTML.

    Args:
        model_id: a folder or the Hub name of a model.
        uploads: the folder of the visitors' photos; a photo that lies elsewhere is not opened.
        revision: of a Hub name.
        trusted: run the code that came with the model.
    """

    def __init__(self, model_id: str, uploads: Path, revision: str | None = None, trusted: bool = False):
        self.uploads = uploads
        self.handler = load_handler(model_id, revision, trusted)
        if not hasattr(self.handler, "cut"):
            raise ValueError(
                "its handler.py is older than this page; copy it and *_mmprofile.py beside the weights anew"
            )
        model = self.handler.model  # which computes in a thread of the handler's own
        model.generate_profiles = by_fast_linears(model.generate_profiles, model.device)
        model.explain_user = by_fast_linears(model.explain_user, model.device)  # more than its searches
        self.processor = self.handler.processor
        self.names = {attribute.key: attribute.name for attribute in self.processor.profile_schema.attributes}

    def __call__(self, reviews: str, photos: list | None, captions: str, switches: list[str]) -> str:
        """The page's results.

        Args:
            reviews: a review a paragraph.
            photos: the gallery's, each a path and a caption that is not used.
            captions: one a line.
            switches: keys of `VARIANTS`, each an answer to compare.
        """
        return self._results(reviews, photos, captions, switches, SEARCH)

    def effects(self, reviews: str, photos: list | None, captions: str, switches: list[str]) -> str | dict:
        """The results with what each review and photo did, which takes as many times as long as there are; nothing
        new where `EACH` is not among the switches, or there is only one.

        The first answer is found once more: nothing of a visitor is kept from one event to the next, and one event
        for both would hold a place in the queue, in which others wait for their first answer, until the last."""
        if EACH not in switches or len(_paragraphs(reviews)) + len(photos or ()) < 2:
            return gr.skip()
        return self._results(reviews, photos, captions, switches, SEARCH | {"explain": True})

    def _results(self, reviews: str, photos: list | None, captions: str, switches: list[str], first: dict) -> str:
        """With these parameters of the first answer."""
        paths = [Path(path) for path, _ in photos or ()]
        try:
            user = self._read_form(reviews, paths, captions)
            answers = {EVERYTHING: self.handler({"inputs": user, "parameters": first})}
            shown = [(path.name, source) for path, source in zip(paths, self._thumbnails(user["images"]), strict=True)]
        except ValueError as error:
            return render_error(_sentence(error, paths))
        for title in (title for title in VARIANTS if title in switches):
            try:
                answers[title] = self.handler({"inputs": user, "parameters": SEARCH | VARIANTS[title]})
            except ValueError as error:
                answers[title] = _sentence(error, paths)
        return render_answers(answers, self.names, shown, user["reviews"])

    def keep_photos(self, photos: list | None) -> tuple[list, str | dict]:
        """The gallery without what is no photo, and in the place of the results a sentence for each of these."""
        kept, refused = [], []
        for path in [Path(path) for path, _ in photos or ()]:
            try:
                with self.handler.decoded(read_upload(path, self.uploads), "inputs.images[0]"):
                    kept.append(path)
            except ValueError as error:
                refused.append(_sentence(error, [path]))
        return kept, render_error(" ".join(refused)) if refused else gr.skip()

    def _read_form(self, reviews: str, paths: list[Path], captions: str) -> dict:
        lines = [line.strip() for line in (captions or "").splitlines()]
        user = {"reviews": _paragraphs(reviews), "captions": [line for line in lines if line]}
        if not user["reviews"] and not user["captions"] and not paths:
            raise ValueError(NOTHING)
        if len(paths) > self.processor.max_images:
            raise ValueError(f"{len(paths)} photos are too many, the model takes up to {self.processor.max_images}.")
        return user | {"images": [read_upload(path, self.uploads) for path in paths]}

    def _thumbnails(self, images: list[bytes]) -> Iterator[str]:
        for index, image in enumerate(images):
            # What the handler did not decode, for a model that looks at no photos, may be broken.
            with self.handler.decoded(image, f"inputs.images[{index}]") as photo:
                yield thumbnail(photo)


def build_app(model_id: str, revision: str | None = None, trusted: bool = False) -> Page:
    """The page, with the model loaded; `launch` serves it.

    Args:
        model_id: a folder or the Hub name of a model.
        revision: the branch, tag or commit of a Hub name, of the code as well; default: main.
        trusted: run the code that came with the model.
    """
    uploads = upload_folder()
    profiler, examples = Profiler(model_id, uploads, revision, trusted), _example_users()
    card, train_corpus = read_card(model_id, revision), read_train_corpus(model_id, revision)
    about = render_about(model_id, revision, card, train_corpus)
    with Page(uploads, title=TITLE, analytics_enabled=False, delete_cache=DELETED) as app:
        gr.HTML(HEAD + about, elem_id="head", js_on_load=None)
        with gr.Row():
            with gr.Column(min_width=320):
                with gr.Row(elem_id="examples"):
                    buttons = [_example_button(title, photos[0]) for title, (_, photos, _) in examples.items()]
                reviews = gr.Textbox(
                    label="Reviews",
                    info="As many as there are, the newest first, a blank line between two. Shift + Enter writes the"
                    " profile.",
                    lines=6,
                    max_lines=14,
                    elem_id="reviews",
                )
                photos = gr.Gallery(
                    label="Photos of the places reviewed",
                    file_types=["image"],
                    type="filepath",
                    interactive=True,
                    height=170,
                    fit_columns=False,
                    object_fit="cover",
                    buttons=[],
                    elem_id="photos",
                )
                captions = gr.Textbox(
                    label="Captions of the photos, if there are any, one a line", lines=2, max_lines=8
                )
                with gr.Row():
                    clear = gr.Button("Clear", min_width=100)
                    submit = gr.Button("Write the profile", variant="primary", elem_id="submit", min_width=180)
            with gr.Column(min_width=320):
                switches = gr.CheckboxGroup(
                    SWITCHES, value=[EACH], label="What if? Compare with the answer without ..."
                )
                results = gr.HTML(EMPTY, elem_id="results", js_on_load=None)
        form = [reviews, photos, captions, switches]
        run = {"fn": profiler, "inputs": form, "outputs": results, "concurrency_limit": 2, "concurrency_id": "model"}
        written = [submit.click(**run, api_name="profile"), reviews.submit(**run, api_visibility="private")]
        compared = switches.input(**run, api_visibility="private", trigger_mode="always_last")
        checked = photos.upload(
            profiler.keep_photos,
            inputs=photos,
            outputs=[photos, results],
            api_visibility="private",
            concurrency_limit=2,
        )
        checked.then(None, js=SHOW_PROBLEM, api_visibility="private")
        clear.click(lambda: ("", None, "", [EACH], EMPTY), outputs=[*form, results], api_visibility="private")
        for button, user in zip(buttons, examples.values(), strict=True):
            loaded = button.click(lambda user=user: user, outputs=form[:3], api_visibility="private")
            written.append(loaded.then(**run, api_visibility="private"))
        for event in written:
            event.then(None, js=SHOW_RESULTS, api_visibility="private")
        # The answer first; what takes longer behind it.
        more = run | {"fn": profiler.effects, "show_progress": "minimal"}
        later: list[Any] = [event.then(**more, api_visibility="private") for event in (*written, compared)]
        for anew in (submit.click, reviews.submit, switches.input, clear.click, *(one.click for one in buttons)):
            anew(None, cancels=later, api_visibility="private")  # or an older answer would come over a newer one
    app.queue(max_size=WAITING, api_open=False)
    app._queue.pending_messages_per_session.max_size = UNREAD
    return app


@cache
def upload_folder() -> Path:
    """This process' own folder of uploads, deleted when it ends. Gradio's is shared by all of a user's pages."""
    folder = Path(tempfile.mkdtemp(prefix="mmprofile-uploads-", dir=os.environ.get("GRADIO_TEMP_DIR"))).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder


def launch(app: Page, **options):
    """Serves the page; options as of `gr.Blocks.launch`."""
    return app.launch(
        app_kwargs={"middleware": [Middleware(Gate, page=app)]},
        run_history=False,
        state_session_capacity=SESSIONS,
        theme=THEME,
        css_paths=[ROOT / "web" / "page.css"],
        max_file_size=UPLOAD_BYTES,
        footer_links=[],
        ssr_mode=False,
        **options,
    )


def save_space(folder: str | os.PathLike, model_id: str, space_id: str | None = None) -> None:
    """Writes the files of a Space, its header among them; the Space's variable MODEL_ID names the model.

    Args:
        folder: new, or one that the files may be written over.
        model_id: the Hub name of the model, which the header links to.
        space_id: of the Space, where the picture lies that the Hub shows with a link to it.
    """
    folder = Path(folder)
    for name in SPACE_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copyfile(ROOT / "requirements-app.txt", folder / "requirements.txt")
    card = folder / "README.md"
    variables = "by its variable MODEL_ID; with TRUST_REMOTE_CODE=true it runs the model's code"
    card.write_text(f"# {TITLE}\n\nA page for the model `{model_id}`, {variables}.\n", encoding="utf-8")
    header = {"title": TITLE, "emoji": "\U0001f355", "colorFrom": "green", "colorTo": "blue", "sdk": "gradio"}
    header |= {"sdk_version": gr.__version__, "app_file": "app.py", "models": [model_id], "license": "apache-2.0"}
    header |= {"short_description": SHORT, "tags": TAGS, "pinned": False, "suggested_hardware": "cpu-basic"}
    header["python_version"] = "3.11"
    save_thumbnail(
        [Image.open(io.BytesIO(base64.b64decode(user["photos"][0]))) for user in EXAMPLES], folder / PICTURE
    )
    if space_id:
        header["thumbnail"] = f"https://huggingface.co/spaces/{space_id}/resolve/main/{PICTURE}"
    metadata_save(card, header)


def main(argv: list[str] | None = None) -> None:
    log_progress()
    parser = argument_parser(__doc__)
    options = parser.parse_args(argv)
    if not options.model:
        parser.error("--model is needed, or the environment variable MODEL_ID")
    if options.revision is not None and Path(options.model).is_dir():
        parser.error(f"--revision {options.revision} is for a model of the Hub, {options.model!r} is a folder")
    try:
        app = build_app(options.model, options.revision, options.trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"The model {options.model!r} cannot be loaded: {error}")
    launch(app, server_port=options.port)


def _paragraphs(text: str | None) -> list[str]:
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text or "")]
    return [part for part in paragraphs if part]


def _example_users() -> dict[str, tuple[str, list[Path], str]]:
    """Title -> reviews, photos and captions, as the form has them."""
    folder = Path(tempfile.mkdtemp(prefix="mmprofile-examples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    users = {}
    for number, example in enumerate(EXAMPLES):
        paths = []
        for index, photo in enumerate(example["photos"]):
            paths.append(folder / f"example-{number + 1}-{index + 1}.jpg")
            paths[-1].write_bytes(base64.b64decode(photo))
        users[example["title"]] = ("\n\n".join(example["reviews"]), paths, "\n".join(example["captions"]))
    return users


def _example_button(title: str, photo: Path) -> gr.Button:
    """A picture to click on, and what it shows."""
    button = gr.Button(f"Example: {title}", icon=photo, min_width=90, elem_classes="example")
    assert button.icon is not None  # it was given one
    button.keep_in_cache.add(button.icon["path"])
    return button


def _sentence(error: ValueError, paths: list[Path]) -> str:
    """What the handler refuses, for a person: photos have names, not places in a request, and settings none."""
    parts = re.match(r"(inputs[^:]*)?(: )?(.*)", str(error), re.DOTALL)
    assert parts is not None  # any text is of this form
    place, _, reason = parts.groups()
    reason = re.sub(r" \(\w+_\w+\)", "", reason)
    photo = re.fullmatch(r"inputs\.images\[(\d+)\]", place or "")
    if photo:
        return f"The photo “{shown_name(paths[int(photo[1])])}” was not taken: {reason}."
    texts = re.fullmatch(r"inputs\.(reviews|captions)", place or "")
    if texts:
        return f"The {texts[1]} are too many: {reason}."
    return reason[:1].upper() + reason[1:] + ("" if reason.endswith(".") else ".")


if __name__ == "__main__":
    main()
