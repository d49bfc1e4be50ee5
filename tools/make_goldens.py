#!/usr/bin/env python3
"""Makes tests/goldens/: what PyTorch and transformers compute, in float64, for tiny random models; numpy's
random numbers, and the order that GPT-NeoX's GPT2Dataset makes of them.

    python3 -m venv /tmp/goldens && /tmp/goldens/bin/pip install torch==2.11.0 transformers==5.23.0 safetensors numpy
    /tmp/goldens/bin/python tools/make_goldens.py
    /tmp/goldens/bin/python tools/make_goldens.py --folders DIR

neox_parallel and neox_sequential hold the weights (float32), the ids, and the logits, the loss (metadata) and
the gradient of the loss with respect to every parameter. gpt2, olmo2 and neox hold one set of weights and the
logits of several cases (`logits/CASE`): other fields in config.json, or the weights rounded to bf16 or fp16
first. The metadata's `cases` says which config.json and which type; the versions stand there too.
numpy_random.json, numpy_generator.json and gpt2_dataset.json are numpy's alone.

With --folders, models are written instead as transformers and PyTorch write them, a folder each: safetensors,
shards of both kinds and pytorch_model.bin, with ids.npy and logits.npy (float64) beside them. Those are not
committed: tests/peer_models_test.py runs the program on them.
"""
import argparse
import hashlib
import json
import pathlib

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}

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

GPT2 = dict(model_type="gpt2", vocab_size=19, n_positions=12, n_embd=8, n_layer=2, n_head=2)
OLMO2 = dict(model_type="olmo2", vocab_size=19, hidden_size=8, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=4, intermediate_size=12, max_position_embeddings=16, hidden_act="silu",
             rms_norm_eps=1e-6, rope_theta=500000, rope_scaling=None, attention_bias=False,
             tie_word_embeddings=False)
NEOX = dict(model_type="gpt_neox", vocab_size=19, hidden_size=8, num_hidden_layers=2, num_attention_heads=1,
            intermediate_size=12, max_position_embeddings=16, hidden_act="gelu", tie_word_embeddings=False)
OLD_ROPE = dict(rotary_pct=0.5, rotary_emb_base=50)

# Per family: the config that has every tensor, and per case what is added to it and the stored type.
CASES = {
    "gpt2": (dict(GPT2, tie_word_embeddings=False), {
        "plain": (GPT2, "fp32"),
        "inverse_layer": (dict(GPT2, scale_attn_by_inverse_layer_idx=True), "fp32"),
        "unscaled_upcast": (dict(GPT2, scale_attn_weights=False, reorder_and_upcast_attn=True), "fp32"),
        "erf": (dict(GPT2, activation_function="gelu"), "fp32"),
        "untied": (dict(GPT2, tie_word_embeddings=False), "fp32"),
        "bf16": (GPT2, "bf16"),
        "fp16": (GPT2, "fp16"),
    }),
    "olmo2": (OLMO2, {
        "plain": (OLMO2, "fp32"),
        "tied": (dict(OLMO2, tie_word_embeddings=True), "fp32"),
        "newest": ({**{key: value for key, value in OLMO2.items() if not key.startswith("rope")},
                    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}, "fp32"),
        "bf16": (OLMO2, "bf16"),
        "fp16": (OLMO2, "fp16"),
    }),
    "neox": (dict(NEOX, **OLD_ROPE), {
        "plain": (dict(NEOX, **OLD_ROPE), "fp32"),
        "middle": (dict(NEOX, **OLD_ROPE, partial_rotary_factor=0.5, rope_theta=50.0, rope_scaling=None), "fp32"),
        "newest": (dict(NEOX, rope_parameters={"rope_type": "default", "rope_theta": 50.0,
                                               "partial_rotary_factor": 0.5}), "fp32"),
        "defaults": (NEOX, "fp32"),
        "two_heads": (dict(NEOX, num_attention_heads=2, rotary_pct=1.0, use_parallel_residual=False), "fp32"),
        "bf16": (dict(NEOX, **OLD_ROPE), "bf16"),
        "fp16": (dict(NEOX, **OLD_ROPE), "fp16"),
    }),
}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def save(name, tensors, metadata):
    """Nothing is written when the file holds the same already: safetensors orders metadata at random."""
    path = GOLDENS / f"{name}.safetensors"
    metadata = {**VERSIONS, **metadata}
    if path.exists():
        with safe_open(path, "pt") as old:
            if old.metadata() == metadata and set(old.keys()) == set(tensors) and all(
                    torch.equal(old.get_tensor(key), tensor) for key, tensor in tensors.items()):
                return
    save_file(tensors, path, metadata=metadata)


def build(settings):
    config = transformers.GPTNeoXConfig(**settings)
    # transformers 5 reads the rotary fields from here.
    rope = {"rope_type": "default", "rope_theta": float(settings.get("rotary_emb_base", 10000)),
            "partial_rotary_factor": settings["rotary_pct"]}
    if hasattr(config, "rope_parameters"):
        config.rope_parameters = rope
    return transformers.GPTNeoXForCausalLM._from_config(config, attn_implementation="eager")


