"""What the whole-program tests share: running the program, and small inputs for it."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

PROGRAM = os.environ.get("CRESCO", "build/cresco")
ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(*arguments, check=True, **options):
    """Runs the program; `check` fails the test on another exit code than 0."""
    command = [PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=600, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stderr.decode()}")
    return done


def run_json(*arguments, **options):
    return json.loads(run(*arguments, "--json", "--quiet", **options).stdout)


def peak_bytes(*arguments):
    """The largest resident size of a run of the program."""
    process = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return usage.ru_maxrss * 1024


WORDS = ("the river grew and the stone lay still while a bird sang over the old bridge until night came "
         "and the people of the town went home to sleep").split()


def write_text(folder, documents=120):
    """A text file of small documents in which words follow words by a simple rule."""
    path = pathlib.Path(folder) / "text.jsonl"
    with path.open("w") as out:
        for d in range(documents):
            words = [WORDS[(d * 7 + i * (1 + d % 3)) % len(WORDS)] for i in range(40 + d % 20)]
            out.write(json.dumps({"text": " ".join(words) + ".\n"}) + "\n")
    return path


RECIPE = """
model: {vocab_size: 0, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32,
        max_position_embeddings: 32, rotary_pct: 0.5}
data: {tokens: %s, validation: 0.1, sequence_length: 32}
batch: {sequences: 4}
budget: {steps: 40}
optimizer: {lr: 1.0e-2}
schedule: {warmup_steps: 4}
snapshots: {at: "0:40:4"}
state: {every: 7, keep: 2}
eval: {every: 10, tokens: 1000}
log: {every: 2}
"""


class FolderTest(unittest.TestCase):
    """A test with a folder of its own, and one for the class."""

    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(tempfile.mkdtemp(prefix="cresco-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cresco-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def assert_fails(self, code, *arguments, says=(), **options):
        """The command ends with `code`, one line on stderr that holds each of `says`, nothing on stdout."""
        done = run(*arguments, check=False, **options)
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        self.assertEqual(done.returncode, code, (arguments, lines))
        self.assertEqual(done.stdout, b"", arguments)
        self.assertEqual(len(lines), 1, (arguments, lines))
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, lines[0], arguments)
        return lines[0]


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class ProgramTest(FolderTest):
    """The same with, made once for the class, a corpus and a recipe."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = write_text(cls.shared)
        cls.tokenizer = cls.shared / "corpus" / "tokenizer.json"
        cls.tokenizer.parent.mkdir()
        run("tokenizer", "train", cls.text, "--vocab-size", 300, "--out", cls.tokenizer)
        cls.corpus = cls.shared / "corpus" / "c"
        run("tokenize", cls.text, "--tokenizer", cls.tokenizer, "--out", cls.corpus, "--overwrite")
        cls.recipe = cls.shared / "recipe.yaml"
        cls.recipe.write_text(RECIPE % cls.corpus)
