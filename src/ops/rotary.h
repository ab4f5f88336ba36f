/* rotary.h: frequencies of the rotary embedding. */
#ifndef TERN_OPS_ROTARY_H
#define TERN_OPS_ROTARY_H

#include <stdint.h>

#define TERN_ROTARY_MAX 256 /* pairs of a head of 512 */

/* frequency[p] = theta^(-2p / rot) for p < rot/2 <= TERN_ROTARY_MAX, in radians a position. */
void tern_rotary_frequencies(double *frequency, int32_t rot, float theta);

#endif
