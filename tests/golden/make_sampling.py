#!/usr/bin/env python3
"""Makes sampling.json: scores before and after transformers' logits processors, and answers of Philox4x32-10.

Run, from the root of the repository, in the environment that tests/golden/README.md describes:

    build/golden-env/bin/python tests/golden/make_sampling.py

The processors, and the order they work in, are those that transformers' generate would use: each case asks
GenerationMixin._get_logits_processor for its list.  Presence and frequency penalties are not in transformers; they
follow OpenAI's formula, over generated ids only, directly after the repetition penalty:

    score[j] -= count[j] * frequency + (count[j] > 0) * presence

Arithmetic is float32, as in generate.  transformers sorts without promising an order among equal scores, so no case has
equal scores, or a sum within 1e-4 of the threshold, at the border of top-p; the same for min-p's quotient.
"""
import json
import math
import os

import torch
import transformers
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LogitsProcessor, LogitsProcessorList

HERE = os.path.dirname(os.path.abspath(__file__))
NEG = float("-inf")


class OpenAIPenalties(LogitsProcessor):
    def __init__(self, n_prompt, presence, frequency):
        self.n_prompt, self.presence, self.frequency = n_prompt, presence, frequency

    def __call__(self, input_ids, scores):
        count = torch.bincount(input_ids[0, self.n_prompt:], minlength=scores.shape[1]).float()
        return scores - (count * self.frequency + (count > 0).float() * self.presence)


class Border(LogitsProcessor):
    """Stands before top-p or min-p and refuses scores for which rounding could change what is kept."""

    def __init__(self, top_p=None, min_p=None):
        self.top_p, self.min_p = top_p, min_p

    def __call__(self, input_ids, scores):
        p = scores[0].double().softmax(0)
        if self.top_p is not None:
            s, order = p.sort()
            total = s.cumsum(0)
            below = total[s > 0][:-1]                   # the last is 1, up to rounding
            assert all((below - (1 - self.top_p)).abs() > 1e-4) or self.top_p == 0, "top-p border"
            n = max(1, int((total > 1 - self.top_p).sum()))
            if n < len(s):
                assert s[-n] > s[-n - 1] or s[-n] == 0, "equal scores at the border of top-p"
        if self.min_p is not None and 0 < self.min_p < 1:
            assert (p / p.max() / self.min_p - 1).abs().min() > 1e-4, "min-p border"
        return scores


def vectors():
    rng = torch.Generator().manual_seed(5)
    plain = torch.randn(64, generator=rng) * 1.5
    flat = torch.randn(97, generator=rng) * 0.4
    peaked = torch.randn(50, generator=rng)
    peaked[17] = 14.5
    ties = torch.randint(-4, 5, (80,), generator=rng).float() * 0.5
    ties[[3, 30, 77]] = 3.0                              # three equal best
    masked = torch.randn(71, generator=rng) * 2
    masked[::3] = NEG
    large = torch.randn(53, generator=rng) * 2000
    one = torch.full((60,), NEG)
    one[41] = -7.25                                      # nothing else can be drawn
    zeros = torch.tensor([0.0, -0.0, 1.0, -1.0] * 13)    # signed zeros under the repetition penalty
    same = torch.full((55,), 1.5)
    return [v.float() for v in (plain, flat, peaked, ties, masked, large, one, zeros, same)]


PLAIN, FLAT, PEAKED, TIES, MASKED, LARGE, ONE, ZEROS, SAME = range(9)
ALL = range(9)
PROMPT, GENERATED = [5, 9, 5, 49, 0], [17, 3, 3, 41, 30, 3, 9]

