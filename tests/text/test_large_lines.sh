#!/bin/bash
# labels: full
# A line of 100 MB of what is hard for one part or another is encoded within 4 GiB of address space, and one of 40 MB where offsets are
# asked for, too.
set -eu

if ! grep -q '^TERN_SANITIZE:[A-Z]*=$' "$TERN_BUILD/CMakeCache.txt"; then
    echo "skipped: sanitizers need more memory"
    exit 0
fi
golden=$TERN_SOURCE/tests/golden/tokenizers
shared=$TERN_SOURCE/../shared/data/tokenizers
size=100000000
line=$(mktemp)
trap 'rm -f "$line"' EXIT

spaces() { head -c $((size - 1)) /dev/zero | tr '\0' ' '; printf x; }
letters() { head -c $size /dev/zero | tr '\0' a; }
alphabet() { yes abcdefghijklmnopqrstuvwxyz | tr -d '\n' | head -c $size; }
marks() { yes "$(printf '\xCC\x81\xCC\x96')" | tr -d '\n' | head -c $size; }
words() { yes 'a b1.,' | tr -d '\n' | head -c $size; }
ideographs() { yes "$(printf '\xE6\x97\xA5\xE6\x9C\xAC')" | tr -d '\n' | head -c $((size / 6 * 6)); }

n=0
options=
encode() { # kind, tokenizers
    $1 >"$line" 2>/dev/null || true # yes ends with SIGPIPE
    [ "$(wc -c <"$line")" -ge $((size / 6 * 6)) ]
    for tokenizer in "${@:2}"; do
        if [ ! -e "$tokenizer" ]; then
            echo "skipped: $tokenizer is not here"
            continue
        fi
        if ! (ulimit -v 4194304 && "$TERN" tokenize $options "$tokenizer" -f "$line" >/dev/null); then
            echo "$1, $tokenizer: failed"
            exit 1
        fi
        n=$((n + 1))
    done
}

encode spaces "$golden/llama3.json" "$golden/bert.json" "$shared/gpt2" "$shared/open_llama_3b/tokenizer.model"
encode letters "$golden/llama.json" "$golden/t5.json" "$shared/gpt2" "$shared/open_llama_3b/tokenizer.model"
encode alphabet "$golden/bpe-suffix.json" "$shared/roberta-base" "$shared/t5-small"
encode marks "$golden/nfkc.json" "$golden/nfd.json" "$shared/bert-base-uncased"
encode words "$golden/clip.json" "$golden/scripts.json" "$shared/gpt2" "$shared/falcon"
encode ideographs "$golden/albert.json" "$golden/llama.json" "$shared/bert-base-cased"
echo "$n lines of 100 MB in 4 GiB"

n=0
size=40000000
options=--offsets
encode marks "$golden/roberta.json" "$golden/nfd.json"
encode spaces "$golden/llama.json" "$shared/gpt2"
encode letters "$shared/t5-small" "$shared/open_llama_3b/tokenizer.model"
encode words "$shared/gpt2" "$shared/bert-base-uncased"
echo "$n lines of 40 MB with offsets in 4 GiB"
