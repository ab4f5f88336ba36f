# Every command tells what it takes.
t --help
for command in run chat template tokenize detokenize logits perplexity bench tune info; do
    t $command --help
done
"$TERN" help run | cmp - <("$TERN" run -h) && echo "help run is run -h"
