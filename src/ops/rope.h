/* rope.h: the rotary embedding of a model: which pairs turn, and how fast.
 *
 * The formulas are those of transformers 5.23, modeling_rope_utils.py; what it computes in float32 is rounded to f32 here. */
#ifndef TERN_OPS_ROPE_H
#define TERN_OPS_ROPE_H

#include "kernels/kernels.h"
#include "ops/rotary.h"

#include <stdbool.h>

/* How a model's frequencies follow from theta: transformers' rope types. */
enum tern_rope_type {
    TERN_ROPE_DEFAULT, /* theta^(-2p / dim) */
    TERN_ROPE_LINEAR,  /* divided by factor */
    TERN_ROPE_DYNAMIC, /* theta grows with a sequence that is planned for more positions than `original` */
    TERN_ROPE_LLAMA3,  /* long waves divided by factor, short ones not, between them a ramp */
    TERN_ROPE_YARN,    /* the same with a ramp over pairs */
    TERN_ROPE_LONGROPE /* divided by a list: short_factor, or long_factor for a sequence planned beyond `original` */
};

/* The rotary embedding of a model.  Everything up to the tables is given; tern_rope_prepare() fills these. */
struct tern_rope {
    enum tern_rope_type type;
    int32_t dim; /* channels of a head that turn, even, up to 2 TERN_ROTARY_MAX; 0: none */
    bool neighbours;
    double theta, factor;
    double original;                                                   /* positions that the model was trained with */
    double low_freq_factor, high_freq_factor;                          /* LLAMA3 */
    double beta_fast, beta_slow;                                       /* YARN */
    bool truncate;                                                     /* YARN: the ramp's ends are whole pairs */
    float attention_factor;                                            /* what cosines and sines are multiplied by; 1 */
    float short_factor[TERN_ROTARY_MAX], long_factor[TERN_ROTARY_MAX]; /* LONGROPE */

    double frequency[TERN_ROTARY_MAX]; /* of sequences within `original` */
    double longer[TERN_ROTARY_MAX];    /* LONGROPE: of those beyond */
};
void tern_rope_prepare(struct tern_rope *rope);

/* The frequencies of a sequence that is planned for `length` positions, rounded to f32 as the reference has them. */
const double *tern_rope_frequencies(const struct tern_rope *rope, int64_t length, double *scratch);
/* The kernel rotary_angles with the angle rounded to f32 before its cosine is taken, and attention_factor. */
void tern_rope_angles(const struct tern_kernels *kernels, const struct tern_rope *rope, float *cosine, float *sine,
                      const double *frequency, int64_t position);

#endif
