# Directories that are not a model that tern runs.
mkdir empty pickle other
t run empty -p a
echo x >pickle/pytorch_model.bin
cp "$TINY/config.json" pickle
t run pickle -p a
t logits pickle --ids 1 -o x.npy
sed 's/GPT2LMHeadModel/TimeMachineLMHeadModel/; s/"gpt2"/"time-machine"/' "$TINY/config.json" >other/config.json
cp "$TINY/model.safetensors" other
t run other -p a
t info other
t info other --json
t run no-such-org/no-such-model -p a
t run ./nowhere -p a
t run "$TINY" -p a
mkdir damaged
cp "$TINY/config.json" damaged
head -c 1000 "$TINY/model.safetensors" >damaged/model.safetensors
t info damaged
# A dtype that weights are not read in; a name that would clear the screen.
mkdir integers escapes
cp "$TINY/config.json" integers
LC_ALL=C sed 's/"F32"/"I32"/g' "$TINY/model.safetensors" >integers/model.safetensors
t info integers
sed 's/GPT2LMHeadModel/\\u001b[2J\\u009b2J\\n/' "$TINY/config.json" >escapes/config.json
t info escapes
TERN_CPU=abacus t info
TERN_MODELS=elsewhere t run --quiet -p a -n 0
ls -A
