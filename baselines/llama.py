"""LLaMA (Touvron et al., 2023, arXiv:2302.13971; its second version, which the paper cites, arXiv:2307.09288).

As the source has it, but for what it is asked: it is fine-tuned to write the profile behind a prompt, see
`baselines.causal`, without a chat template. The paper does not say how it asked LLaMA; this prompt is ours.
"""

from transformers import LlamaConfig, LlamaForCausalLM

from baselines.causal import CausalSystem
from baselines.checkpoints import load_checkpoint
from systems.system import System


class Llama(CausalSystem, LlamaForCausalLM):
    """LLaMA as a system."""


def tiny_llama_config(processor, hidden_size: int = 96) -> LlamaConfig:
    """About a million parameters, for the processor's tokenizer."""
    tokenizer = processor.tokenizer
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        initializer_range=hidden_size**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny(processor) -> Llama:
    model = Llama(tiny_llama_config(processor))
    model.prepare(processor)
    return model


def pretrained(text_model: str, vision_model: None) -> Llama:
    return load_checkpoint(Llama, text_model)


LLAMA = System(
    name="llama",
    title="LLaMA",
    about="A LLaMA decoder reads the text as a prompt, and writes the profile behind it",
    model_class=Llama,
    tiny=tiny,
    pretrained=pretrained,
    text_model="meta-llama/Llama-2-7b-hf",
)
