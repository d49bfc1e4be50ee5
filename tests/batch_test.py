"""What a step saw, number by number; and the Pythia suite's own numbers."""
import array
import hashlib
import json
import math
import pathlib
import random
import struct
import unittest

from parity_test import read_npy, write_npy
from program import ROOT, ProgramTest, run, run_json


def write_index(path, sizes, kind, documents=None):
    """A token index: `kind` 8 is u16, 4 is i32."""
    width = {8: 2, 4: 4}[kind]
    begin, pointers = 0, []
    for size in sizes:
        pointers.append(begin * width)
        begin += size
    bounds = range(len(sizes) + 1) if documents is None else documents
    path.write_bytes(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, kind, len(sizes), len(bounds))
                     + array.array("i", sizes).tobytes() + array.array("q", pointers).tobytes()
                     + array.array("q", bounds).tobytes())


def write_corpus(prefix, sizes):
    """Ids count up through the whole corpus, so that every misplaced one shows."""
    prefix.with_suffix(".bin").write_bytes(array.array("H", range(sum(sizes))).tobytes())
    write_index(prefix.with_suffix(".idx"), sizes, 8)


def sha256_of(rows):
    return hashlib.sha256(b"".join(array.array("i", row).tobytes() for row in rows)).hexdigest()


class NumpyRandom:
    """numpy's RandomState out of Python's own Mersenne Twister: another seeding, the same numbers."""

    def __init__(self, seed):
        words = [seed]
        for i in range(1, 624):
            words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + i) % 2**32)
        self.twister = random.Random()
        self.twister.setstate((3, (*words, 624), None))

    def shuffle(self, values):
        for i in range(len(values) - 1, 0, -1):
            mask = (1 << i.bit_length()) - 1
            j = self.twister.getrandbits(32) & mask
            while j > i:
                j = self.twister.getrandbits(32) & mask
            values[i], values[j] = values[j], values[i]


