/* encoder.h: what tern_encode() does not give: states of every layer, and scores of the last tokens alone; and encoders that follow rank
 * 0's. */
#ifndef TERN_ENGINE_ENCODER_H
#define TERN_ENGINE_ENCODER_H

#include "comm/message.h"

#include <tern/encode.h>

/* One text: answers of its last n_answers tokens (of a model with one answer for a text: 1), [n_answers, C], and states after the
 * embedding, each layer and the final norm, if any: hidden [L + 2][T][H], or NULL.  Errors as tern_encode(). */
tern_status tern_encode_layers(tern_encoder *encoder, const tern_encode_text *text, size_t n_answers, float *answers,
                               float *hidden);

/* An encoder of this rank's part of a model, which nobody is told of; see tern_encoder_create().  `keeps`: what it computes stays in it. */
tern_status tern_encoder_make(tern_ctx *ctx, const tern_model *model, const tern_encoder_options *options, bool keeps,
                              tern_encoder **out);
/* The pass that a TERN_SAY_ENCODE says; ids and types are as rank 0 has checked them.  !*understood: the message fits no pass, and nothing
 * was done.  States [n_ids, H] and answers [n_answers, C] are the encoder's, until its next pass; NULL where it does not keep them. */
tern_status tern_encoder_follow(tern_encoder *encoder, struct tern_message *message, bool *understood,
                                const float **states, const float **answers);

#endif
