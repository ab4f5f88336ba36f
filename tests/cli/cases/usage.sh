# What is asked for cannot be: exit code 2, with both sides.
t
t walk
t run --colour
t run --colour=blue
t run -x
t run -n
t run -n five -p a
t run -n -1 -p a
t run -n 99999999999999999999 -p a
t run --temp x -p a
t run --temp=-0.5 -p a
t run --temp nan -p a
t run --temp 1e999 -p a
t run --temp " 1" -p a
t run --top-k 1.5 -p a
t run --top-p -0.1 -p a
t run --top-p 1.01 -p a
t run --min-p 2 -p a
t run --repeat-penalty 0 -p a
t run --presence-penalty much -p a
t run --seed -1 -p a
t run --seed 18446744073709551616 -p a
t run --threads 1025 -p a
t run --threads=two -p a
t run --echo=yes -p a
t run --echo --json -p a
t run -p a -f b
t run one two -p a
t tokenize
t tokenize -p a
t detokenize "$MODEL"
t detokenize "$MODEL" --ids 1,x,3
t detokenize "$MODEL" --ids 1,,3
t detokenize "$MODEL" --ids 1,2,
t detokenize "$MODEL" --ids -1
t detokenize "$MODEL" --ids 2147483648
t logits "$TINY" --ids 1
t logits "$TINY" --ids 1 -p a -o x.npy
t perplexity "$MODEL" --from -1 -p a
t info a b
t tune --shape gpt5
t tune --shape tiny "$MODEL"
t tune --shape tiny --max-tokens 0
t tune --shape tiny --threads 1025
t tune "$TINY/nothing"
t bench --shape gpt5
t bench --shape tiny "$MODEL"
t bench --shape tiny --json --csv
t bench --shape tiny --contexts 16,x
t bench --shape tiny --contexts 16,16 --no-ceilings -q
t bench --shape tiny --contexts "" --no-ceilings -q
t bench --shape tiny --contexts 16,250 --no-ceilings -q
t bench --shape tiny --decode 256 --no-ceilings -q
t bench --shape tiny-encoder --decode 1
t bench --shape tiny --runs 0
t bench --shape tiny --sequences 0
t bench --shape tiny --dtype int4
t bench "$TINY/nothing" --no-ceilings
t info --dtype fp16
for command in "run -p a" "logits $TINY --ids 1 -o x.npy" "perplexity $TINY -p a" "info $TINY"; do
    t $command --dtype int4
done
t run -p a --dtype=bf1
t tokenize "$MODEL" -p a --dtype fp32
t run "$MODEL" -p a --stop ''
t run "$MODEL" -p a --logit-bias 5
t run "$MODEL" -p a --logit-bias =1
t run "$MODEL" -p a --logit-bias 5=
t run "$MODEL" -p a --logit-bias 5=inf
t run "$MODEL" -p a --logit-bias 5,x=1
ls -A
