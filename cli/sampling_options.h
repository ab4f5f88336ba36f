/* sampling_options.h: how tokens are chosen and what ends an answer: the options of tern run and tern chat. */
#ifndef TERN_CLI_SAMPLING_OPTIONS_H
#define TERN_CLI_SAMPLING_OPTIONS_H

#include "cli.h"
#include "options.h"

#include <math.h>

struct sampling_settings {
    int64_t top_k;
    float temp, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    uint64_t seed;
    struct option_texts logit_bias, stop;
    bool ignore_eos;
    bool has_temp, has_top_k, has_top_p, has_min_p, has_repeat, has_presence, has_frequency, has_seed;
};

/* Rows of an options table; s: a struct sampling_settings *. */
#define OPTIONS_SAMPLING(s)                                                                                                 \
    { 0,                                                                                                                    \
      "temp",                                                                                                               \
      "T",                                                                                                                  \
      "temperature; 0 is greedy: the best token each time",                                                                 \
      OPTION_NUMBER,                                                                                                        \
      &(s)->temp,                                                                                                           \
      &(s)->has_temp,                                                                                                       \
      0,                                                                                                                    \
      INFINITY,                                                                                                             \
      false },                                                                                                              \
        { 0, "top-k",    "K",  "choose among the K best tokens; 0: among all", OPTION_INT, &(s)->top_k, &(s)->has_top_k,    \
          0, 2147483647, false },                                                                                           \
        { 0,                                                                                                                \
          "top-p",                                                                                                          \
          "P",                                                                                                              \
          "choose among the fewest tokens whose probability reaches P",                                                     \
          OPTION_NUMBER,                                                                                                    \
          &(s)->top_p,                                                                                                      \
          &(s)->has_top_p,                                                                                                  \
          0,                                                                                                                \
          1,                                                                                                                \
          false },                                                                                                          \
        { 0,                                                                                                                \
          "min-p",                                                                                                          \
          "P",                                                                                                              \
          "choose among tokens with at least P of the best one's probability",                                              \
          OPTION_NUMBER,                                                                                                    \
          &(s)->min_p,                                                                                                      \
          &(s)->has_min_p,                                                                                                  \
          0,                                                                                                                \
          1,                                                                                                                \
          false },                                                                                                          \
        { 0,                                                                                                                \
          "repeat-penalty",                                                                                                 \
          "R",                                                                                                              \
          "scores of tokens of prompt and answer are divided (if negative:\nmultiplied) by R; 1: off",                      \
          OPTION_NUMBER,                                                                                                    \
          &(s)->repeat_penalty,                                                                                             \
          &(s)->has_repeat,                                                                                                 \
          0,                                                                                                                \
          INFINITY,                                                                                                         \
          true },                                                                                                           \
        { 0,                                                                                                                \
          "presence-penalty",                                                                                               \
          "A",                                                                                                              \
          "subtracted from the score of a token that was generated before",                                                 \
          OPTION_NUMBER,                                                                                                    \
          &(s)->presence_penalty,                                                                                           \
          &(s)->has_presence,                                                                                               \
          -INFINITY,                                                                                                        \
          INFINITY,                                                                                                         \
          false },                                                                                                          \
        { 0,                                                                                                                \
          "frequency-penalty",                                                                                              \
          "A",                                                                                                              \
          "subtracted as often as the token was generated before",                                                          \
          OPTION_NUMBER,                                                                                                    \
          &(s)->frequency_penalty,                                                                                          \
          &(s)->has_frequency,                                                                                              \
          -INFINITY,                                                                                                        \
          INFINITY,                                                                                                         \
          false },                                                                                                          \
        { 0,                                                                                                                \
          "logit-bias",                                                                                                     \
          "ID=B",                                                                                                           \
          "B is added to the score of token ID; ID,ID=B: to the last of them where\nthe others come before "                \
          "it.  Can be given several times",                                                                                \
          OPTION_TEXTS,                                                                                                     \
          &(s)->logit_bias,                                                                                                 \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0,                                                                                                                \
          false },                                                                                                          \
        { 0,                                                                                                                \
          "stop",                                                                                                           \
          "TEXT",                                                                                                           \
          "ends the answer, and is not part of it.  Can be given several times",                                            \
          OPTION_TEXTS,                                                                                                     \
          &(s)->stop,                                                                                                       \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0,                                                                                                                \
          false },                                                                                                          \
        { 0, "ignore-eos", NULL, "end-of-text does not end the answer", OPTION_FLAG, &(s)->ignore_eos, NULL, 0, 0, false }, \
    {                                                                                                                       \
        0, "seed", "S", "of the random numbers; without it one is drawn and shown", OPTION_SEED, &(s)->seed,                \
            &(s)->has_seed, 0, 0, false                                                                                     \
    }

/* What tern_generate() gets: the model's defaults, options over them, a seed where one is needed, and max_tokens (-1: until the end).
 * *stop_ids and *biases are the caller's to free, with tern_ids_free() and sampling_free(), whatever is returned.
 * quiet: no note where an option changes nothing.  0 or the exit code. */
int sampling_prepare(const struct sampling_settings *s, tern_ctx *ctx, const tern_model *model, int64_t max_tokens,
                     bool quiet, tern_generate_options *o, tern_ids *stop_ids, tern_logit_bias **biases);
void sampling_free(struct sampling_settings *s, tern_logit_bias *biases);

#endif
