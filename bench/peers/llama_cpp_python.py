"""llama.cpp on the shape of `tern bench --shape llama-1.1b`: one token decoded after others (decode), or all of them read (prefill).

    llama_cpp_python.py FOLDER THREADS

The model has random weights and no vocabulary; it is written once for each dtype to FOLDER, some GB.  Matrices are f32, bf16, or q8_0
for int8, which has a scale for each 32 weights; keys and values are f16.
"""
import ctypes
import pathlib
import sys

import peer  # before what may not be there: it says what starts this program

import gguf
import llama_cpp
import numpy

LAYERS, WIDTH, INNER, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 22, 2048, 5632, 32, 4, 32000, 1024
TYPES = {"fp32": gguf.GGMLQuantizationType.F32, "bf16": gguf.GGMLQuantizationType.BF16, "int8": gguf.GGMLQuantizationType.Q8_0}
FILE_TYPES = {"fp32": gguf.LlamaFileType.ALL_F32, "bf16": gguf.LlamaFileType.MOSTLY_BF16, "int8": gguf.LlamaFileType.MOSTLY_Q8_0}


def write_model(path, dtype):
    random = numpy.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_tokenizer_model("no_vocab")
    kv = WIDTH // HEADS * KV_HEADS
    shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (kv, WIDTH), "attn_v": (kv, WIDTH), "attn_output": (WIDTH, WIDTH),
              "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER), "token": (VOCABULARY, WIDTH)}
    # One matrix of each kind serves all layers: they lie apart in the file all the same.
    matrices = {name: gguf.quants.quantize(random.standard_normal(shape, numpy.float32) / numpy.float32(shape[1] ** 0.5), TYPES[dtype])
                for name, shape in shapes.items()}

    def add(name, data, kind):
        writer.add_tensor(name + ".weight", data, raw_dtype=kind)

    def add_norm(name):
        add(name, numpy.ones(WIDTH, numpy.float32), gguf.GGMLQuantizationType.F32)

    add("token_embd", matrices["token"], TYPES[dtype])
    for i in range(LAYERS):
        add_norm(f"blk.{i}.attn_norm")
        add_norm(f"blk.{i}.ffn_norm")
        for name in list(shapes)[:-1]:
            add(f"blk.{i}.{name}", matrices[name], TYPES[dtype])
    add_norm("output_norm")
    add("output", matrices["token"], TYPES[dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Session:
    """a model with its context, freed together"""

    def __init__(self, path, threads):
        options = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        if not self.model:
            sys.exit(f"{name()}: cannot load {path}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = CONTEXT
        options.n_threads = options.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            sys.exit(f"{name()}: cannot make a context")
        self.memory = llama_cpp.llama_get_memory(self.context)

    def read(self, count):
        ids = (llama_cpp.llama_token * count)(*(i * 7919 % VOCABULARY for i in range(count)))
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(ids, count)):
            sys.exit(f"{name()}: decoding failed")
        llama_cpp.llama_synchronize(self.context)

    def forget(self, position):
        """what was read from there on"""
        llama_cpp.llama_memory_seq_rm(self.memory, 0, position, -1)

    def __del__(self):
        if getattr(self, "context", None):
            llama_cpp.llama_free(self.context)
        if getattr(self, "model", None):
            llama_cpp.llama_model_free(self.model)


def name():
    return f"llama-cpp-python {llama_cpp.__version__}"


@llama_cpp.llama_log_callback
def silent(level, text, data):
    pass


def main():
    threads, folder = int(sys.argv[2]), pathlib.Path(sys.argv[1])
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()

    def open_case(words):
        what, dtype, tokens = words[0], words[1], int(words[2])
        path = folder / f"llama-1.1b-{dtype}.gguf"
        if not path.exists():
            unfinished = path.with_suffix(".part")
            write_model(unfinished, dtype)
            unfinished.rename(path)
        session = Session(path, threads)
        before = tokens if what == "decode" else 0
        if before:
            session.read(before)

        def run(copy):
            session.read(1 if what == "decode" else tokens)
            session.forget(before)
        return run, 1

    peer.serve(name(), open_case)


if __name__ == "__main__":
    main()