def randomise(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Larger than an initialisation, so that every nonlinearity and every bias is felt.
            is_norm = name.endswith("weight") and ("norm" in name or "ln_" in name)
            p.copy_(torch.randn(p.shape) * 0.3 + (1.0 if is_norm else 0.0))


def make(name, settings):
    torch.manual_seed(0)
    model = build(settings)
    randomise(model)
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
    save(name, tensors, {"loss": repr(loss.item()), "config": json.dumps({"model_type": "gpt_neox", **settings})})
    print(name, "loss", loss.item(), "dtype", logits.dtype)


def from_json(config):
    """A model as transformers makes it of a config.json."""
    fields = {key: value for key, value in config.items() if key != "model_type"}
    made = transformers.AutoConfig.for_model(config["model_type"], **fields)
    return transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager").eval()


def logits_of(config, weights, dtype, ids):
    # Another order of the same operations, which transformers refuses to do in float64.
    model = from_json({key: value for key, value in config.items() if key != "reorder_and_upcast_attn"}).double()
    rounded = {name: tensor.to(TYPES[dtype]).double() for name, tensor in weights.items()}
    if config.get("tie_word_embeddings", config["model_type"] == "gpt2"):
        del rounded["lm_head.weight"]
    missing, unexpected = model.load_state_dict(rounded, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    with torch.no_grad():
        return model(ids, use_cache=False).logits


def make_cases(family):
    torch.manual_seed(1)
    whole, cases = CASES[family]
    model = from_json(whole)
    randomise(model)
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    ids = torch.randint(0, whole["vocab_size"], (2, 6))
    head = "embed_out.weight" if family == "neox" else "lm_head.weight"
    tensors = {"weight/" + name.replace("lm_head.weight", head): tensor for name, tensor in weights.items()}
    tensors["ids"] = ids
    for case, (config, dtype) in cases.items():
        tensors["logits/" + case] = logits_of(config, weights, dtype, ids)
        print(family, case, float(tensors["logits/" + case].norm()))
    described = {case: {"config": config, "dtype": dtype} for case, (config, dtype) in cases.items()}
    save(family, tensors, {"cases": json.dumps(described)})


PEERS = {
    "gpt2": dict(GPT2, n_embd=32, n_head=4, n_layer=3, vocab_size=211, n_positions=32),
    "olmo2": dict(OLMO2, hidden_size=32, head_dim=8, intermediate_size=48, num_hidden_layers=3, vocab_size=211),
    "olmo2_tied": dict(OLMO2, hidden_size=32, num_key_value_heads=4, vocab_size=211, tie_word_embeddings=True),
    "neox": dict(NEOX, hidden_size=32, num_attention_heads=2, num_hidden_layers=3, vocab_size=211,
                 rotary_pct=0.25, rotary_emb_base=10000),
}


def write_folders(root):
    for name, config in PEERS.items():
        torch.manual_seed(2)
        model = from_json(config)
        randomise(model)
        ids = torch.randint(0, config["vocab_size"], (2, 12))
        for dtype in ("fp32", "bf16", "fp16"):
            rounded = from_json(config)
            rounded.load_state_dict(model.state_dict())
            rounded = rounded.to(TYPES[dtype])
            exact = from_json(config).double()
            exact.load_state_dict({key: value.double() for key, value in rounded.state_dict().items()})
            with torch.no_grad():
                logits = exact(ids, use_cache=False).logits
            for layout in ("safetensors", "safetensors_shards", "bin", "bin_shards"):
                folder = root / f"{name}_{dtype}_{layout}"
                folder.mkdir(parents=True, exist_ok=True)
                if layout.startswith("safetensors"):
                    rounded.save_pretrained(folder, max_shard_size="20KB" if layout.endswith("shards") else "5GB")
                else:
                    rounded.config.save_pretrained(folder)
                    write_bin(folder, rounded.state_dict(), layout.endswith("shards"))
                numpy.save(folder / "ids.npy", ids.numpy())
                numpy.save(folder / "logits.npy", logits.numpy())
                print(folder)


def write_bin(folder, state, shards):
    """As transformers wrote it before safetensors."""
    if not shards:
        torch.save(state, folder / "pytorch_model.bin")
        return
    names = list(state)
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    files = [f"pytorch_model-{i + 1:05}-of-00002.bin" for i in range(2)]
    for part, file in zip(parts, files):
        torch.save({key: state[key].clone() for key in part}, folder / file)
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in state.values())},
             "weight_map": {key: file for part, file in zip(parts, files) for key in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def make_numpy_random():
    """RandomState: raw draws, bounded draws, and two shuffles by one generator."""
    draws = {seed: numpy.random.RandomState(seed)._bit_generator.random_raw(1300).tolist()[-5:]
             for seed in (0, 1234, 2**32 - 1)}
    bounded = []
    for largest in (0, 1, 2, 6, 1000, 2**31, 2**32 - 2, 2**32, 2**40 + 12345, 2**63):
        state = numpy.random.RandomState(7)
        # Like shuffle, randint cuts draws to a mask and repeats them, for its widest type at least.
        values = state.randint(0, largest + 1, size=6, dtype=numpy.uint64).tolist()
        bounded.append({"seed": 7, "max": largest, "values": values})
    shuffles = []
    for seed in (0, 1234, 4294967295):
        for sizes in ((1, 2), (2, 3), (3, 1), (1000, 17), (100003, 1000)):
            state = numpy.random.RandomState(seed)
            for size, kind in zip(sizes, (numpy.int32, numpy.uint32)):
                array = numpy.arange(size, dtype=kind)
                state.shuffle(array)
                shuffles.append({"seed": seed, "size": size, "first_of_two": kind is numpy.int32,
                                 "begin": array[:8].tolist(), "end": array[-8:].tolist(),
                                 "sha256": hashlib.sha256(array.astype("<u4").tobytes()).hexdigest()})
    write_json("numpy_random", {"draws_1296_to_1300": draws, "bounded": bounded, "shuffles": shuffles})


def make_numpy_generator():
    """default_rng: raw draws of 64 and 32 bits, and permutations as a data order takes them."""
    draws = {seed: numpy.random.default_rng(seed).bit_generator.random_raw(1000).tolist()[-5:]
             for seed in (0, 1, 1234, 2**32 - 1, 2**32, 2**40 + 7, 2**63 - 1)}
    permutations = []
    for seed in (0, 1234, 1235, 2**40 + 7):
        for size in (1, 2, 3, 17, 1000, 100003):
            array = numpy.random.default_rng(seed).permutation(size)
            permutations.append({"seed": seed, "size": size, "begin": array[:8].tolist(), "end": array[-8:].tolist(),
                                 "sha256": hashlib.sha256(array.astype("<u4").tobytes()).hexdigest()})
    write_json("numpy_generator", {"draws_996_to_1000": draws, "permutations": permutations})


def gpt2_order(sizes, sequence_length, samples, seed):
    """The three indices of GPT-NeoX v1.0's GPT2Dataset, token by token: slow and plain."""
    tokens = sum(sizes)
    epochs = 1
    while (epochs * tokens - 1) // sequence_length < samples:
        epochs += 1
    state = numpy.random.RandomState(seed)
    doc_idx = numpy.tile(numpy.arange(len(sizes), dtype=numpy.int32), epochs)
    state.shuffle(doc_idx)
    where = [(place, offset) for place, document in enumerate(doc_idx) for offset in range(sizes[document])]
    windows = (epochs * tokens - 1) // sequence_length
    sample_idx = [where[j * sequence_length] for j in range(windows + 1)]
    sample_idx[0] = (0, 0)  # even when the first document is empty
    shuffle_idx = numpy.arange(windows, dtype=numpy.uint32)
    state.shuffle(shuffle_idx)
    return {"sizes": sizes, "sequence_length": sequence_length, "samples": samples, "seed": seed, "epochs": epochs,
            "doc_idx": doc_idx.tolist(), "sample_idx": sample_idx, "shuffle_idx": shuffle_idx.tolist()}


def make_gpt2_dataset():
    chance = numpy.random.RandomState(0)
    mixed = [int(n) for n in chance.choice([1, 1, 2, 3, 5, 8, 40, 90], size=60)]
    orders = [gpt2_order(sizes, length, samples, seed) for sizes, length, samples, seed in (
        (mixed, 8, 20, 1234),             # one epoch
        (mixed, 8, 400, 1234),            # several
        ([1] * 50, 7, 30, 3),             # documents of one token
        ([500], 16, 40, 1234),            # one document longer than many windows, and repeated
        ([1, 300, 1, 2, 200], 16, 60, 0),
        ([5, 1, 7], 1, 50, 4294967295),   # stride 1
        ([4, 4, 4], 64, 1, 9),            # windows longer than the corpus
        ([17], 16, 1, 0),                 # exactly one window
        ([0, 3, 0, 0, 11, 2], 5, 12, 5),  # empty documents
    )]
    write_json("gpt2_dataset", {"orders": orders})


def write_json(name, content):
    content = {"numpy": numpy.__version__, **content}
    (GOLDENS / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--folders", type=pathlib.Path, metavar="DIR", help="write folders of models there instead")
arguments = parser.parse_args()
if arguments.folders:
    write_folders(arguments.folders)
else:
    GOLDENS.mkdir(parents=True, exist_ok=True)
    for name, settings in MODELS.items():
        make(name, settings)
    for family in CASES:
        make_cases(family)
    make_numpy_random()
    make_numpy_generator()
    make_gpt2_dataset()
