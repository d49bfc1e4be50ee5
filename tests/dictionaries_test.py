"""Dictionaries in files: other libraries' layouts and back, an index, codes, derived arrays, and what is refused."""
import array
import csv
import json
import math
import os
import pathlib
import random
import resource
import shutil
import subprocess
import unittest

from parity_test import read_npy, relative_error, write_npy, write_safetensors
from program import PROGRAM, FolderTest, contents, run, run_json

WIDTH, FEATURES, ROWS = 4, 12, 40


def floats(draw, *shape):
    values = array.array("f", (draw.gauss(0, 1) for _ in range(math.prod(shape))))
    return "F32", list(shape), values.tobytes()


def write_dictionary(stem, heads=1, seed=0, config=None, preprocess="center_scale", threshold=True):
    draw = random.Random(seed)
    stem.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"W_E": floats(draw, heads, WIDTH, FEATURES), "b_E": floats(draw, heads, FEATURES),
               "W_D": floats(draw, heads, FEATURES, WIDTH), "b_D": floats(draw, heads, WIDTH)}
    if threshold:
        tensors["activation_function.log_jumprelu_threshold"] = floats(draw, FEATURES)
    write_safetensors(stem.with_name(stem.name + ".safetensors"), tensors)
    stem.with_name(stem.name + ".config.json").write_text(json.dumps(
        {"model_name": "org/model", "steps": [100 * k for k in range(heads)], "seed": seed,
         "config": config or {"act_fn": "jumprelu"}, "training": {"lr": 1e-3, "input_preprocess": preprocess},
         "quality": {"explained_variance": 0.75, "mean_l0": 2.5}}))
    return stem.with_name(stem.name + ".safetensors")


