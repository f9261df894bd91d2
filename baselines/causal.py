"""Causal language models of transformers as systems: a prompt, and the profile as what follows it.

The prompt is a view's text without its `</s>`, and a line that asks for the profile. Prompts are padded on the left
and profiles on the right, so that a profile begins at one column in all rows of a batch, right behind its prompt:

    - - [opening] [photos] reviews the line | profile </s>
    [opening] [photos] longer reviews the line | profile </s> -

Only the profile carries loss. A token's position counts what is there before it, so padding changes nothing.

Shapes: batch users, seq text tokens, prompt tokens of the longest prompt, target label tokens, hidden the width.
"""

from collections.abc import Callable
from typing import Any

import torch

from mmprofile import Profile, sum_target_losses, write_profiles
from systems.system import Inputs, SystemModel, beam_search

PROMPT_LINE = "The profile of this user:"
NOTHING = -100  # in rows of tokens: padding, as in labels


class CausalSystem(SystemModel):
    """A causal language model. It stands before the class of transformers in the bases.

    The configuration has, beside what every system's has, `opening_ids` and `prompt_ids`: the tokens before and behind
    a text, see `prepare`.
    """

    __call__: Callable[..., Any]
    generation_config: Any
    get_input_embeddings: Callable[..., Any]

    def prepare(self, processor) -> None:
        """Takes the prompt's tokens, padding and the end of a profile from the tokenizer."""
        tokenizer = processor.tokenizer
        self.config.opening_ids = self.opening(tokenizer)
        self.config.prompt_ids = tokenizer(PROMPT_LINE, add_special_tokens=False).input_ids
        for config in (self.config, self.config.get_text_config(), self.generation_config):
            config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id

    def opening(self, tokenizer) -> list[int]:
        """The tokens that every text began with in pre-training."""
        return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def prompts(self, inputs: Inputs) -> torch.Tensor:
        """Token ids (batch, prompt), `NOTHING` on the left; inputs as of `target_losses`."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        ends = mask.cumsum(dim=1) >= mask.sum(dim=1, keepdim=True)  # at the last token, and behind it
        line = ids.new_tensor(self.config.opening_ids + self.config.prompt_ids).expand(len(ids), -1)
        opening, asking = line.split([len(self.config.opening_ids), len(self.config.prompt_ids)], dim=1)
        return padded_left(torch.cat([opening, self.photo_places(inputs), ids.masked_fill(ends, NOTHING), asking], 1))

    def photo_places(self, inputs: Inputs) -> torch.Tensor:
        """(batch, places), what stands for photos in the rows; here none."""
        return inputs["input_ids"][:, :0]

    def embed(self, rows: torch.Tensor, inputs: Inputs) -> dict[str, torch.Tensor]:
        """Rows of tokens (batch, any) as the model takes them: `inputs_embeds` (batch, any, hidden) and the mask."""
        embeds = self.get_input_embeddings()(rows.clamp(min=0))
        return {"inputs_embeds": embeds, "attention_mask": (rows != NOTHING).long()}

    def target_losses(self, inputs: Inputs, targets: Inputs) -> torch.Tensor:
        labels = targets["labels"]
        # The last label is predicted alone, nothing by it.
        embedded = self.embed(torch.cat([self.prompts(inputs), labels[:, :-1]], dim=1), inputs)
        positions = (embedded["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        logits = self(**embedded, position_ids=positions, logits_to_keep=labels.shape[1], use_cache=False).logits
        return sum_target_losses(logits, labels)

    @torch.no_grad()
    def write_profiles(self, inputs: Inputs, processor, num_beams: int, constrained: bool = False) -> list[Profile]:
        embedded = self.embed(self.prompts(inputs), inputs)
        # Of embeddings `generate` returns what comes behind them.
        return write_profiles(self, embedded, processor, num_beams, constrained, start=0)

    def explore_profiles(self, inputs: Inputs, tokenizer, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return beam_search(self, self.embed(self.prompts(inputs), inputs), tokenizer, number, start=0)


def padded_left(rows: torch.Tensor) -> torch.Tensor:
    """(batch, any), with each row's `NOTHING` moved to its beginning, all else in its order; no wider than needed."""
    there = rows != NOTHING
    order = there.long().argsort(dim=1, stable=True)
    return rows.gather(1, order)[:, rows.shape[1] - int(there.sum(dim=1).max()) :]
