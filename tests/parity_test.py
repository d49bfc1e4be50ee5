"""The program's doors for other tools: logits of a snapshot against what PyTorch computed."""
import array
import ast
import json
import math
import struct
import unittest

from program import ROOT, ProgramTest, run, run_json


def read_safetensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], data[8 + size + begin : 8 + size + end])
    return header.get("__metadata__", {}), tensors


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_npy(path, shape, values, descr="<i8", code="q"):
    header = repr({"descr": descr, "fortran_order": False, "shape": tuple(shape)}).encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.array(code, values).tobytes())


def read_npy(path):
    data = path.read_bytes()
    size = struct.unpack("<H", data[8:10])[0]
    header = ast.literal_eval(data[10 : 10 + size].decode())
    code = {"<f4": "f", "<f8": "d", "<i8": "q", "<i4": "i", "<u4": "I"}[header["descr"]]
    return header["shape"], array.array(code, data[10 + size :])


def rounded(raw, dtype):
    """float32 bytes as `dtype` stores them, rounded to the nearest, ties to even."""
    values = array.array("f", raw)
    if dtype == "F32":
        return raw
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    bits = array.array("I", raw)
    return array.array("H", [(b + 0x7FFF + (b >> 16 & 1)) >> 16 for b in bits]).tobytes()


def relative_error(ours, golden):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(ours, golden, strict=True)) / sum(b * b for b in golden))


def write_model(folder, config, tensors, dtype, prefix=""):
    """A snapshot as transformers stores it, of the tensors `weight/NAME`; `prefix` is left out of the names."""
    folder.mkdir(parents=True)
    weights = {key.removeprefix("weight/").removeprefix(prefix): (dtype, shape, rounded(raw, dtype))
               for key, (_, shape, raw) in tensors.items() if key.startswith("weight/")}
    if config.get("tie_word_embeddings", config["model_type"] == "gpt2"):
        del weights["lm_head.weight"]
    if prefix:  # as old files do, with a mask that is no parameter
        attention = {"gpt2": "h.0.attn", "olmo2": "layers.0.self_attn.rotary_emb", "gpt_neox": "layers.0.attention"}
        ending = "inv_freq" if config["model_type"] == "olmo2" else "bias"
        weights[f"{attention[config['model_type']]}.{ending}"] = ("U8", [1, 1, 2, 2], bytes((1, 0, 1, 1)))
    write_safetensors(folder / "model.safetensors", weights)
    (folder / "config.json").write_text(json.dumps(config))


class Parity(ProgramTest):
    def logits(self, model, shape, ids):
        write_npy(self.folder / "ids.npy", shape, ids)
        run("logits", model, "--ids", self.folder / "ids.npy", "--out", self.folder / "logits.npy", "--overwrite")
        return read_npy(self.folder / "logits.npy")

    def test_every_family_computes_what_transformers_does(self):
        prefixes = {"gpt2": "transformer.", "olmo2": "model.", "neox": "gpt_neox."}
        for family, prefix in prefixes.items():
            metadata, tensors = read_safetensors(ROOT / "tests" / "goldens" / f"{family}.safetensors")
            for case, made in json.loads(metadata["cases"]).items():
                with self.subTest(family=family, case=case):
                    model = self.folder / f"{family}_{case}"
                    dtype = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}[made["dtype"]]
                    write_model(model, made["config"], tensors, dtype, prefix if case == "plain" else "")
                    shape, ours = self.logits(model, tensors["ids"][1], array.array("q", tensors["ids"][2]))
                    self.assertEqual(list(shape), tensors[f"logits/{case}"][1])
                    golden = array.array("d", tensors[f"logits/{case}"][2])
                    self.assertLessEqual(relative_error(ours, golden), 1e-5)

    def test_every_family_continues_a_prompt(self):
        vocabulary = 19
        for family in ("gpt2", "olmo2", "neox"):
            with self.subTest(family=family):
                metadata, tensors = read_safetensors(ROOT / "tests" / "goldens" / f"{family}.safetensors")
                config = json.loads(metadata["cases"])["plain"]["config"]
                write_model(self.folder / family / "step3", config, tensors, "F32")
                made = run_json("generate", self.folder / family, "--prompt", '%#"', "--max-new-tokens", 6,
                                "--tokenizer", self.tokenizer)["continuations"][0]
                self.assertEqual(made["step"], 3)
                self.assertTrue(made["continuation"])
                text = made["prompt"] + made["continuation"]
                ids = run_json("tokenizer", "encode", "--tokenizer", self.tokenizer, "-", input=text.encode())["ids"]
                shape, logits = self.logits(self.folder / family / "step3", (1, len(ids)), ids)
                self.assertEqual(tuple(shape), (1, len(ids), vocabulary))
                for at in range(2, len(ids) - 1):
                    row = logits[at * vocabulary : (at + 1) * vocabulary]
                    self.assertEqual(ids[at + 1], row.index(max(row)))

    def test_logits_are_those_of_transformers(self):
        for name in ("neox_parallel", "neox_sequential"):
            metadata, tensors = read_safetensors(ROOT / "tests" / "goldens" / f"{name}.safetensors")
            model = self.folder / name
            model.mkdir()
            # As transformers 5 names the head in memory, and once without the prefix.
            weights = {key.removeprefix("weight/").replace("embed_out", "lm_head"): value
                       for key, value in tensors.items() if key.startswith("weight/")}
            write_safetensors(model / "model.safetensors", weights)
            (model / "config.json").write_text(metadata["config"])
            (n, t) = tensors["ids"][1]
            ids = array.array("q", tensors["ids"][2])
            inputs = [ids[row * t + column] for row in range(n) for column in range(t - 1)]
            write_npy(self.folder / "ids.npy", (n, t - 1), inputs)
            out = self.folder / f"{name}.npy"
            run("logits", model, "--ids", self.folder / "ids.npy", "--out", out)
            shape, logits = read_npy(out)
            self.assertEqual(list(shape), tensors["logits"][1])
            self.assertLessEqual(relative_error(logits, array.array("d", tensors["logits"][2])), 1e-5)


class Tokens(ProgramTest):
    def test_ids_come_back_as_text(self):
        text = "the river grew\n  and    the stone — ok?\t\u00e9\n".encode()
        path = self.folder / "x.txt"
        path.write_bytes(text)
        encoded = run_json("tokenizer", "encode", "--tokenizer", self.tokenizer, path)
        self.assertEqual(len(encoded["ids"]), encoded["num_tokens"])
        ids = self.folder / "ids.npy"
        summary = run_json("tokenizer", "encode", "--tokenizer", self.tokenizer, "-", "--out", ids, input=text)
        self.assertNotIn("ids", summary)
        shape, values = read_npy(ids)
        self.assertEqual(list(values), encoded["ids"])
        self.assertEqual(run("tokenizer", "decode", "--tokenizer", self.tokenizer, ids).stdout, text)


if __name__ == "__main__":
    unittest.main()