def write_stack(path, steps):
    draw = random.Random(7)
    tensors = {f"step_{step}": floats(draw, ROWS, WIDTH) for step in steps}
    write_safetensors(path, tensors)
    header = {"format": "cresco-stack", "version": "1", "model": "org/model", "matrix": "W_U",
              "steps": ",".join(map(str, steps)), "source_sha256": ",".join(["0" * 64] * len(steps))}
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + size]) | {"__metadata__": header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return path


class Dictionaries(FolderTest):
    def reconstructions(self, dictionary, *options):
        out, r = self.folder / "codes.npy", self.folder / "r.npy"
        run("codes", dictionary, *options, "--out", out, "--reconstructions", r, "--overwrite", "--quiet")
        return read_npy(r)[1]

    def test_other_layouts_and_back(self):
        dictionary = write_dictionary(self.folder / "W_U" / "seed0")
        rows = self.folder / "rows.npy"
        draw = random.Random(1)
        write_npy(rows, [ROWS, WIDTH], (draw.gauss(0, 1) for _ in range(ROWS * WIDTH)), "<f4", "f")
        expected = self.reconstructions(dictionary, "--rows", rows)
        for layout in ("llamascopium", "saelens", "dictionary_learning", "params_npz"):
            with self.subTest(layout=layout):
                out, back = self.folder / layout, self.folder / (layout + "_back")
                said = run_json("convert", dictionary, "--to", layout, "--out", out)
                self.assertLessEqual(said["codes_relative_difference"], 1e-5)
                self.assertEqual(said["origin"]["folded"]["input_preprocess"], False)
                self.assertEqual(run_json("show", out)["layout"], layout)
                run("convert", out, "--to", "dictionary", "--out", back)
                self.assertLessEqual(relative_error(self.reconstructions(back, "--rows", rows), expected), 1e-5)
                shown = run_json("show", back)
                self.assertEqual((shown["model"], shown["matrix"], shown["steps"], shown["input_preprocess"]),
                                 ("org/model", "W_U", [0], "center_scale"))
                manifest = json.loads((out / "manifest.json").read_text())
                self.assertEqual(manifest["facts"]["origin"]["folded"]["decoder_norms"], layout != "llamascopium")

    def test_a_stack_folds_means_and_scales(self):
        dictionary = write_dictionary(self.folder / "seed0")
        stack = write_stack(self.folder / "stack.safetensors", [0, 100])
        out, back = self.folder / "saelens", self.folder / "back"
        said = run_json("convert", dictionary, "--to", "saelens", "--stack", stack, "--out", out)
        self.assertTrue(said["origin"]["folded"]["input_preprocess"])
        self.assertLessEqual(said["reconstructions_relative_difference"], 1e-5)
        run("convert", out, "--to", "dictionary", "--out", back)
        self.assertEqual(run_json("show", back)["input_preprocess"], "none")
        # Without preprocessing the same stack gives the same codes.
        first = run_json("codes", dictionary, "--stack", stack, "--out", self.folder / "a.npy")
        second = run_json("codes", back, "--stack", stack, "--out", self.folder / "b.npy")
        self.assertEqual(first["l0"], second["l0"])
        self.assertEqual(first["shape"], [ROWS, FEATURES])

    def test_what_cannot_be_held_is_refused(self):
        heads = write_dictionary(self.folder / "heads", heads=2)
        batch = write_dictionary(self.folder / "batch", config={"arch": "batchtopk", "batchtopk_k": 3}, threshold=False)
        out = ("--out", self.folder / "out")
        self.assert_fails(1, "convert", heads, "--to", "saelens", *out, says=["2 snapshots", "llamascopium"])
        self.assert_fails(1, "convert", batch, "--to", "dictionary_learning", *out, says=["batchtopk", "threshold"])
        self.assert_fails(1, "convert", batch, "--to", "dictionary", *out, says="already")
        self.assert_fails(2, "convert", heads, "--to", "saelenz", *out, says=["saelenz", "did you mean 'saelens'"])
        self.assert_fails(2, "convert", heads, "--to", "llamascopium", says="--out")
        self.assert_fails(1, "convert", self.folder / "nowhere", "--to", "saelens", *out, says="no such file")
        stack = write_stack(self.folder / "stack.safetensors", [0, 100])
        self.assert_fails(1, "convert", heads, "--to", "llamascopium", "--stack", stack, *out, says="share a threshold")
        self.assert_fails(1, "convert", heads, "--to", "llamascopium", "--stack", stack, "--dry-run", says="llamascopium")
        self.assertFalse((self.folder / "out").exists())
        empty = self.folder / "empty"
        empty.mkdir()
        self.assert_fails(1, "convert", empty, "--to", "dictionary", *out, says=["holds no dictionary", "sae"])

    def test_a_failure_leaves_what_it_was_to_replace(self):
        dictionary = write_dictionary(self.folder / "seed0", heads=9)
        stack = write_stack(self.folder / "stack.safetensors", [100 * k for k in range(9)])
        export, life, derived = self.folder / "export", self.folder / "life", self.folder / "derived"
        run("convert", dictionary, "--to", "llamascopium", "--out", export)
        lifecycle = ("lifecycle", dictionary, "--stack", stack, "--out", life, "--derived", derived, "--null-permutations", 5)
        run(*lifecycle, "--quiet")
        folders = (export, life, derived)
        before = [contents(folder) for folder in folders]
        self.assertTrue(all("manifest.json" in files for files in before))
        self.assert_fails(1, "convert", dictionary, "--to", "llamascopium", "--stack", stack, "--out", export, "--overwrite",
                          says="share a threshold")
        larger = self.folder / "larger"
        run("train", stack, "--d-sae", 20, "--n-epochs", 1, "--batch-size", 16, "--out", larger, "--seed", 1)
        self.assert_fails(1, *lifecycle, "--overwrite", "--seeds", larger, says=["d12", "d20"])
        self.assert_fails(1, *lifecycle, "--overwrite", "--seeds", dictionary, says="seed 0 too")
        config = self.folder / "seed0.config.json"
        sound = config.read_text()
        config.write_text(sound.replace("center_scale", "whiten"))
        self.assert_fails(1, *lifecycle, "--overwrite", says=["seed0.config.json", "'whiten'"])
        self.assert_fails(1, "eval", dictionary, "--stack", stack, says=["seed0.config.json", "'whiten'"])
        self.assert_fails(1, "convert", dictionary, "--to", "llamascopium", "--out", export, "--overwrite", says="'whiten'")
        config.write_text(sound)
        self.assertEqual([contents(folder) for folder in folders], before)
        run(*lifecycle, "--quiet", "--overwrite", "--neighbours", 0)
        self.assertNotIn("neighbours.csv", contents(life))

    def test_an_unreadable_folder_is_named(self):
        tree = self.folder / "tree"
        write_dictionary(tree / "a" / "seed0")
        closed = tree / "b"
        closed.mkdir()
        closed.chmod(0)
        self.addCleanup(closed.chmod, 0o700)
        # root may read everything, unless it gives that up.
        caps = "-dac_override,-dac_read_search"
        setpriv = ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}"] if os.geteuid() == 0 else []
        if setpriv and not shutil.which("setpriv"):
            self.skipTest("no setpriv")
        done = subprocess.run([*setpriv, PROGRAM, "show", tree], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, f"cresco: {closed}: cannot be listed: Permission denied\n")

    def test_other_files_need_their_labels(self):
        dictionary, out = write_dictionary(self.folder / "seed0"), self.folder / "npz"
        run("convert", dictionary, "--to", "params_npz", "--out", out)
        (out / "origin.json").unlink()
        back = ("--to", "dictionary", "--out", self.folder / "back")
        self.assert_fails(2, "convert", out, *back, says="--model is needed")
        self.assert_fails(2, "convert", out, *back, "--model", "org/m", says="--steps is needed")
        self.assert_fails(1, "convert", out, *back, "--model", "org/m", "--steps", "0,1", says="1 heads")
        self.assert_fails(2, "convert", out, *back, "--from", "saelense", says="did you mean 'saelens'")
        run("convert", out, *back, "--model", "org/m", "--steps", "512", "--matrix", "W_E")
        shown = run_json("show", self.folder / "back")
        self.assertEqual((shown["model"], shown["matrix"], shown["steps"], shown["input_preprocess"]),
                         ("org/m", "W_E", [512], "none"))

    def test_a_tree_and_its_index(self):
        tree = self.folder / "tree"
        place = tree / "model" / "W_U" / "cross-snapshot-2" / f"d{FEATURES}"
        for seed in (0, 1):
            write_dictionary(place / f"seed{seed}", heads=2, seed=seed)
        (place / "seed1.metrics_recomputed.json").write_text('{"recomputed": {"explained_variance": 0.5}}')
        self.assertEqual(run_json("show", place / "seed1.safetensors")["metrics_recomputed"]["recomputed"],
                         {"explained_variance": 0.5})
        listed = run_json("show", tree)
        self.assertEqual(listed["kind"], "dictionaries")
        self.assertEqual([d["seed"] for d in listed["dictionaries"]], [0, 1])
        self.assertEqual(listed["dictionaries"][0]["files"][0]["sha256"], "")
        run("convert", tree, "--to", "index")
        self.assert_fails(1, "convert", tree, "--to", "index", says="--overwrite")
        listed = run_json("show", tree)
        self.assertEqual(len(listed["dictionaries"][0]["files"][0]["sha256"]), 64)
        self.assertEqual(listed["dictionaries"][1]["matrix"], "W_U")
        self.assertEqual(run_json("show", tree / "index.json")["dictionaries"], listed["dictionaries"])
        text = run("show", tree).stdout.decode()
        for words in ("cross-snapshot-2/d12/seed1", "0.7500", "2.5", listed["dictionaries"][0]["files"][0]["sha256"]):
            self.assertIn(words, text)
        # What changes afterwards is named.
        (place / "seed0.config.json").write_text("{}")
        (place / "seed1.md").write_text("new")
        changed = run_json("show", tree)
        self.assertIn("model_name", changed["unreadable"][0]["error"])
        self.assertEqual(changed["not_in_the_index"], [f"model/W_U/cross-snapshot-2/d{FEATURES}/seed1.md"])
        self.assert_fails(1, "convert", tree, "--to", "index", "--overwrite", says="seed0.config.json")

    def test_derived_arrays(self):
        dictionaries = [write_dictionary(self.folder / f"seed{seed}", heads=9, seed=seed) for seed in (0, 1)]
        stack = write_stack(self.folder / "stack.safetensors", [100 * k for k in range(9)])
        derived = self.folder / "derived"
        said = run_json("lifecycle", dictionaries[0], "--stack", stack, "--out", self.folder / "life", "--derived", derived,
                        "--seeds", dictionaries[1], "--null-permutations", 20)
        for path in said["derived"]:
            self.assertTrue((derived / path).exists(), path)
        name = f"wu-model-d{FEATURES}"  # of org/model
        for path in (f"{name}__seed1/cusum_null.pt", f"{name}__seed0/lifecycle.npz",
                     f"aggregates/aggregates_model_d{FEATURES}_seed1.pt", f"rates/{name}-multiseed/decoder_norms_all_seeds.npy"):
            self.assertIn(path, said["derived"])
        shape, _ = read_npy(derived / f"rates/{name}-multiseed/firing_rates_all_seeds.npy")
        self.assertEqual(shape, (2, 9, FEATURES))
        self.assertIn(f"rates/{name}-multiseed/decoder_norms_dsae{FEATURES}_seed1.npy", said["derived"])
        one = run_json("lifecycle", dictionaries[0], "--stack", stack, "--out", self.folder / "c", "--derived",
                       self.folder / "named", "--set-name", "mine", "--null-permutations", 0)["derived"]
        self.assertIn("mine__seed0/lifecycle.npz", one)
        self.assertIn("rates/mine/wu_rates_dsae12_seed0.pt", one)
        self.assert_fails(2, "lifecycle", dictionaries[0], "--stack", stack, "--out", self.folder / "b", "--seeds",
                          dictionaries[1], says="--derived")
        self.assert_fails(2, "lifecycle", dictionaries[0], "--stack", stack, "--out", self.folder / "b", "--derived",
                          self.folder / "b" / "derived", says="--derived")

    def test_trainings_share_a_manifest(self):
        stack = write_stack(self.folder / "stack.safetensors", [0, 100, 200])
        manifest = self.folder / "runs.csv"
        options = ("--d-sae", 8, "--n-epochs", 2, "--batch-size", 16, "--lr", 0.05, "--append-manifest",
                   "--manifest-path", manifest)
        run("train", stack, *options, "--out", self.folder / "one", "--name", "d", "--manifest-notes", "first, of all")
        rows = list(csv.DictReader(manifest.read_text().splitlines()))
        self.assertEqual(len(rows), 1)
        expected = {"kind": "crosscoder", "model": "org/model", "matrix": "WU", "d_sae": "8", "d_model": str(WIDTH), "vocab": str(ROWS),
                    "n_steps": "3", "epochs": "2", "batch": "16", "notes": "first, of all", "CUSUM_p": "",
                    "path": str((self.folder / "one" / "d.safetensors").resolve())}
        self.assertEqual({key: rows[0][key] for key in expected}, expected)
        for key in ("EV", "L0", "dead_rate", "rate_rotation_r"):
            float(rows[0][key])

        manifest.write_text(manifest.read_text().replace(",,", ",0.25,", 1))  # somebody's CUSUM_p
        run("train", stack, *options, "--out", self.folder / "one", "--name", "d", "--overwrite", "--lr", 1e-3)
        run("train", stack, *options, "--out", self.folder / "many", "--sweep", "seed=0..1")
        rows = list(csv.DictReader(manifest.read_text().splitlines()))
        self.assertEqual([row["seed"] for row in rows], ["0", "0", "1"])
        self.assertEqual((rows[0]["CUSUM_p"], rows[0]["lr"], rows[0]["notes"]), ("0.25", "0.001", "first, of all"))
        self.assert_fails(1, "train", stack, *options[:-1], self.folder / "no" / "runs.csv", "--out", self.folder / "new",
                          says="its folder does not exist")
        self.assertFalse((self.folder / "new").exists())

    def test_settings_go_by_the_references_names(self):
        stack = write_stack(self.folder / "stack.safetensors", [0, 100, 200])
        train = ("train", stack, "--d-sae", 8, "--batch-size", 16, "--lr", 1e-3)
        recipe = self.folder / "more.yaml"
        recipe.write_text("{use_sparse_adam: true, ckpt_every_epochs: 1}")
        run(*train, "--epochs", 2, "--tanh-stretch", 4, "--config", recipe, "--output", self.folder / "a", "--name", "d")
        run(*train, "--n-epochs", 2, "--tanh-stretch-coefficient", 4, "--optimizer", "sparse_adam", "--out", self.folder / "b",
            "--name", "d")
        run(*train, "--set", "epochs=2", "tanh_stretch=4", "--use-sparse-adam", "--out", self.folder / "c", "--name", "d")
        for other in "bc":
            self.assertEqual(*((self.folder / name / "settings.json").read_text() for name in ("a", other)))
        training = json.loads((self.folder / "a" / "settings.json").read_text())["training"]
        self.assertEqual((training["optimizer"], training["tanh_stretch_coefficient"], training["n_epochs"]), ("sparse_adam", 4, 2))
        run(*train, "--optimizer", "adam", "--use-sparse-adam", "--epochs", 1, "--out", self.folder / "d")  # the option wins
        self.assertEqual(json.loads((self.folder / "d" / "settings.json").read_text())["training"]["optimizer"], "adam")
        shown = run("train", "--help").stdout.decode()
        for name in ("--tanh-stretch", "--use-sparse-adam", "--ckpt-every-epochs", "--output", "--epochs", "--precision"):
            self.assertRegex(shown, name + r"\b(?!-)")

    def test_trainings_refuse_what_would_change_nothing(self):
        stack = write_stack(self.folder / "stack.safetensors", [0, 100, 200])
        out = self.folder / "out"
        train = ("train", stack, "--d-sae", 8, "--batch-size", 16, "--n-epochs", 1, "--out", out)
        for more, says in ((("--kind", "topk", "--k", 2, "--decoder-transpose-init", 0), "decoder_transpose_init is a setting of"),
                           (("--k", 3), "kind crosscoder has none"), (("--set", "bandwidth=3"), "bandwidth"),
                           (("--sweep", "k=2,3"), "k is a setting of"), (("--fuse",), "--fuse"),
                           (("--expansion-factor", 4), "d_sae is 8, but expansion_factor 4 of width 4 makes 16"),
                           (("--resume", "must", "--overwrite"), "--resume must"),
                           (("--target-l0", 3, "--l1-coefficient", 0), "target_l0 is 3"),
                           (("--weight-decay", 0.1), "weight_decay is 0.1"),
                           (("--sweep", "l1_coefficient=0.3,.3"), "comes twice")):
            self.assert_fails(2, *train, *more, says=says)
        self.assert_fails(2, "train-sae", stack, "--class", "topk", "--d-sae", 16, "--target-l0", 5, "--out", out, says="target_l0")
        self.assertFalse(out.exists())
        recipe = ("--recipe", "pythia-160m/W_U/architecture-comparison/d8192/gated", "--steps", "all")
        name = run_json("train", stack, *recipe, "--expansion-factor", 2, "--dry-run")["name"]  # the recipe has a d_sae
        self.assertEqual(name, "W_U_d8_seed0")

    def test_linear_accounts_are_kinds_that_take_no_training(self):
        stack = write_stack(self.folder / "stack.safetensors", [0, 1, 2])
        run("train", stack, "--d-sae", 8, "--n-epochs", 1, "--batch-size", 16, "--out", self.folder / "d", "--quiet")
        evaluated = run_json("eval", self.folder / "d", "--stack", stack, "--baselines")["baselines"]
        names = {"pca": ("static_pca",), "concatenated_pca": ("concatenated_pca", "concatenated_pca_randomized"),
                 "endpoint_line": ("endpoint_line",), "mean": ("mean",)}
        for kind, rows in names.items():
            with self.subTest(kind=kind):
                out = self.folder / kind
                said = run_json("train", stack, "--kind", kind, "--out", out)
                found = [row for row in evaluated if row["baseline"] in rows]
                self.assertEqual([(row["baseline"], row["step"], row["rank"]) for row in said["baselines"]],
                                 [(row["baseline"], row["step"], row["rank"]) for row in found])
                for row, other in zip(said["baselines"], found):
                    self.assertAlmostEqual(row["explained_variance"], other["explained_variance"], places=12)
                self.assertTrue((out / "linear_baselines.csv").exists())
        two = run_json("train", stack, "--kind", "endpoint_line", "--steps", "0,2", "--out", self.folder / "two")
        self.assertEqual([round(row["explained_variance"], 9) for row in two["baselines"]], [1, 1])
        self.assert_fails(2, "train", stack, "--kind", "pca", "--lr", 1, "--out", self.folder / "x",
                          says="lr is a setting of trainings")
        self.assert_fails(2, "plan", stack, "--kind", "pca", says="`train` alone has")
        self.assert_fails(2, "train", stack, "--kind", "pcb", "--d-sae", 8, "--out", self.folder / "x", says="is not one of")

    def test_classes_of_single_matrices_are_kinds(self):
        stack = write_stack(self.folder / "stack.safetensors", [0, 1])
        options = ("--d-sae", 8, "--k", 2, "--n-epochs", 5)
        run("train-sae", stack, "--class", "matryoshka", *options, "--out", self.folder / "a")
        said = run_json("train", stack, "--kind", "matryoshka", *options, "--out", self.folder / "b")
        run("train", stack, "--kind=matryoshka", *options, "--out", self.folder / "c")
        self.assertEqual([dictionary["step"] for dictionary in said["dictionaries"]], [0, 1])
        for other in "bc":
            self.assertEqual(*((self.folder / name / "saes.csv").read_text() for name in ("a", other)))
        self.assert_fails(2, "train", stack, "--kind", "vanilla_l1", *options, "--out", self.folder / "d", says="k is a setting of")

    def test_memory_that_is_not_there_is_said_with_what_asks_for_less(self):
        stack = write_stack(self.folder / "stack.safetensors", [0])
        limit = 2 << 30  # of addresses: the program's own and some of the 20 arrays of 160 MiB

        def limited():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        self.assert_fails(1, "train", stack, "--d-sae", 1 << 20, "--batch-size", 40, "--n-epochs", 1, "--kind", "gated", "--out",
                          self.folder / "out", "--quiet", says=["out of memory: ", "bytes asked for", "a smaller --batch-size or --d-sae"],
                          preexec_fn=limited)

    def test_plans_say_what_a_training_costs(self):
        stack = write_stack(self.folder / "stack.safetensors", [0, 100, 200])
        options = ("--d-sae", 8, "--n-epochs", 3, "--batch-size", 16)
        plan = run_json("plan", stack, *options)
        self.assertEqual((plan["trainings"], plan["steps"], plan["time_from"], plan["fits"]), (1, 9, "steps", True))
        self.assertEqual(plan["flops"], 10 * 3 * ROWS * 3 * WIDTH * 8)
        self.assertEqual(plan["resident_bytes"], 4 * ROWS * 3 * WIDTH)
        self.assertEqual(plan["parameter_bytes"], 3 * 4 * (2 * 3 * WIDTH * 8 + 2 * 8 + 3 * WIDTH))
        self.assertLessEqual(plan["seconds_low"], plan["seconds"])
        self.assertLessEqual(plan["seconds"], plan["seconds_high"])
        self.assertGreater(plan["seconds_low"], 0)
        many = run_json("plan", stack, *options, "--sweep", "seed=0..3")
        self.assertEqual((many["trainings"], many["steps"], many["flops"]), (4, 36, 4 * plan["flops"]))
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["stack.safetensors"])  # nothing is written

        said = self.assert_fails(1, "plan", stack, *options[2:], "--d-sae", 10**9, says="would fit")
        self.assertIn("features over 3 snapshots takes about", said)
        self.assert_fails(2, "plan", *options, says="--shape")

    def test_plans_need_no_stack_for_settings_of_record(self):
        plan = run_json("plan", "--recipe", "pythia-6.9b/W_U/cross-snapshot-32/d32768", "--shape", "50432,32,4096", "--gflops", 1000)
        self.assertEqual((plan["trainings"], plan["time_from"]), (1, "gflops"))
        self.assertEqual(plan["parameter_bytes"], 12 * (2 * 32 * 4096 * 32768 + 2 * 32768 + 32 * 4096))  # 8.6 billion
        if not plan["fits"] and plan["ranks"] > 0:
            self.assertEqual(32 % plan["ranks"], 0)
            self.assertLessEqual(plan["rank_bytes"], plan["available_bytes"])

    def test_plans_for_a_gpu_that_is_not_here(self):
        options = ("plan", "--recipe", "pythia-160m/W_U/cross-snapshot-32/d24576", "--shape", "50304,32,768", "--device", "cuda")
        plan = run_json(*options, "--gflops", 3e5, "--gpu-memory", 80)
        weights, rows = 12 * (2 * 32 * 768 * 24576 + 2 * 24576 + 32 * 768), 4 * 50304 * 32 * 768
        self.assertEqual((plan["gpu_available_bytes"], plan["resident_bytes"]), (80e9, rows))
        self.assertTrue(weights + rows < plan["gpu_bytes"] < weights + rows + 3e9, plan)
        # Of its process: rows on their way, and a state while it is written.
        self.assertTrue(weights + rows < plan["memory_bytes"] < weights + rows + 1e9, plan)
        self.assertTrue(plan["fits"])  # whatever memory this machine has
        self.assertFalse(run_json(*options, "--gflops", 3e5, "--gpu-memory", 8)["fits"])
        shared = run_json("plan", "--recipe", "pythia-6.9b/W_U/cross-snapshot-32/d32768", "--shape", "50432,32,4096", "--device", "cuda",
                          "--gflops", 3e5, "--gpu-memory", 80)
        self.assertEqual((shared["fits"], shared["ranks"]), (False, 2))
        self.assertLess(shared["rank_gpu_bytes"], 80e9)
        self.assert_fails(2, *options, "--gpu-memory", 80, says="--gflops")
        self.assert_fails(2, *options[:-1], "cpu", "--gflops", 3e5, "--gpu-memory", 80, says="--device cuda")


if __name__ == "__main__":
    unittest.main()
