"""A language without blanks between words, from the corpus to profiles read back."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from transformers import AutoModelForSeq2SeqLM, AutoProcessor

from mmprofile import ProfileSchema
from tests.tiny_corpus import png
from tests.training.test_train import run

SCHEMA = ProfileSchema(
    (
        {"name": "喜欢的菜", "values": ["火锅", "小笼包", "北京烤鸭"]},
        {"name": "口味", "values": ["清淡", "麻辣"]},
        {"name": "常去的地方", "values": ["公园", "书店", "茶馆"], "count": 2},
    )
)
OPENINGS = ("昨天和朋友一起来，", "第三次来了，", "周末带孩子过来，", "下班以后路过，")
CLOSINGS = ("服务员很热情。", "等位的人不少。", "价格也算公道。", "下次还会再来！")


def row(number: int) -> dict:
    """A user whose reviews tell the profile."""
    rng = np.random.default_rng(number)
    dish, taste = rng.integers(3), rng.integers(2)
    places = sorted(rng.choice(3, 2, replace=False).tolist())
    dishes, tastes, visited = (attribute.values for attribute in SCHEMA.attributes)
    told = [
        f"点了{dishes[dish]}，真好吃，",
        f"我就爱{tastes[taste]}的，",
        *(f"饭后去了{visited[p]}，" for p in places),
    ]
    reviews = [
        {
            "text": rng.choice(OPENINGS) + "".join(told[part::2]) + rng.choice(CLOSINGS),
            "images": [png(40 * int(dish))],
            "captions": ["桌上的一盘菜"],
        }
        for part in (0, 1)
    ]
    labels = dict(zip(SCHEMA.keys, (int(dish), int(taste), places), strict=True))
    return {"user_id": f"用户{number}", "reviews": reviews, "profile": labels}


def write_corpus(folder) -> None:
    labels = {
        a.key: ClassLabel(names=list(a.values)) if a.count == 1 else List(ClassLabel(names=list(a.values)), a.count)
        for a in SCHEMA.attributes
    }
    review = {"text": Value("string"), "images": List(Image()), "captions": List(Value("string"))}
    features = Features({"user_id": Value("string"), "reviews": List(review), "profile": labels})
    splits = {"train": range(64), "validation": range(64, 72), "test": range(72, 84)}
    corpus = DatasetDict({name: Dataset.from_list([*map(row, n)], features=features) for name, n in splits.items()})
    for name, split in corpus.items():
        split.to_parquet(folder / f"{name}.parquet")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")  # of the figures, where no font of the machine has them
def test_a_chinese_corpus_trains_to_profiles_that_decode_back(tmp_path):
    (tmp_path / "corpus").mkdir()
    write_corpus(tmp_path / "corpus")
    flags = {"vocab_size": 1000, "language": "zh", "objectives": ["fusion"], "forged_lines": 0, "batch_size": 8}
    results, history = run(tmp_path / "corpus", tmp_path / "model", num_epochs=12, learning_rate=0.005, **flags)
    assert history[-1]["train_loss"] < 0.3 * history[0]["train_loss"]
    assert results["test_average_f1"] > results["test_majority_average_f1"] + 20
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "喜欢的菜" in card and "北京烤鸭" in card

    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model", trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["profile_schema"] == SCHEMA.to_list()
    right = alike = 0
    for user in map(row, range(72, 84)):
        reviews = [review["text"] for review in user["reviews"]]
        photos = [review["images"][0]["bytes"] for review in user["reviews"]]
        inputs = processor(reviews=reviews, images=photos, captions=["桌上的一盘菜"] * 2)
        assert processor.tokenizer.unk_token_id not in inputs["input_ids"]
        (found,) = model.generate_profiles(**inputs, tokenizer=processor.tokenizer)
        assert found.exact and SCHEMA.parse(found.text) == found.profile
        right += found.profile == SCHEMA.profile_from_labels(user["profile"])
        (written,) = model.generate(**inputs, num_beams=1, max_new_tokens=40)
        text = processor.tokenizer.decode(written, skip_special_tokens=True)
        assert processor.decode_profiles([written.tolist()], strict=True) == [SCHEMA.parse(text)]
        alike += text == found.text  # greedy steps may miss the most probable profile
    assert right >= 8 and alike >= 8
