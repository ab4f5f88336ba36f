#!/usr/bin/env python3
"""Trains the built-in model: a GPT-2 of about 3 million weights with its own byte-level BPE vocabulary.

Run, with what tests/golden/requirements.txt pins (torch, tokenizers and safetensors are enough):

    build/golden-env/bin/python models/train.py TEXT [--out models/tiny-shakespeare] [--threads 2]

TEXT is tinyshakespeare.txt (1,115,394 bytes, public domain; data/tinyshakespeare/input.txt of karpathy/char-rnn).
Its bytes are cut in three: 17/20 to train on, 1/20 to stop early on, and the last 1/10, which nothing here learns
from and whose bits per byte are the figure.  The vocabulary is made from the first nine tenths.

Seeds are fixed and the length of the run is given in steps: about half an hour on two cores.  The files
are those of an ordinary Hugging Face checkpoint, weights in F16.
"""
import argparse
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

EOT = "<|endoftext|>"
EPS = 1e-5
SEED = 1


class Conv1D(nn.Module):
    """A linear layer stored as GPT-2 stores it, weight [in, out]."""

    def __init__(self, n_in, n_out, std):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) * std)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        return F.linear(x, self.weight.t(), self.bias)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.n_head = c.n_head
        self.drop = c.dropout
        self.c_attn = Conv1D(c.n_embd, 3 * c.n_embd, 0.02)
        self.c_proj = Conv1D(c.n_embd, c.n_embd, 0.02 / math.sqrt(2 * c.n_layer))

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (y.view(B, T, self.n_head, -1).transpose(1, 2) for y in self.c_attn(x).split(D, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.dropout(self.c_proj(y.transpose(1, 2).reshape(B, T, D)), self.drop, self.training)


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.drop = c.dropout
        self.c_fc = Conv1D(c.n_embd, 4 * c.n_embd, 0.02)
        self.c_proj = Conv1D(4 * c.n_embd, c.n_embd, 0.02 / math.sqrt(2 * c.n_layer))

    def forward(self, x):
        return F.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")), self.drop, self.training)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1 = nn.LayerNorm(c.n_embd, eps=EPS)
        self.attn = Attention(c)
        self.ln_2 = nn.LayerNorm(c.n_embd, eps=EPS)
        self.mlp = MLP(c)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """Parameter names are those of transformers' GPT2Model, so the state dict is the checkpoint."""

    def __init__(self, c):
        super().__init__()
        self.drop = c.dropout
        self.wte = nn.Embedding(c.vocab, c.n_embd)
        self.wpe = nn.Embedding(c.n_ctx, c.n_embd)
        self.h = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.ln_f = nn.LayerNorm(c.n_embd, eps=EPS)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.01)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe.weight[:ids.shape[1]]
        x = F.dropout(x, self.drop, self.training)
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


def train_tokenizer(text, size):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.train_from_iterator([text], trainers.BpeTrainer(
        vocab_size=size, special_tokens=[EOT], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


class Splitter:
    """The tokenizer's own merges, each one skipped with probability p (BPE dropout, arXiv:1910.13267): one text in many
    spellings, which a small text needs more than a large one.  Written here because tokenizers cannot seed its own."""

    def __init__(self, tok, text, p, rng):
        model = json.loads(tok.to_str())["model"]
        self.rank = {tuple(m) if isinstance(m, list) else tuple(m.split(" ")): i for i, m in enumerate(model["merges"])}
        self.vocab = model["vocab"]
        self.words = [w for w, _ in tok.pre_tokenizer.pre_tokenize_str(text)]
        self.p, self.rng = p, rng

    def split(self, word):
        s = list(word)
        while len(s) > 1:
            best = min(((self.rank.get(pair, 1 << 30), i) for i, pair in enumerate(zip(s, s[1:]))
                        if self.rng.random() >= self.p), default=(1 << 30, 0))
            if best[0] == 1 << 30:
                break
            i = best[1]
            s[i:i + 2] = [s[i] + s[i + 1]]
        return [self.vocab[x] for x in s]

    def ids(self):
        out = []
        for w in self.words:
            out += self.split(w)
        return torch.tensor(out)


def bits_per_byte(model, ids, n_bytes, n_ctx):
    """ids begin with end-of-text, which is context only.  Windows of n_ctx, each n_ctx/2 further than the last; a
    window scores the ids that no earlier one has.  Bits of all scored ids over the bytes of the text."""
    model.eval()
    nats = 0.0
    done = 1
    with torch.no_grad():
        for start in range(0, len(ids), n_ctx // 2):
            window = ids[start:start + n_ctx]
            first = done - start
            if first >= len(window):
                break
            logits = model(window[None])[0].double()
            nats += F.cross_entropy(logits[first - 1:-1], window[first:], reduction="sum").item()
            done = start + len(window)
    assert done == len(ids)
    return nats / math.log(2) / n_bytes


def batch(data, starts, c, rng):
    """Windows at random places.  One in eight is moved to the start of a speech and opened by end-of-text, so that the
    model also knows how a text begins; end-of-text is never something to predict."""
    rows = []
    for _ in range(c.batch):
        if torch.rand(1, generator=rng).item() < 0.125:
            s = starts[torch.randint(len(starts), (1,), generator=rng).item()].item()
            row = torch.cat([torch.tensor([0]), data[s:s + c.n_ctx]])
        else:
            s = torch.randint(len(data) - c.n_ctx, (1,), generator=rng).item()
            row = data[s:s + c.n_ctx + 1]
        rows.append(row)
    rows = torch.stack(rows)
    return rows[:, :-1], rows[:, 1:]


def write(model, tok, c, out):
    os.makedirs(out, exist_ok=True)
    state = {"transformer." + k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(state, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    tok.save(os.path.join(out, "tokenizer.json"))
    config = {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.0,
        "bos_token_id": 0, "dtype": "float16", "embd_pdrop": c.dropout, "eos_token_id": 0,
        "initializer_range": 0.02, "layer_norm_epsilon": EPS, "model_type": "gpt2", "n_embd": c.n_embd,
        "n_head": c.n_head, "n_inner": None, "n_layer": c.n_layer, "n_positions": c.n_ctx,
        "reorder_and_upcast_attn": False, "resid_pdrop": c.dropout, "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True, "tie_word_embeddings": True, "use_cache": True, "vocab_size": c.vocab}
    generation = {"bos_token_id": 0, "do_sample": True, "eos_token_id": 0, "temperature": 0.8, "top_k": 40}
    tokenizer = {"add_prefix_space": False, "bos_token": EOT, "clean_up_tokenization_spaces": False,
                 "eos_token": EOT, "model_max_length": c.n_ctx, "tokenizer_class": "GPT2Tokenizer", "unk_token": EOT}
    for name, value in (("config", config), ("generation_config", generation), ("tokenizer_config", tokenizer)):
        with open(os.path.join(out, name + ".json"), "w") as f:
            json.dump(value, f, indent=2)
            f.write("\n")


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("text")
    a.add_argument("--out", default="models/tiny-shakespeare")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--minutes", type=float, default=110, help="stop and keep the best so far after this long")
    a.add_argument("--steps", type=int, default=2200)
    a.add_argument("--batch", type=int, default=16)
    a.add_argument("--lr", type=float, default=2e-3)
    a.add_argument("--dropout", type=float, default=0.1)
    a.add_argument("--bpe-dropout", type=float, default=0.1)
    a.add_argument("--weight-decay", type=float, default=0.1)
    a.add_argument("--vocab", type=int, default=1024)
    a.add_argument("--n-ctx", type=int, default=256)
    a.add_argument("--n-embd", type=int, default=192)
    a.add_argument("--n-head", type=int, default=6)
    a.add_argument("--n-layer", type=int, default=6)
    a.add_argument("--eval-every", type=int, default=200)
    c = a.parse_args()

    torch.set_num_threads(c.threads)
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    spell = random.Random(SEED)

    raw = open(c.text, "rb").read()
    a, b = len(raw) * 17 // 20, len(raw) * 9 // 10
    train, stop, last = (x.decode() for x in (raw[:a], raw[a:b], raw[b:]))
    tok = train_tokenizer(raw[:b].decode(), c.vocab)
    stop_ids, last_ids = (torch.tensor([0] + tok.encode(x).ids) for x in (stop, last))
    plain = torch.tensor(tok.encode(train).ids)
    splitter = Splitter(tok, train, 0.0, spell)
    assert torch.equal(splitter.ids(), plain)
    splitter.p = c.bpe_dropout
    newline = tok.token_to_id("\u010a")

    model = GPT2(c)
    print(f"{sum(p.numel() for p in model.parameters())} weights, {len(plain)} training ids, "
          f"{len(train.encode()) / len(plain):.2f} bytes an id", flush=True)
    decay = [p for p in model.parameters() if p.dim() == 2]
    keep = [p for p in model.parameters() if p.dim() < 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": c.weight_decay}, {"params": keep, "weight_decay": 0.0}],
                            lr=c.lr, betas=(0.9, 0.98))
    warm = 100
    data, used, best, best_state = None, 0, float("inf"), None
    began = time.time()
    for step in range(c.steps + 1):
        if step % c.eval_every == 0 and step:
            bpb = bits_per_byte(model, stop_ids, len(stop.encode()), c.n_ctx)
            print(f"step {step}  {(time.time() - began) / 60:.1f} min  training loss {loss.item():.3f} nats an id  "
                  f"early-stopping slice {bpb:.4f} bits a byte", flush=True)
            if bpb < best:
                best, best_state = bpb, {k: v.clone() for k, v in model.state_dict().items()}
            if step == c.steps or time.time() - began > 60 * c.minutes or bpb > best + 0.05:
                break
        if data is None or used > len(data):        # a fresh spelling of the text for every pass over it
            data, used = splitter.ids() if c.bpe_dropout else plain, 0
            pair = (data[1:-c.n_ctx - 1] == newline) & (data[:-c.n_ctx - 2] == newline)
            starts = pair.nonzero()[:, 0] + 2
        rate = min(1, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / c.steps)))
        for g in opt.param_groups:
            g["lr"] = c.lr * rate
        model.train()
        x, y = batch(data, starts, c, rng)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        used += x.numel()

    model.load_state_dict({k: v.half().float() for k, v in best_state.items()})    # the figure is of what is stored
    write(model, tok, c, c.out)
    bpb = bits_per_byte(model, last_ids, len(last.encode()), c.n_ctx)
    print(f"last tenth: {bpb:.4f} bits per byte ({len(last_ids) - 1} ids, {len(last.encode())} bytes, F16 weights)")


if __name__ == "__main__":
    main()