# (scores, options); prompt and generated ids are the above unless options say otherwise.
CASES = [
    *[(v, dict(repetition_penalty=1.3)) for v in ALL],
    (PLAIN, dict(repetition_penalty=0.7)),
    (PLAIN, dict(repetition_penalty=1.0)),
    (PLAIN, dict(repetition_penalty=2.5, generated=[])),
    (PLAIN, dict(repetition_penalty=2.5, prompt=[1], generated=[1, 1, 1])),
    *[(v, dict(presence_penalty=0.6)) for v in (PLAIN, MASKED, LARGE)],
    *[(v, dict(frequency_penalty=0.4)) for v in (PLAIN, TIES, ONE)],
    (PLAIN, dict(presence_penalty=-1.5, frequency_penalty=-0.25)),
    (PLAIN, dict(presence_penalty=1.5, frequency_penalty=0.75, generated=[])),
    (FLAT, dict(presence_penalty=2.0, frequency_penalty=2.0)),
    *[(v, dict(sequence_bias=[[[7], 2.5], [[49], -3.0]])) for v in (PLAIN, MASKED, LARGE)],
    (PLAIN, dict(sequence_bias=[[[7], NEG]])),
    (MASKED, dict(sequence_bias=[[[0], 100.0], [[1], 1.0]])),            # a bias does not lift -inf
    (PLAIN, dict(sequence_bias=[[[3, 9, 12], 4.0], [[9, 13], -2.0], [[9, 9], 1.0], [[3, 14], 8.0]])),
    (PLAIN, dict(sequence_bias=[[[9, 12], 4.0], [[3, 9, 12], 0.5], [[12], 0.25]])),     # three for one id add up
    (PLAIN, dict(sequence_bias=[[[5, 9, 5, 49, 0, 17, 3, 3, 41, 30, 3, 9, 2], 6.0]])),  # the whole history
    (PLAIN, dict(sequence_bias=[[[1, 5, 9, 5, 49, 0, 17, 3, 3, 41, 30, 3, 9, 2], 6.0]])),       # longer than it
    (PLAIN, dict(sequence_bias=[[[0, 2], 6.0]], generated=[])),          # the prompt counts as well
    *[(v, dict(temperature=t)) for v, t in ((PLAIN, 0.7), (PLAIN, 1.0), (FLAT, 1.9), (PEAKED, 0.01), (MASKED, 0.8),
                                            (LARGE, 0.3), (LARGE, 100.0), (ONE, 0.5))],
    *[(v, dict(top_k=k)) for v, k in ((PLAIN, 1), (PLAIN, 5), (PLAIN, 63), (PLAIN, 64), (PLAIN, 1000), (TIES, 1),
                                      (TIES, 2), (TIES, 3), (TIES, 10), (MASKED, 60), (ONE, 1), (ONE, 3), (SAME, 4),
                                      (ZEROS, 20))],
    *[(v, dict(top_p=p)) for v, p in ((PLAIN, 0.9), (PLAIN, 0.5), (PLAIN, 0.05), (PLAIN, 0.0), (PLAIN, 1.0),
                                      (FLAT, 0.95), (PEAKED, 0.9), (MASKED, 0.8), (LARGE, 0.9), (ONE, 0.3))],
    *[(v, dict(min_p=p)) for v, p in ((PLAIN, 0.05), (PLAIN, 0.3), (PLAIN, 1.0), (PLAIN, 0.0), (FLAT, 0.4),
                                      (PEAKED, 0.02), (TIES, 1.0), (TIES, 0.2), (MASKED, 0.1), (LARGE, 0.1),
                                      (ONE, 0.5), (SAME, 0.9))],
    (PLAIN, dict(temperature=0.8, top_k=40)),
    (PLAIN, dict(temperature=0.8, top_k=10, top_p=0.7)),
    (FLAT, dict(temperature=0.6, top_p=0.9, min_p=0.2)),
    (FLAT, dict(top_k=30, top_p=0.8, min_p=0.45)),
    (TIES, dict(temperature=1.4, top_k=7)),
    (TIES, dict(repetition_penalty=1.2, temperature=0.9, top_k=12, min_p=0.15)),
    (MASKED, dict(repetition_penalty=1.1, temperature=0.7, top_k=20, top_p=0.9)),
    (PLAIN, dict(sequence_bias=[[[9], 3.0], [[9, 12], 5.0]], repetition_penalty=1.5)),    # the bias is penalised too
    (PLAIN, dict(sequence_bias=[[[3], 4.0]], repetition_penalty=1.5, frequency_penalty=0.5, presence_penalty=0.25)),
    (PLAIN, dict(repetition_penalty=1.2, presence_penalty=0.6, frequency_penalty=0.4, temperature=0.7)),
    (PLAIN, dict(sequence_bias=[[[3], 4.0], [[9, 20], 2.0]], repetition_penalty=1.2, presence_penalty=0.6,
                 frequency_penalty=0.4, temperature=0.7, top_k=25, top_p=0.92, min_p=0.02)),
    (FLAT, dict(sequence_bias=[[[60], 1.0], [[61], NEG]], repetition_penalty=1.3, presence_penalty=0.1,
                frequency_penalty=0.2, temperature=1.3, top_k=50, top_p=0.85, min_p=0.1)),
    (PEAKED, dict(repetition_penalty=3.0, presence_penalty=1.0, temperature=0.5, top_k=8, top_p=0.99)),
    (LARGE, dict(repetition_penalty=1.2, temperature=500.0, top_k=12, top_p=0.9, min_p=0.01)),
    (ONE, dict(repetition_penalty=1.2, frequency_penalty=0.4, temperature=0.7, top_k=5, top_p=0.5, min_p=0.5)),
]


