"""`mmprofile`: the library's names, the same for editors, and nothing imported before it is asked for."""

import ast
import subprocess
import sys
from importlib import import_module

import pytest

import mmprofile
from tests import ROOT

PARTS = ast.parse((ROOT / "mmprofile.py").read_text(encoding="utf-8")).body


def test_editors_see_the_names_that_there_are_each_from_its_file():
    (typed,) = [part.body for part in PARTS if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"]
    seen = [(line.module, alias.name, alias.asname) for line in typed for alias in line.names]
    assert seen == [(mmprofile._HOMES[name], name, name) for name in mmprofile.__all__]


@pytest.mark.parametrize("name", mmprofile.__all__)
def test_a_name_is_what_its_file_calls_so(name):
    assert getattr(mmprofile, name) is getattr(import_module(f"mmprofile.{mmprofile._HOMES[name]}"), name)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mmprofile' has no attribute 'ProfileScheme'"):
        mmprofile.ProfileScheme  # noqa: B018


def test_nothing_is_imported_before_it_is_asked_for():
    program = "import sys, mmprofile; print({'torch', 'transformers'} & set(sys.modules))"
    program += "; mmprofile.shown; print({'torch', 'transformers'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\nset()\n"
