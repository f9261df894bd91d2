"""The hierarchical attention network: its GRU and attention against NumPy, and what is a section."""

import numpy as np
import torch

from baselines.hierarchical_reader import AttentiveGru, cut_sections


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_gru(w, suffix, inputs):
    """The states of one direction, step by step, as torch orders the gates: reset, update, new."""
    size = w["gru.weight_hh_l0" + suffix].shape[1]
    state, states = np.zeros(size), []
    for step in inputs if not suffix else inputs[::-1]:
        given = w["gru.weight_ih_l0" + suffix] @ step + w["gru.bias_ih_l0" + suffix]
        kept = w["gru.weight_hh_l0" + suffix] @ state + w["gru.bias_hh_l0" + suffix]
        reset, update = (sigmoid(given[part] + kept[part]) for part in (slice(size), slice(size, 2 * size)))
        new = np.tanh(given[2 * size :] + reset * kept[2 * size :])
        state = (1 - update) * new + update * state
        states.append(state)
    return np.stack(states if not suffix else states[::-1])


def test_words_are_read_by_a_gru_in_both_directions_and_weighed_by_what_is_informative():
    block = AttentiveGru(5, 4)
    inputs, lengths = torch.randn(3, 6, 5), torch.tensor([6, 1, 4])
    found = block(inputs, lengths).detach().numpy()
    w = {name: p.detach().numpy() for name, p in block.named_parameters()}
    for row, length in enumerate((6, 1, 4)):
        steps = inputs[row, :length].numpy()
        states = np.concatenate([reference_gru(w, suffix, steps) for suffix in ("", "_reverse")], axis=1)
        hidden = np.tanh(states @ w["project.weight"].T + w["project.bias"])
        expected = softmax(hidden @ w["context.weight"][0]) @ states
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-6)


def test_sections_go_from_mark_to_mark_and_what_stands_before_the_first_is_one():
    ids = torch.tensor([[8, 3, 4, 8, 9, 5, 0], [3, 4, 8, 5, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0]])
    words, lengths, numbers = cut_sections(ids, (ids != 0).long(), [8, 9])
    assert words.tolist() == [[8, 3, 4], [8, 0, 0], [9, 5, 0], [3, 4, 0], [8, 5, 0], [3, 0, 0]]
    assert lengths.tolist() == [3, 1, 2, 2, 2, 1]
    assert numbers.tolist() == [3, 2, 1]