def processors(model, n_prompt, options):
    """generate's own list, with the OpenAI penalties put in, and the border checks before what they check."""
    known = {k: v for k, v in options.items() if k not in ("presence_penalty", "frequency_penalty")}
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **known})
    out = list(model._get_logits_processor(config, input_ids_seq_length=n_prompt, device="cpu", model_kwargs={}))
    names = [type(p).__name__ for p in out]
    if "presence_penalty" in options or "frequency_penalty" in options:
        after = [i + 1 for i, n in enumerate(names) if n in ("SequenceBiasLogitsProcessor",
                                                            "RepetitionPenaltyLogitsProcessor")]
        out.insert(max(after, default=0), OpenAIPenalties(n_prompt, options.get("presence_penalty", 0.0),
                                                          options.get("frequency_penalty", 0.0)))
    order = [type(p).__name__ for p in out]
    for i in reversed(range(len(out))):
        if order[i] in ("TopPLogitsWarper", "MinPLogitsWarper"):
            border = Border(top_p=out[i].top_p) if order[i][0] == "T" else Border(min_p=out[i].min_p)
            out.insert(i, border)
    return LogitsProcessorList(out), order


def plain(value):
    """JSON has no infinity: it becomes a string."""
    if isinstance(value, float) and math.isinf(value):
        return "-inf" if value < 0 else "inf"
    return [plain(v) for v in value] if isinstance(value, list) else value


def philox(counter, key):
    """Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", ten rounds."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def hexes(text):
    return [int(x, 16) for x in text.split()]


# From kat_vectors of Random123 (the paper's authors): counter, key, output.
PUBLISHED = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def philox_answers():
    out = []
    for counter, key, answer in PUBLISHED:
        assert philox(hexes(counter), hexes(key)) == hexes(answer)
        out.append({"counter": hexes(counter), "key": hexes(key), "output": hexes(answer), "published": True})
    # The definition above, which gives the published answers, for seeds and positions as a sampler has them.
    for seed in (0, 1, 42, 0xFFFFFFFF, 0x123456789ABCDEF0):
        for position in (0, 1, 63, 0xFFFFFFFF, 1 << 32):
            counter, key = [position & 0xFFFFFFFF, position >> 32, 0, 0], [seed & 0xFFFFFFFF, seed >> 32]
            out.append({"counter": counter, "key": key, "output": philox(counter, key), "published": False})
    return out


def main():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_layer=1, n_embd=4, n_head=1, bos_token_id=0, eos_token_id=0))
    scores = vectors()
    cases, longest = [], []
    for which, options in CASES:
        options = dict(options)
        prompt, generated = options.pop("prompt", PROMPT), options.pop("generated", GENERATED)
        run, order = processors(model, len(prompt), options)
        longest = max(longest, order, key=len)
        out = run(torch.tensor([prompt + generated]), scores[which][None].clone())[0]
        assert not out.isnan().any() and out.max() > NEG
        cases.append({"scores": which, "prompt": prompt, "generated": generated,
                      "options": {k: plain(v) for k, v in options.items()}, "processors": order,
                      "expected": plain(out.tolist())})
    assert len(longest) == 7
    with open(os.path.join(HERE, "sampling.json"), "w") as f:
        head = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "order": longest}
        f.write(json.dumps(head)[:-1] + ',\n"scores": [\n')
        f.write(",\n".join(json.dumps(plain(v.tolist())) for v in scores))
        f.write('],\n"cases": [\n' + ",\n".join(json.dumps(c) for c in cases))
        f.write('],\n"philox4x32_10": [\n' + ",\n".join(json.dumps(p) for p in philox_answers()) + "]}\n")
    print(f"{len(cases)} cases, order {longest}")


if __name__ == "__main__":
    main()
