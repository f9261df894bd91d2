"""What README.md and docs/ say of the repository is so."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from mmprofile import ProfileSchema
from tests import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
ALL = "\n".join([README, *DOCS.values()])


def tree_entries():
    """The paths of the file tree in docs/files.md; a line is an indented name, two blanks and what it is."""
    block = DOCS["files.md"].split("```text\n")[1].split("```")[0]
    parents, entries = [], set()
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth:] = [name.rstrip("/")]
        if not name.endswith("/"):
            entries.add("/".join(parents))
    return entries


def repository_files():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # A checkout of another user's is one too.
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = {path for path in listed.stdout.splitlines() if (ROOT / path).exists()}
    paths = {path for path in paths if Path(path).name != "__init__.py"}  # the folder's line says what it says
    return {path for path in paths if not path.startswith(("tests/", "experiments/results/"))}  # a line each


def test_the_file_tree_is_what_is_on_the_disk():
    assert tree_entries() == repository_files()


def test_the_front_matter_is_a_model_cards():
    card = ModelCard(README)
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert set(yaml.safe_load(README.split("---")[1])) >= {"license", "tags", "datasets", "metrics", "widget"}


def test_readme_is_short_and_its_links_lead_somewhere():
    links = re.findall(r"\]\((docs/[^)]+)\)", README)
    assert len(README.splitlines()) < 150
    assert sorted(links) == sorted(f"docs/{name}" for name in DOCS)


@pytest.mark.parametrize("pattern", [r"python -m ([\w.]+)", r"(?:python|launch) (\w[\w/]*)\.py", r"`(\w[\w/]*)\.py`"])
def test_every_program_and_file_that_is_named_exists(pattern):
    names = {name.replace(".", "/") for name in re.findall(pattern, ALL)}
    assert names
    assert [name for name in sorted(names) if not (ROOT / f"{name}.py").is_file()] == []


def test_every_make_target_and_recipe_that_it_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    assert (targets := re.findall(r"^make ([a-z-]+)", ALL, re.M))
    for target in targets:
        assert f"\n{target}:" in makefile
    assert (recipes := re.findall(r"recipes/\w+\.yaml", ALL))
    for recipe in recipes:
        assert (ROOT / recipe).is_file()


def test_the_schema_example_renders_what_it_says():
    text = DOCS["attributes.md"]
    code, expected = re.search(r"(schema = .*?\n\)\)\n)schema.render\((.*?)\)  # ", text, re.S).groups()
    names = {"ProfileSchema": ProfileSchema}
    exec(code, names)
    rendered = re.search(r"# '(Diet: .*?)'", text).group(1)
    assert names["schema"].render(eval(expected)) == rendered
