/* golden_inputs.h: the numbers that goldens of operators are made of (docs/numerics.md), as tests/golden/ops_inputs.py has them.
 *
 * Number i of a tensor depends on the tensor's name and on i alone, and is the same on every machine. */
#ifndef TERN_GOLDEN_INPUTS_H
#define TERN_GOLDEN_INPUTS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* FNV-1a, 64 bits: the key of a name. */
static inline uint64_t golden_key(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

/* Philox4x32-10 of the counters first .. first + 15.  Side by side, so that a compiler makes vectors of them. */
#define GOLDEN_BLOCKS 16
static inline void golden_philox(uint64_t key, uint64_t first, uint32_t out[GOLDEN_BLOCKS][4])
{
    uint32_t c0[GOLDEN_BLOCKS], c1[GOLDEN_BLOCKS], c2[GOLDEN_BLOCKS], c3[GOLDEN_BLOCKS];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    for (int i = 0; i < GOLDEN_BLOCKS; i++) {
        c0[i] = (uint32_t)(first + (uint64_t)i);
        c1[i] = (uint32_t)((first + (uint64_t)i) >> 32);
        c2[i] = c3[i] = 0;
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < GOLDEN_BLOCKS; i++) {
            const uint64_t a = (uint64_t)c0[i] * 0xD2511F53u, b = (uint64_t)c2[i] * 0xCD9E8D57u;
            c0[i] = (uint32_t)(b >> 32) ^ c1[i] ^ k0;
            c1[i] = (uint32_t)b;
            c2[i] = (uint32_t)(a >> 32) ^ c3[i] ^ k1;
            c3[i] = (uint32_t)a;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < GOLDEN_BLOCKS; i++) {
        out[i][0] = c0[i];
        out[i][1] = c1[i];
        out[i][2] = c2[i];
        out[i][3] = c3[i];
    }
}

/* A name's words one after the other. */
struct golden_stream {
    uint64_t key, next;
    uint32_t word[GOLDEN_BLOCKS][4];
};

static inline struct golden_stream golden_stream(const char *name)
{
    return (struct golden_stream){ .key = golden_key(name) };
}

static inline uint32_t golden_word(struct golden_stream *s)
{
    const uint64_t at = s->next++ % (GOLDEN_BLOCKS * 4);

    if (at == 0)
        golden_philox(s->key, (s->next - 1) / 4, s->word);
    return s->word[at / 4][at % 4];
}

/* scale u + offset, u in [-1, 1) in steps of 2^-23: one number of each word. */
static inline float golden_next_uniform(struct golden_stream *s, float scale, float offset)
{
    const float x = (float)(golden_word(s) >> 8) * 0x1p-23f - 1.0f;
    const float scaled = x * scale;

    return scaled + offset;
}

/* scale z + offset, z with mean 0, variance 1 and |z| < 3.5: the sum of the four halves of two words. */
static inline float golden_next_normal(struct golden_stream *s, float scale, float offset)
{
    const uint32_t a = golden_word(s), b = golden_word(s);
    const int32_t sum = (int32_t)((a & 0xFFFF) + (a >> 16) + (b & 0xFFFF) + (b >> 16)) - 131070;
    const float x = (float)sum * 2.642906e-05f;
    const float scaled = x * scale;

    return scaled + offset;
}

static inline void golden_uniform(float *to, size_t n, const char *name, float scale, float offset)
{
    struct golden_stream s = golden_stream(name);

    for (size_t i = 0; i < n; i++)
        to[i] = golden_next_uniform(&s, scale, offset);
}

static inline void golden_normal(float *to, size_t n, const char *name, float scale, float offset)
{
    struct golden_stream s = golden_stream(name);

    for (size_t i = 0; i < n; i++)
        to[i] = golden_next_normal(&s, scale, offset);
}

/* ---- storage, without a look at the library's conversions ---- */

/* To nearest even; the numbers here are finite. */
static inline uint16_t golden_bf16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t golden_fp16(float x)
{
    const float a = fabsf(x);
    uint32_t bits, half;

    if (a < 0x1p-14f) { /* subnormal: a whole number of 2^-24 */
        half = (uint32_t)rintf(a * 0x1p24f);
    } else {
        memcpy(&bits, &a, sizeof bits);
        half = (bits + 0xFFF + (bits >> 13 & 1)) >> 13;
        half = half - (112 << 10) < 0x7C00 ? half - (112 << 10) : 0x7C00;
    }
    return (uint16_t)(half | (signbit(x) ? 0x8000 : 0));
}

static inline double golden_from_bf16(uint16_t h)
{
    const uint32_t bits = (uint32_t)h << 16;
    float x;

    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static inline double golden_from_fp16(uint16_t h)
{
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double a = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                                    : ldexp(exponent ? 1024 + fraction : fraction, exponent ? exponent - 25 : -24);

    return h & 0x8000 ? -a : a;
}

#endif
