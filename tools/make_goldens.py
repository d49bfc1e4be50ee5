#!/usr/bin/env python3
"""Makes tests/goldens/: what PyTorch and transformers compute, in float64, for tiny random models.

    python3 -m venv /tmp/goldens && /tmp/goldens/bin/pip install torch==2.11.0 transformers==5.23.0 safetensors
    /tmp/goldens/bin/python tools/make_goldens.py

Each file holds the weights (float32), the ids, and in float64 the logits, the loss (metadata) and the
gradient of the loss with respect to every parameter. The versions stand in the file's metadata.
"""
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"

MODELS = {
    "neox_parallel": dict(
        vocab_size=53, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, rotary_pct=0.25, hidden_act="gelu", use_parallel_residual=True,
        tie_word_embeddings=False),
    "neox_sequential": dict(
        vocab_size=31, hidden_size=12, num_hidden_layers=3, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=32, rotary_pct=1.0, rotary_emb_base=500, hidden_act="gelu_new",
        use_parallel_residual=False, tie_word_embeddings=True, attention_bias=False),
}


def build(settings):
    config = transformers.GPTNeoXConfig(**settings)
    # transformers 5 reads the rotary fields from here.
    rope = {"rope_type": "default", "rope_theta": float(settings.get("rotary_emb_base", 10000)),
            "partial_rotary_factor": settings["rotary_pct"]}
    if hasattr(config, "rope_parameters"):
        config.rope_parameters = rope
    return transformers.GPTNeoXForCausalLM._from_config(config, attn_implementation="eager")


def make(name, settings):
    torch.manual_seed(0)
    model = build(settings)
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            # Larger than an initialisation, so that every nonlinearity and every bias is felt.
            p.copy_(torch.randn(p.shape) * 0.3 + (1.0 if "norm.weight" in parameter_name else 0.0))
    model = model.double()
    for module in model.modules():  # the table of angles is float32 otherwise
        if hasattr(module, "inv_freq"):
            r = module.inv_freq.numel() * 2
            base = float(settings.get("rotary_emb_base", 10000))
            module.inv_freq = base ** (-torch.arange(0, r, 2, dtype=torch.float64) / r)
    ids = torch.randint(0, settings["vocab_size"], (3, 11))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    logits = model(inputs).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    tensors = {"ids": ids.to(torch.int64), "logits": logits.detach()}
    for parameter_name, p in model.named_parameters():
        canonical = parameter_name.replace("lm_head.weight", "embed_out.weight")
        tensors["weight/" + canonical] = p.detach().float().contiguous()
        tensors["gradient/" + canonical] = p.grad.contiguous()
    metadata = {"torch": torch.__version__, "transformers": transformers.__version__,
                "loss": repr(loss.item()), "config": json.dumps({"model_type": "gpt_neox", **settings})}
    GOLDENS.mkdir(parents=True, exist_ok=True)
    save_file(tensors, GOLDENS / f"{name}.safetensors", metadata=metadata)
    print(name, "loss", loss.item(), "dtype", logits.dtype)


for name, settings in MODELS.items():
    make(name, settings)
