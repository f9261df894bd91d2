"""The hierarchical attention network (Yang et al., NAACL 2016, "Hierarchical Attention Networks for Document
Classification"): a GRU and an attention over the words of each section of a text, and again over the sections.

What differs from the source: a section is a review, a caption or a profile rather than a sentence, and words are a
tokenizer's pieces.

Shapes:
    batch     users
    seq       text tokens
    sections  of all users of a batch
    width     of a state, twice `hidden_size`
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class AttentiveGru(nn.Module):
    """A bidirectional GRU, and the mean of its states by an attention to what is informative.

    Args:
        size: of an input.
        hidden_size: of the state of one direction.
    """

    def __init__(self, size: int, hidden_size: int):
        super().__init__()
        self.gru = nn.GRU(size, hidden_size, batch_first=True, bidirectional=True)
        self.project = nn.Linear(2 * hidden_size, 2 * hidden_size)
        self.context = nn.Linear(2 * hidden_size, 1, bias=False)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(rows, steps, size) and (rows,), the steps that there are of each, at least one -> (rows, width)."""
        # No 16 bits: a GRU adds up over hundreds of steps, and not every device has one in them.
        with torch.autocast(inputs.device.type, enabled=False):
            inputs = inputs.to(self.project.weight.dtype)
            packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
            scores = self.context(torch.tanh(self.project(states))).squeeze(-1)  # (rows, steps)
            there = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
            weights = scores.masked_fill(~there, -torch.inf).softmax(dim=-1)
            return (weights[:, None] @ states).squeeze(1)


class HierarchicalReader(nn.Module):
    """The hierarchical attention network: words -> sections -> a user's text.

    Args:
        vocab_size: of the tokenizer.
        embedding_size: of a word's embedding.
        hidden_size: of a GRU's state, in each of its two directions.
    """

    def __init__(self, vocab_size: int, embedding_size: int, hidden_size: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.words = AttentiveGru(embedding_size, hidden_size)
        self.sections = AttentiveGru(2 * hidden_size, hidden_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, mark_ids: list[int]) -> torch.Tensor:
        """(batch, seq) -> (batch, width)."""
        words, lengths, numbers = cut_sections(input_ids, attention_mask, mark_ids)
        found = self.words(self.embedding(words), lengths)
        return self.sections(pad_sequence(found.split(numbers.tolist()), batch_first=True), numbers)


def cut_sections(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, mark_ids: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The sections of users' texts, each from its mark to the next; what stands before the first mark is one too.

    Args:
        input_ids, attention_mask: (batch, seq), padded on the right, no text empty.
        mark_ids: the tokens that begin a section.

    Returns:
        Token ids (sections, longest) padded with 0, lengths (sections,), and how many sections each user has (batch,).
    """
    there = attention_mask.bool()
    place = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    marks = torch.tensor(mark_ids, dtype=input_ids.dtype, device=input_ids.device)
    begins = there & (torch.isin(input_ids, marks) | (place == 0))
    numbers = begins.sum(dim=1)
    section = begins.cumsum(dim=1) - 1 + (numbers.cumsum(0) - numbers)[:, None]
    first = torch.where(begins, place, 0).cummax(dim=1).values
    lengths = torch.bincount(section[there])
    words = input_ids.new_zeros(len(lengths), int(lengths.max()))
    words[section[there], (place - first)[there]] = input_ids[there]
    return words, lengths, numbers
