/* golden_inputs.h: the numbers that goldens of operators are made of (docs/numerics.md), as tests/golden/make_ops.py has them.
 *
 * Number i of a tensor depends on the tensor's name and on i alone, and is the same float on every machine. */
#ifndef TERN_GOLDEN_INPUTS_H
#define TERN_GOLDEN_INPUTS_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a, 64 bits: the key of a name. */
static inline uint64_t golden_key(const char *name)
{
    uint64_t h = 0xCBF29CE484222325u;

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001B3u;
    return h;
}

/* Philox4x32-10 of the counter `block`. */
static inline void golden_philox(uint64_t key, uint64_t block, uint32_t out[4])
{
    uint32_t c[4] = { (uint32_t)block, (uint32_t)(block >> 32), 0, 0 };
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)c[0] * 0xD2511F53u, b = (uint64_t)c[2] * 0xCD9E8D57u;
        const uint32_t c1 = c[1], c3 = c[3];
        c[0] = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c[3] = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++)
        out[i] = c[i];
}

/* scale u + offset, u in [-1, 1) in steps of 2^-23: one number of each word. */
static inline void golden_uniform(float *to, size_t n, const char *name, float scale, float offset)
{
    const uint64_t key = golden_key(name);
    uint32_t word[4];

    for (size_t i = 0; i < n; i++) {
        if (i % 4 == 0)
            golden_philox(key, i / 4, word);
        const float x = (float)(word[i % 4] >> 8) * 0x1p-23f - 1.0f;
        const float scaled = x * scale;
        to[i] = scaled + offset;
    }
}

/* scale z + offset, z with mean 0, variance 1 and |z| < 3.5: the sum of the four halves of two words. */
static inline void golden_normal(float *to, size_t n, const char *name, float scale, float offset)
{
    const uint64_t key = golden_key(name);
    uint32_t word[4];

    for (size_t i = 0; i < n; i++) {
        if (i % 2 == 0)
            golden_philox(key, i / 2, word);
        const uint32_t a = word[i % 2 * 2], b = word[i % 2 * 2 + 1];
        const int32_t sum = (int32_t)((a & 0xFFFF) + (a >> 16) + (b & 0xFFFF) + (b >> 16)) - 131070;
        const float x = (float)sum * 2.642906e-05f;
        const float scaled = x * scale;
        to[i] = scaled + offset;
    }
}

#endif
