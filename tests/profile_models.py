"""Tiny models with random weights that write profiles, their inputs, and teacher-forced scores."""

from functools import lru_cache

import torch
from transformers import PreTrainedTokenizerFast

from mmprofile.modeling_mmprofile import MMProfileForConditionalGeneration
from tests.tiny_models import D_MODEL, tiny_model
from tests.toy_schemas import SCHEMAS, all_profiles, unigram_tokenizer

USERS = 3


def model_for(
    tokenizer, name: str = "alike", sharpness: float = 1.0, tied: bool = False, **options
) -> MMProfileForConditionalGeneration:
    """Random weights that heed the input; the larger the sharpness, the less even the distributions."""
    text = {"vocab_size": len(tokenizer), "tie_word_embeddings": tied}
    model = tiny_model(text=text, profile_schema=SCHEMAS[name], **options)
    if not tied:
        torch.nn.init.normal_(model.text_model.lm_head.weight, std=sharpness * D_MODEL**-0.5)
    for block in model.text_model.decoder.block:  # fresh weights heed it little
        block.layer[1].EncDecAttention.v.weight.data.mul_(4)
    return model


def inputs_for(tokenizer, seed: int = 0, users: int = USERS) -> dict[str, torch.Tensor]:
    """Texts of different lengths, padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, len(tokenizer), (users, 12), generator=generator)
    mask = torch.arange(12)[None] < torch.tensor([12, 7, 9, 4]).repeat(users)[:users, None]
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


@lru_cache
def trained_model() -> tuple[MMProfileForConditionalGeneration, PreTrainedTokenizerFast]:
    """Of the three users of `inputs_for(tokenizer)`, the first was shown with one profile of the schema "alike", the
    second with any, the third with two."""
    torch.manual_seed(0)
    tokenizer, schema = unigram_tokenizer(), SCHEMAS["alike"]
    model = model_for(tokenizer, sharpness=0.3)
    texts = [schema.render(profile) for profile in all_profiles(schema)]
    inputs = {name: tensor.repeat(4, 1) for name, tensor in inputs_for(tokenizer).items()}
    steps = 300
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, steps)
    for step in range(steps):
        seen = [texts[number % len(texts)] for number in range(4 * step, 4 * step + 4)]
        shown = [text for number, text in enumerate(seen) for text in (texts[5], text, texts[10 + 10 * (number % 2)])]
        labels = tokenizer(shown, padding=True, return_tensors="pt")
        loss = model(**inputs, labels=labels.input_ids.masked_fill(labels.attention_mask == 0, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model, tokenizer


def label(tokenizer, text: str) -> list[int]:
    ids = tokenizer(text).input_ids
    return ids if ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


@torch.no_grad()
def teacher_forced(model, tokenizer, inputs: dict, texts: list[str], state=None) -> torch.Tensor:
    """(users, texts), log-probabilities; `state` in place of what is encoded of the inputs."""
    state = model.encode(**inputs) if state is None else state
    scores = []
    for text in texts:
        labels = torch.tensor([label(tokenizer, text)]).expand(len(state.last_hidden_state), -1)
        logits = model(encoder_outputs=state, labels=labels).logits.float()
        scores.append(logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0].double().sum(-1))
    return torch.stack(scores, dim=1)
