/* encoder.h: what tern_encode() does not give: states of every layer, and scores of the last tokens alone. */
#ifndef TERN_ENGINE_ENCODER_H
#define TERN_ENGINE_ENCODER_H

#include <tern/encode.h>

/* One text: answers of its last n_answers tokens (of a model with one answer for a text: 1), [n_answers, C], and states after the
 * embedding, each layer and the final norm, if any: hidden [L + 2][T][H], or NULL.  Errors as tern_encode(). */
tern_status tern_encode_layers(tern_encoder *encoder, const tern_encode_text *text, size_t n_answers, float *answers,
                               float *hidden);

#endif
