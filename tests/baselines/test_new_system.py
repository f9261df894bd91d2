"""A system is added as the documentation says."""

import re
import sys
from types import ModuleType

import pytest

import predict
from baselines.table import SYSTEMS
from files.output_files import read_json
from tests import ROOT
from tests.tiny_corpus import write_corpus
from tests.training.test_train import main


@pytest.fixture
def long_t5(monkeypatch):
    """The documentation's system, in the table."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "LongT5Config" in block)
    module = ModuleType("baselines.long_t5")
    monkeypatch.setitem(sys.modules, "baselines.long_t5", module)
    exec(compile(code, "docs/extending.md", "exec"), vars(module))
    monkeypatch.setitem(SYSTEMS, "long_t5", module.LONG_T5)
    return module.LONG_T5


@pytest.mark.slow
def test_the_documentations_system_is_trained_and_predicts(long_t5, tmp_path):
    corpus, output = tmp_path / "corpus", tmp_path / "model"
    write_corpus(corpus)
    results = main(corpus, output, system="long_t5")
    assert "long_t5" in results["test_f1"] and read_json(output / "config.json")["system"] == "long_t5"
    assert "LongT5" in (output / "README.md").read_text(encoding="utf-8")
    asked = ["--model", str(output), "--dataset", str(corpus), "--split", "test", "--output", str(tmp_path / "out")]
    assert predict.main([*asked, "--evaluate", "true"])["predicted"] == 4
