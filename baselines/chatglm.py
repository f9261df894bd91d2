"""ChatGLM (GLM: Du et al., 2022, ACL; ChatGLM to GLM-4: arXiv:2406.12793), by transformers' `GlmForCausalLM`.

What differs from the source: ChatGLM-6B, which the paper probably means, has a class of its own that is not in
transformers, with GLM's attention both ways within the prompt. What transformers has is GLM-4's, a causal decoder of
the same family: rotary positions in half of a head's channels, a few heads of keys and values for many of queries, and
texts that begin with `[gMASK]<sop>`. The prompt is that of `baselines.causal`, without a chat template.
"""

from transformers import GlmConfig, GlmForCausalLM

from baselines.causal import CausalSystem
from baselines.checkpoints import load_checkpoint
from systems.system import System

OPENING = ("[gMASK]", "<sop>")


class ChatGlm(CausalSystem, GlmForCausalLM):
    """GLM as a system."""

    def opening(self, tokenizer) -> list[int]:
        known = tokenizer.get_vocab()
        return [known[token] for token in OPENING if token in known]


def tiny_glm_config(processor, hidden_size: int = 96) -> GlmConfig:
    """About a million parameters, for the processor's tokenizer."""
    tokenizer = processor.tokenizer
    return GlmConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden_size // 4,
        initializer_range=hidden_size**-0.5,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny(processor) -> ChatGlm:
    model = ChatGlm(tiny_glm_config(processor))
    model.prepare(processor)
    return model


def pretrained(text_model: str, vision_model: None) -> ChatGlm:
    return load_checkpoint(ChatGlm, text_model)


CHATGLM = System(
    name="chatglm",
    title="ChatGLM",
    about="A GLM decoder reads the text as a prompt, and writes the profile behind it",
    model_class=ChatGlm,
    tiny=tiny,
    pretrained=pretrained,
    text_model="zai-org/glm-4-9b-hf",
)
