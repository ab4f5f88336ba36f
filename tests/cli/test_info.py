#!/usr/bin/env python3
# labels: quick
"""tern info of every golden directory, against what their files say; of broken directories, for a reason; and how long it takes.

    TERN=build/tern python3 tests/cli/test_info.py
"""
import glob
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("TERN_SOURCE", os.path.join(HERE, "..", "..")))
TERN = os.path.abspath(os.environ.get("TERN", os.path.join(SOURCE, "build", "tern")))
GOLDEN = os.path.join(SOURCE, "tests", "golden")
TASKS = (("ForCausalLM", "generate"), ("LMHeadModel", "generate"), ("ForMaskedLM", "fill"), ("ForPreTraining", "fill"),
         ("ForSequenceClassification", "classify"), ("ForTokenClassification", "tag"))
DTYPES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
LFS = ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
       "size 548105171\n")
HTML = "\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"


def run(*arguments):
    return subprocess.run([TERN, "info", *arguments], capture_output=True, encoding="utf-8", timeout=100)


def headers(folder):
    """Every tensor of a directory: name to dtype and shape."""
    tensors = {}
    for file in glob.glob(os.path.join(folder, "*.safetensors")):
        if os.path.basename(file).startswith("golden"):
            continue
        with open(file, "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        tensors.update({k: v for k, v in header.items() if k != "__metadata__"})
    return tensors


def size(tensor):
    n = 1
    for d in tensor["shape"]:
        n *= d
    return n


def models():
    for parent in ("models", "sentences", "scores"):
        for name in sorted(os.listdir(os.path.join(GOLDEN, parent))):
            if os.path.isdir(os.path.join(GOLDEN, parent, name)):
                yield os.path.join(GOLDEN, parent, name)
    yield from sorted(glob.glob(os.path.join(GOLDEN, "gpt2-*")))
    yield os.path.join(SOURCE, "models", "tiny-shakespeare")


class Info(unittest.TestCase):
    def check(self, path):
        done = run(path, "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        got, text = json.loads(done.stdout), run(path).stdout
        folder = os.path.join(path, "0_Transformer") if os.path.isdir(os.path.join(path, "0_Transformer")) else path
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            config = json.load(f)
        model, memory, tensors = got["model"], got["memory"], headers(folder)
        self.assertEqual(model["path"], folder)
        architecture = (config.get("architectures") or [model["architecture"]])[0]
        self.assertEqual(model["architecture"], architecture)
        if architecture.endswith(tuple(t[0] for t in TASKS)):
            self.assertEqual(model["task"], next(t for end, t in TASKS if architecture.endswith(end)))
        largest = max(tensors.values(), key=size)
        if sum(size(t) == size(largest) for t in tensors.values()) == 1:
            self.assertEqual(model["dtype"], DTYPES[largest["dtype"]])
        for key, names in (("vocabulary", ("vocab_size", "padded_vocab_size")),
                           ("hidden_size", ("hidden_size", "n_embd", "dim")),
                           ("layers", ("num_hidden_layers", "n_layer", "n_layers", "num_layers")),
                           ("heads", ("num_attention_heads", "n_head", "n_heads", "num_heads"))):
            said = [config[n] for n in names if n in config]
            if said:
                self.assertIn(model[key], said, key)
        parallel = config.get("use_parallel_residual", config.get("parallel_attn") or config.get("new_decoder_architecture"))
        self.assertEqual(model["parallel_layers"], bool(parallel) or config["model_type"] in ("gptj", "phi"))
        skipped = set(model["skipped_tensors"])
        self.assertTrue(skipped <= set(tensors))
        upper = sum(size(t) for n, t in tensors.items() if n not in skipped)
        self.assertLessEqual(model["parameters"], upper)
        self.assertGreater(model["parameters"], upper * 0.4)  # buffers and tied heads are left out
        self.assertEqual(memory["needed_bytes"], memory["weight_bytes"] + memory["kv_bytes"] + memory["scratch_bytes"])
        self.assertGreater(min(memory.values()), 0)
        self.assertEqual("token_bytes" in memory, model["task"] == "generate")
        self.assertLessEqual(memory.get("token_bytes", 0), memory["weight_bytes"])
        self.assertLessEqual(memory["file_bytes"], sum(os.path.getsize(f) for f in glob.glob(os.path.join(folder, "*.safetensors"))))
        has_tokenizer = any(os.path.exists(os.path.join(folder, f)) for f in ("tokenizer.json", "vocab.json", "vocab.txt"))
        self.assertEqual(model["tokenizer"] is not None, has_tokenizer)
        if "id2label" in config and model["task"] in ("classify", "tag"):
            self.assertEqual(model["label_names"], [config["id2label"][str(i)] for i in range(model["labels"])])
        for key in ("family", "architecture", "task"):
            self.assertRegex(text, rf"(?m)^  {key} +{model[key]}$")
        self.assertRegex(text, r"(?m)^  needed  ")
        return model["family"], model["task"]

    def test_every_golden_directory(self):
        seen = set()
        for path in models():
            with self.subTest(path):
                seen.add(self.check(path))
        self.assertGreaterEqual(len({family for family, _ in seen}), 20)
        self.assertEqual({task for _, task in seen}, {"generate", "fill", "states", "classify", "tag"})

    def test_broken_directories(self):
        good = os.path.join(GOLDEN, "sentences", "bare")
        for file, content, code, words in (
                ("config.json", None, 1, "it has no config.json"),
                ("config.json", "", 1, "the text ends, expected a value"),
                ("config.json", "{}", 1, "architectures"),
                ("config.json", "[]", 1, "config.json"),
                ("config.json", '{"architectures":["NoSuchModel"]}', 3, "NoSuchModel"),
                ("config.json", LFS, 1, "config.json: is a Git LFS pointer in place of the file; in its repository: git lfs pull"),
                ("config.json", HTML, 1, "config.json: is an HTML page in place of the file: a download that failed"),
                ("model.safetensors", None, 1, "neither model.safetensors nor model.safetensors.index.json"),
                ("model.safetensors", "", 1, "expected at least the 8 of the header's length"),
                ("model.safetensors", LFS, 1, "model.safetensors: is a Git LFS pointer"),
                ("model.safetensors", HTML, 1, "model.safetensors: is an HTML page"),
                ("model.safetensors", "x" * 100, 1, "header has"),
                ("model.safetensors", struct.pack("<Q", 2).decode() + "{}", 1, "no tensor")):
            with tempfile.TemporaryDirectory() as folder, self.subTest(f"{file} {words}"):
                shutil.copytree(good, folder, dirs_exist_ok=True)
                os.remove(os.path.join(folder, file))
                if content is not None:
                    with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
                        f.write(content)
                for more in ([], ["--json"]):
                    done = run(folder, *more)
                    self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
                    self.assertIn(words, done.stderr)
                    self.assertEqual(done.stderr.count("\n"), 1)

    def test_a_tokenizer_that_cannot_be_read_does_not_hide_the_model(self):
        for content, words in ((LFS, "is a Git LFS pointer"), (HTML, "is an HTML page"), ("{}", "model"), ("", "the text ends"),
                               ('{"model":{"type":"Puzzle","vocab":{},"merges":[]}}', "unsupported model 'Puzzle'")):
            with tempfile.TemporaryDirectory() as folder, self.subTest(words):
                shutil.copytree(os.path.join(GOLDEN, "sentences", "bare"), folder, dirs_exist_ok=True)
                with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
                    f.write(content)
                done = run(folder)
                self.assertEqual(done.returncode, 0, done.stderr)
                line = next(x for x in done.stdout.splitlines() if x.startswith("  tokenizer "))
                self.assertIn("none: ", line)
                self.assertIn(words, line)
                self.assertIsNone(json.loads(run(folder, "--json").stdout)["model"]["tokenizer"])

    def test_a_large_model_is_told_at_once(self):
        """LLaMA of 70 billion parameters in a file of holes, with a vocabulary of 128000: nothing of 137 GB is read."""
        hidden, layers, inner = 8192, 80, 28672
        shapes = {"model.embed_tokens.weight": [128000, hidden], "model.norm.weight": [hidden], "lm_head.weight": [128000, hidden]}
        for i in range(layers):
            shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in (
                ("self_attn.q_proj", [hidden, hidden]), ("self_attn.k_proj", [1024, hidden]), ("self_attn.v_proj", [1024, hidden]),
                ("self_attn.o_proj", [hidden, hidden]), ("mlp.gate_proj", [inner, hidden]), ("mlp.up_proj", [inner, hidden]),
                ("mlp.down_proj", [hidden, inner]), ("input_layernorm", [hidden]), ("post_attention_layernorm", [hidden]))}
        header, end = {}, 0
        for name, shape in shapes.items():
            n = 2 * size({"shape": shape})
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + n]}
            end += n
        header = json.dumps(header).encode()
        with open(os.path.join(GOLDEN, "tokenizers", "gpt2.json"), encoding="utf-8") as f:
            tokenizer = json.load(f)
        tokenizer["model"]["vocab"] |= {f"a word of some length {i}": i for i in range(len(tokenizer["model"]["vocab"]), 128000)}
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "model.safetensors"), "wb") as f:
                f.write(struct.pack("<Q", len(header)) + header)
                f.truncate(8 + len(header) + end)
            with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
                json.dump(tokenizer, f)
            with open(os.path.join(folder, "config.json"), "w") as f:
                json.dump({"architectures": ["LlamaForCausalLM"], "vocab_size": 128000, "hidden_size": hidden, "rms_norm_eps": 1e-5,
                           "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 64, "num_key_value_heads": 8,
                           "max_position_embeddings": 8192, "tie_word_embeddings": False}, f)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = run(folder, "--json")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.assertEqual(done.returncode, 0, done.stderr)
        got = json.loads(done.stdout)
        self.assertEqual(got["model"]["parameters"], sum(size({"shape": s}) for s in shapes.values()))
        self.assertEqual((got["model"]["tokenizer"], got["model"]["tokenizer_vocabulary"]), ("BPE", 128000))
        self.assertEqual(got["memory"]["file_bytes"], end)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.assertLess(seconds, 0.5)  # 0.02 where nothing else runs; a sanitizer takes ten times as long

    def test_directories_of_sentence_transformers(self):
        for modules, code, words in (("7", 1, "modules.json"), ("[]", 1, "modules.json"), ("{}", 1, "modules.json"), ("[3]", 1, "module 0 is"),
                                     ('[{"name":"0","path":"..","type":"x"}]', 1, "expected a folder inside of the directory"),
                                     ('[{"name":"0","path":"a","type":"x.y"}]', 3, "expected sentence_transformers' Transformer"),
                                     ('[{"name":"0","path":"a","type":"sentence_transformers.models.Transformer"}]', 1, "a: no such directory")):
            with tempfile.TemporaryDirectory() as folder, self.subTest(modules):
                with open(os.path.join(folder, "modules.json"), "w") as f:
                    f.write(modules)
                done = run(folder)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=0, argv=sys.argv)
