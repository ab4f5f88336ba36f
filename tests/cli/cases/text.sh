# Text to ids and back.
t tokenize "$MODEL" -p ""
t tokenize "$MODEL" -p "" --no-special
t tokenize "$MODEL" -p "" --json
t tokenize "$MODEL/tokenizer.json" -p ""
printf 'The \303\251t\303\251' >text
t tokenize "$MODEL" -f text --offsets
t tokenize "$MODEL" -p "a b" --pair " c" --offsets
t tokenize "$MODEL" -p "a b" --pair " c" --no-special
printf 'a\0b\r\n' >bytes
"$TERN" tokenize "$MODEL" -f bytes >ids.json
"$TERN" tokenize "$MODEL" <bytes | cmp - ids.json && echo "stdin and -f agree"
"$TERN" tokenize "$MODEL" -f - <bytes | cmp - ids.json && echo "-f - is stdin"
ids=$(sed 's/.*\[//; s/\].*//' ids.json)
"$TERN" detokenize "$MODEL" --ids "$ids" | cmp - bytes && echo "the bytes come back"
t detokenize "$MODEL" --ids "$ids" --json
t detokenize "$MODEL" --ids 0
t detokenize "$MODEL" --ids 0 --no-special
t detokenize "$MODEL" --ids ""
t detokenize "$MODEL" --ids 1000000
printf 'caf\303\251 \377' >invalid
t tokenize "$MODEL" -f invalid
t run "$MODEL" -f invalid
t tokenize "$MODEL" -f missing
t tokenize "$MODEL" -f .
t tokenize "$TINY" -p a
