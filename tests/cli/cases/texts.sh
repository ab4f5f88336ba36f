# Texts to vectors and labels: what is right, and what is wrong with it.
S=$SOURCE/tests/golden/sentences/mean
M=$SOURCE/tests/golden/models
t embed
t embed "$S" -p a --json --npy x.npy
t embed "$S" -p a --prompt nobody -q
t embed "$S" -f nowhere
printf 'one\r\ntwo\n\nthree' >lines
"$TERN" embed "$S" -f lines -q --npy all.npy
for text in one two '' three; do "$TERN" embed "$S" -p "$text" -q; done >alone
"$TERN" embed "$S" -f lines -q >together
cmp alone together && echo "the same alone and together"
printf 'fine\nb\377d\n' | t embed "$S" -q
t embed "$M/llama-tiny" -p a -q
t rerank "$M/bert-classify" -f lines
t rerank "$M/bert-classify" -p a -f lines
cp -r "$M/bert-classify" classify
cp "$S/tokenizer.json" classify
t rerank classify -p a -f lines -q
t classify "$S" -p a -q
"$TERN" classify classify -f lines -q --json | wc -l
printf 'x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x\n' >long
t classify classify -f long -q
"$TERN" classify classify -f long -q --cut | wc -l
ls -A
