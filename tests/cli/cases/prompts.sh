# Prompts that cannot be continued.
t run "$MODEL" -p ""
t run "$MODEL" </dev/null
t logits "$MODEL" -p "" -o x.npy
t logits "$TINY" --ids "" -o x.npy
t logits "$TINY" --ids 131 -o x.npy
t logits "$TINY" --ids "$(seq -s, 0 112)" -o x.npy
t perplexity "$MODEL" -p ""
t perplexity "$MODEL" -p "abc" --from 4
t run "$MODEL" -p "ROMEO:" -n 256 -q --echo
t run "$MODEL" -p "ROMEO:" -n 5 --logit-bias 5000=1 -q
t run "$MODEL" -p "ROMEO:" -n 0 -q --temp 0
t run "$MODEL" -p "ROMEO:" -n 0 -q --echo
ls -A
