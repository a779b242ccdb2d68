/* Hashed uniform numbers: `uniform` of squint/views/uniform.py, to the bit. */
#include "squint.h"

#define GAMMA 0x9E3779B97F4A7C15u

/* The finaliser of SplitMix64 (Steele, Lea & Flood 2014). */
ALWAYS_INLINE uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

EXPORT FOR_EACH_CPU void squint_uniform(int64_t key, const int64_t *index, int64_t n,
                                        int64_t first, int64_t count, double *restrict target) {
    for (int64_t i = 0; i < n; i++, target += count) {
        uint64_t image = mix(((uint64_t)index[i] + 1) * GAMMA + (uint64_t)key);
        for (int64_t j = 0; j < count; j++) {
            uint64_t bits = mix(image + (uint64_t)(first + j + 1) * GAMMA) >> 11;
            target[j] = (double)(int64_t)bits * 0x1p-53; /* 53 bits: exact, and never negative */
        }
    }
}