def gpt2_samples(sizes, length, wanted, seed):
    """Every sample of GPT-NeoX's GPT2Dataset as (document, offset) of each of its tokens."""
    tokens, epochs = sum(sizes), 1
    while (epochs * tokens - 1) // length < wanted:
        epochs += 1
    state = NumpyRandom(seed)
    documents = list(range(len(sizes))) * epochs
    state.shuffle(documents)
    stream = [(document, offset) for document in documents for offset in range(sizes[document])]
    windows = [stream[i * length:i * length + length + 1] for i in range((epochs * tokens - 1) // length)]
    order = list(range(len(windows)))
    state.shuffle(order)
    return documents, order, [windows[i] for i in order]


class Preshuffled(ProgramTest):
    ROWS, IDS, BATCH, SHARD = 64, 17, 8, 500  # 34 bytes a row: rows straddle shards

    def setUp(self):
        super().setUp()
        self.rows = [[(i * 977 + j * 31) % 65536 for j in range(self.IDS)] for i in range(self.ROWS)]
        self.prefix = self.folder / "document"

    def write_shards(self, type_code="H", size=SHARD):
        data = b"".join(array.array(type_code, row).tobytes() for row in self.rows)
        last = (len(data) - 1) // size
        for i in range(last + 1):
            self.shard(i, last).write_bytes(data[i * size:(i + 1) * size])
        return last

    def shard(self, i, last):
        return self.folder / f"document-{i:05}-of-{last:05}.bin"

    def batch(self, step, *options):
        return ("batch", "--data", self.prefix, "--step", step, "--batch-size", self.BATCH, "--row-tokens", self.IDS,
                *options)

    def expected(self, step, first=0, count=BATCH):
        begin = step * self.BATCH + first
        return self.rows[begin:begin + count]

    def test_every_step(self):
        self.write_shards()
        for step in range(self.ROWS // self.BATCH):
            got = run_json(*self.batch(step))
            self.assertEqual(got["ids"], self.expected(step), step)
            self.assertEqual(got["sha256"], sha256_of(self.expected(step)))
            self.assertEqual([got[k] for k in ("step", "rows", "row_tokens", "tokens", "order")],
                             [step, self.BATCH, self.IDS, self.BATCH * self.IDS, "preshuffled"])
        self.assert_fails(1, *self.batch(8), says=["rows 64 to 71", "has 64"])
        self.assert_fails(1, *self.batch(2**31), says="has 64")
        self.assert_fails(2, *self.batch(-1), says="--step")
        self.assert_fails(2, *self.batch(2**62), says="--step")

    def test_some_rows_as_text_ids_and_array(self):
        self.write_shards()
        got = run_json(*self.batch(3, "--first", 2, "--count", 3))
        self.assertEqual((got["ids"], got["first"]), (self.expected(3, 2, 3), 2))
        lines = run(*self.batch(3, "--first", 2, "--count", 3)).stdout.decode().splitlines()
        self.assertEqual(lines[1:], [f"row {2 + i}: " + " ".join(map(str, row))
                                     for i, row in enumerate(self.expected(3, 2, 3))])
        out = self.folder / "ids.npy"
        got = run_json(*self.batch(3, "--out", out))
        self.assertNotIn("ids", got)
        shape, ids = read_npy(out)
        self.assertEqual((shape, list(ids)), ((self.BATCH, self.IDS), sum(self.expected(3), [])))
        self.assertEqual(got["sha256"], hashlib.sha256(ids.tobytes()).hexdigest())
        manifest = json.loads((self.folder / "ids.npy.manifest.json").read_text())
        self.assertEqual((manifest["verb"], manifest["facts"]["sha256"]), ("batch", got["sha256"]))
        self.assert_fails(1, *self.batch(3, "--out", out), says="--overwrite")
        self.assert_fails(2, *self.batch(3, "--documents"), says="where documents begin")
        self.assert_fails(2, *self.batch(3, "--first", 8), says="rows 0 to 7")
        self.assert_fails(2, *self.batch(3, "--first", 5, "--count", 4), says="the batch has 3")

    def test_missing_shards(self):
        last = self.write_shards()
        self.shard(1, last).unlink()  # bytes 500 to 999: rows 14 to 29
        self.assertEqual(run_json(*self.batch(0))["ids"], self.expected(0))
        self.assertEqual(run_json(*self.batch(4))["ids"], self.expected(4))
        self.assert_fails(1, *self.batch(1), says=["document-00001-of-00004.bin: is missing", "row 14", "byte 0"])
        for i in (0, 2, 3):
            self.shard(i, last).unlink()
        self.assert_fails(1, *self.batch(7, "--first", 6), says="--shard-bytes")
        self.assertEqual(run_json(*self.batch(7, "--first", 6, "--shard-bytes", self.SHARD))["ids"],
                         self.expected(7, 6, 2))

    def test_wide_ids_by_the_index(self):
        self.rows = [[70_000 + i * self.IDS + j for j in range(self.IDS)] for i in range(self.ROWS)]
        self.write_shards("i")
        write_index(self.folder / "document.idx", [self.IDS] * self.ROWS, 4, documents=[0])
        self.assertEqual(run_json(*self.batch(5))["ids"], self.expected(5))

    def test_one_file_with_its_index(self):
        self.write_shards(size=10**6)
        self.shard(0, 0).rename(self.folder / "document.bin")
        write_index(self.folder / "document.idx", [self.IDS] * self.ROWS, 8, documents=[0])
        got = run_json(*self.batch(2))
        self.assertEqual((got["order"], got["ids"]), ("preshuffled", self.expected(2)))

    def test_sizes_that_lie(self):
        last = self.write_shards()
        for ids, code, says in ((0, 2, "rows of 0"), (-3, 2, "rows of -3"), (2**40, 2, "at most 2^30 ids"),
                                (2**26, 1, "whole number of rows"), (18, 1, "whole number of rows")):
            self.assert_fails(code, "batch", "--data", self.prefix, "--step", 0, "--batch-size", 8, "--row-tokens", ids,
                              says="ids" if code == 2 else says)
        self.assert_fails(2, *self.batch(0, "--batch-size", 0), says="--batch-size")
        self.assert_fails(2, *self.batch(0, "--batch-size", 2**62), says="--batch-size")
        self.assert_fails(1, *self.batch(0, "--shard-bytes", 400), says=["document-00000", "500", "400"])
        index = self.folder / "document.idx"
        write_index(index, [self.IDS] * (self.ROWS + 1), 8)
        self.assert_fails(1, *self.batch(0), says=["document.idx", "65 rows"])
        write_index(index, [16] * self.ROWS, 8)
        self.assert_fails(1, *self.batch(0), says=["document.idx", "16"])
        whole = index.read_bytes()
        for count in (0, 2**32, 2**60, 2**64 - 1):
            index.write_bytes(whole[:18] + struct.pack("<Q", count) + whole[26:])
            self.assert_fails(1, *self.batch(0), says="document.idx")
        index.unlink()
        middle = self.shard(2, last)
        middle.write_bytes(middle.read_bytes()[:-1])
        self.assert_fails(1, *self.batch(0), says=[middle.name, "499", "500"])


class Neox(ProgramTest):
    SIZES = [1, 1, 40, 3, 7, 1, 2, 90, 5, 1, 13, 300, 2, 2]

    def batch(self, prefix, *options):
        return ("batch", "--data", prefix, "--order", "neox", *options)

    def check(self, sizes, length, seed, steps, batch_size):
        prefix = self.folder / "c"
        write_corpus(prefix, sizes)
        begins = [sum(sizes[:i]) for i in range(len(sizes))]
        wanted = math.ceil(steps * batch_size * 1.005)
        _, _, samples = gpt2_samples(sizes, length, wanted, seed)
        for step in sorted({0, steps // 2, steps - 1}):
            got = run_json(*self.batch(prefix, "--sequence-length", length, "--data-seed", seed, "--train-steps", steps,
                                       "--batch-size", batch_size, "--step", step, "--documents"))
            rows = samples[step * batch_size:(step + 1) * batch_size]
            self.assertEqual(got["ids"], [[begins[d] + o for d, o in row] for row in rows])
            self.assertEqual(got["order"], "neox")
            self.assertEqual([(d["row"], d["position"], d["document"], d["offset"]) for d in got["documents"]],
                             [(r, p, d, o) for r, row in enumerate(rows) for p, (d, o) in enumerate(row)
                              if p == 0 or o == 0])

    def test_orders(self):
        self.check(self.SIZES, 16, 1234, steps=7, batch_size=4)    # one epoch
        self.check(self.SIZES, 16, 1234, steps=30, batch_size=8)   # nine
        self.check([1] * 40, 5, 0, steps=5, batch_size=3)
        self.check([700], 32, 2**32 - 1, steps=4, batch_size=10)
        self.check([0, 9, 0, 0, 30], 4, 3, steps=9, batch_size=2)

    def test_the_rebuild_is_numpys(self):
        """The rebuild that the other test trusts, against what numpy made."""
        for golden in json.loads((ROOT / "tests/goldens/gpt2_dataset.json").read_text())["orders"]:
            documents, order, _ = gpt2_samples(golden["sizes"], golden["sequence_length"], golden["samples"],
                                               golden["seed"])
            self.assertEqual((documents, order), (golden["doc_idx"], golden["shuffle_idx"]))

    def test_what_cannot_be(self):
        prefix = self.folder / "c"
        write_corpus(prefix, self.SIZES)
        small = ("--sequence-length", 16, "--train-steps", 7, "--batch-size", 4)
        self.assert_fails(2, *self.batch(prefix, *small, "--step", 7), says=["7", "0 to 6"])
        self.assert_fails(2, *self.batch(prefix, *small, "--step", 0, "--data-seed", 2**32), says="seed 4294967296")
        self.assert_fails(2, *self.batch(prefix, *small, "--step", 0, "--data-seed", -1), says="seed -1")
        self.assert_fails(2, *self.batch(prefix, *small, "--step", 0, "--sequence-length", 0), says="sequence length of 0")
        self.assert_fails(2, *self.batch(prefix, *small, "--step", 0, "--train-steps", 2**62), says="steps")
        self.assert_fails(1, *self.batch(prefix, "--step", 0), says=["too small", "2^31"])  # Pythia's length
        self.assert_fails(2, "batch", "--data", prefix, "--step", 0, "--order", "noex", says="did you mean 'neox'")
        self.assert_fails(1, *self.batch(self.folder / "none", "--step", 0), says="none")
        write_corpus(prefix, [0, 30])
        run("batch", "--data", prefix, *small, "--step", 0, "--row-tokens", 0)  # of no meaning here
        self.assert_fails(2, "batch", "--step", 0, says="--data")


class RunTest(ProgramTest):
    """A test of a run, which is at `out`."""

    def loss(self, snapshot, rows):
        """Mean cross entropy of the snapshot on rows of ids, from its logits."""
        width = len(rows[0]) - 1
        ids, logits = self.folder / "x.npy", self.folder / "y.npy"
        write_npy(ids, (len(rows), width), [i for row in rows for i in row[:-1]])
        run("logits", snapshot, "--ids", ids, "--out", logits, "--overwrite")
        (_, _, vocab), values = read_npy(logits)
        total = 0
        for place, target in enumerate(i for row in rows for i in row[1:]):
            at = values[place * vocab:(place + 1) * vocab]
            top = max(at)
            total += top + math.log(sum(math.exp(v - top) for v in at)) - at[target]
        return total / (len(rows) * width)

    def logged(self):
        """The training loss by step."""
        return {line["step"]: line["train/loss"]
                for line in map(json.loads, (self.out / "metrics.jsonl").read_text().splitlines())
                if "train/loss" in line}


class Run(RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.out = cls.shared / "run"
        run("pretrain", cls.recipe, "--budget.steps", 6, "--log.every", 1, "--snapshots.at", "0:6:1", "--out", cls.out)

    def test_the_loss_that_was_logged_is_of_this_batch(self):
        logged = self.logged()
        seen = set()
        for step in range(6):
            got = run_json("batch", self.out, "--step", step)
            self.assertEqual((got["rows"], got["row_tokens"], got["order"]), (4, 33, "shuffled"))
            self.assertEqual(got["sha256"], sha256_of(got["ids"]))
            seen.add(got["sha256"])
            snapshot = self.out / "snapshots" / f"step{step}"
            self.assertAlmostEqual(self.loss(snapshot, got["ids"]), logged[step + 1], delta=1e-5)
        self.assertEqual(len(seen), 6)
        self.assert_fails(1, "batch", self.out, "--step", 6, says="0 to 5")

    def test_documents(self):
        data = array.array("H", self.corpus.with_suffix(".bin").read_bytes())
        index = self.corpus.with_suffix(".idx").read_bytes()
        count = struct.unpack("<Q", index[18:26])[0]
        sizes = array.array("i", index[34:34 + 4 * count])
        got = run_json("batch", self.out, "--step", 2, "--documents")
        pieces = got["documents"]
        self.assertEqual({p["row"] for p in pieces}, {0, 1, 2, 3})
        for piece, after in zip(pieces, pieces[1:] + [{"row": -1}]):
            end = after["position"] if after["row"] == piece["row"] else 33
            begin = sum(sizes[:piece["document"]]) + piece["offset"]
            length = end - piece["position"]
            self.assertLessEqual(piece["offset"] + length, sizes[piece["document"]])
            self.assertEqual(got["ids"][piece["row"]][piece["position"]:end], list(data[begin:begin + length]))
            self.assertEqual(piece["offset"] == 0 or piece["position"] == 0, True)

    def test_text(self):
        got = run_json("batch", self.out, "--step", 1, "--count", 1)
        ids = self.folder / "ids.npy"
        write_npy(ids, (33,), got["ids"][0])
        plain = run("tokenizer", "decode", "--tokenizer", self.tokenizer, ids).stdout.decode().replace("\n", "\\n")
        lines = run("batch", self.out, "--step", 1, "--count", 1).stdout.decode().splitlines()
        self.assertEqual(lines[1:], ["row 0: " + plain])
        marked = run("batch", self.out, "--step", 1, "--count", 1, "--documents").stdout.decode()
        self.assertIn("[document ", marked)
        numbers = run("batch", self.out, "--step", 1, "--count", 1, "--format", "ids").stdout.decode().splitlines()
        self.assertEqual(numbers[1], "row 0: " + " ".join(map(str, got["ids"][0])))

    def test_another_corpus_is_not_shown_as_the_runs(self):
        moved = self.folder / "moved"
        for end in (".bin", ".idx"):
            moved.with_suffix(end).write_bytes(self.corpus.with_suffix(end).read_bytes())
        here = run_json("batch", self.out, "--step", 3)
        self.assertEqual(run_json("batch", self.out, "--data", moved, "--step", 3)["ids"], here["ids"])
        data = bytearray(moved.with_suffix(".bin").read_bytes())
        data[100] ^= 1
        moved.with_suffix(".bin").write_bytes(data)
        self.assert_fails(1, "batch", self.out, "--data", moved, "--step", 3, says="corpus_sha256")

    def test_a_damaged_run(self):
        broken = self.folder / "run"
        broken.mkdir()
        (broken / "recipe.yaml").write_text("model: [")
        self.assert_fails(2, "batch", broken, "--step", 0, says="recipe.yaml")
        recipe = (self.out / "recipe.yaml").read_text()
        for old, new in (("sequence_length: 32", "sequence_length: 0"), ("sequences: 4", "sequences: -4")):
            self.assertIn(old, recipe)
            (broken / "recipe.yaml").write_text(recipe.replace(old, new))
            self.assert_fails(2, "batch", broken, "--step", 0, says=old.split(":")[0])
        self.assert_fails(1, "batch", self.folder / "nothing", "--step", 0, says="nothing")


class Mixed(RunTest):
    """A run on two corpora of other layouts, whose windows overlap nowhere."""
    STEPS, BATCH, T, WEIGHTS = 6, 5, 32, (0.6, 0.4)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        ids = array.array("H", cls.corpus.with_suffix(".bin").read_bytes())
        cls.parts = [ids[:len(ids) // 3], ids[len(ids) // 3:]]
        # Names that say nothing: the first bytes do.
        files = [cls.corpus.parent / "one.bin", cls.corpus.parent / "two.bin"]
        files[0].write_bytes(cls.parts[0].tobytes())
        header = struct.pack("<3i", 20240520, 1, len(cls.parts[1])) + bytes(1012)
        files[1].write_bytes(header + cls.parts[1].tobytes())
        recipe = cls.recipe.read_text().replace(f"tokens: {cls.corpus}", "tokens: [%s]" % ", ".join(
            f"{{prefix: {file}, weight: {weight}}}" for file, weight in zip(files, cls.WEIGHTS)))
        cls.mixture = cls.shared / "mixture.yaml"
        cls.mixture.write_text(recipe)
        cls.out = cls.shared / "run"
        run("pretrain", cls.mixture, "--budget.steps", cls.STEPS, "--batch.sequences", cls.BATCH, "--log.every", 1,
            "--data.window", "block", "--data.order", "sequential", "--data.validation", "blocks:4",
            "--snapshots.at", "0:6:1", "--out", cls.out)

    def rows(self):
        """The blocks of all steps, by the rule as it is written down: (source, block, ids)."""
        had = [0, 0]
        while True:
            source = min((0, 1), key=lambda s: (had[s] + 0.5) / self.WEIGHTS[s])
            blocks = len(self.parts[source]) // self.T - 4
            block = had[source] % blocks
            had[source] += 1
            yield source, block, list(self.parts[source][block * self.T:(block + 1) * self.T])

    def test_the_loss_that_was_logged_is_of_this_batch(self):
        logged = self.logged()
        rows = self.rows()
        for step in range(self.STEPS):
            expected = [next(rows) for _ in range(self.BATCH)]
            got = run_json("batch", self.out, "--step", step, "--documents")
            self.assertEqual((got["row_tokens"], got["order"]), (self.T, "sequential"))
            self.assertEqual(got["ids"], [ids for _, _, ids in expected])
            self.assertEqual([(d["source"], d["offset"]) for d in got["documents"]],
                             [(source, block * self.T) for source, block, _ in expected])
            self.assertEqual([len([e for e in expected if e[0] == s]) for s in (0, 1)], [3, 2])
            self.assertAlmostEqual(self.loss(self.out / "snapshots" / f"step{step}", got["ids"]), logged[step + 1],
                                   delta=1e-5)

    def test_documents(self):
        text = run("batch", self.out, "--step", 1, "--documents", "--count", 2).stdout.decode()
        self.assertIn("one.bin: from its token ", text)
        self.assertIn("two.bin: from its token ", text)

    def test_the_files_are_named(self):
        order = json.loads((self.out / "data_order.json").read_text())
        self.assertEqual([s["layout"] for s in order["sources"]], ["flat u16", "llm.c u16"])
        self.assertEqual([s["corpus_sha256"] for s in order["sources"]],
                         [hashlib.sha256(pathlib.Path(s["corpus"]).read_bytes()).hexdigest() for s in order["sources"]])


class Pythia(ProgramTest):
    def test_the_suite(self):
        suite = run_json("show", "pythia")
        self.assertEqual((suite["kind"], len(suite["models"]), len(suite["steps"])), ("pythia_suite", 18, 154))
        self.assertEqual((suite["tokens_per_step"], suite["total_tokens"]), (2_097_152, 299_892_736_000))
        sizes = {m["name"]: m for m in suite["models"]}
        self.assertEqual(sizes["pythia-12b"]["parameters"], 11_846_072_320)
        self.assertEqual(sizes["pythia-1b"]["precision"], "bf16")
        self.assertIn(b"11846072320", run("show", "pythia").stdout)

    def test_a_model(self):
        for name in ("pythia-160m", "EleutherAI/pythia-160m-deduped"):
            at = {line["step"]: line for line in
                  run_json("show", name, "--step", "0,715,1430,71500,115138,115139,143000")["at"]}
            self.assertEqual((at[0]["lr"], at[1430]["lr"]), (0, 6e-4))
            self.assertAlmostEqual(at[715]["lr"], 3e-4, delta=1e-18)
            self.assertAlmostEqual(at[71500]["lr"] / 6e-4, 0.5157, delta=5e-5)
            self.assertGreater(at[115138]["lr"], at[115139]["lr"])
            self.assertEqual(at[115139]["lr"], at[143000]["lr"])
            self.assertEqual(at[143000]["tokens"], 299_892_736_000)
        self.assertEqual({f["source"] for f in run_json("show", "pythia-12b")["known_faults"]},
                         {f"EleutherAI/pythia #{n}" for n in (83, 107, 206)})
        self.assert_fails(1, "show", "pythia-161m", says="did you mean 'pythia-160m'")
        self.assert_fails(1, "show", "pythia-160m", "--step", 143_001, says="143001")
        self.assert_fails(2, "show", self.corpus, "--step", 0, says="--step")

    def test_a_path_wins_over_the_name(self):
        (self.folder / "pythia").mkdir()
        (self.folder / "pythia" / "t.csv").write_text("a,b\n1,2\n")
        self.assertEqual(run_json("show", "pythia", cwd=self.folder)["kind"], "tables")


if __name__ == "__main__":
    unittest.main()
