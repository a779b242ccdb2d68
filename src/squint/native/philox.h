/* Random words by counter and what they become: uniforms, normals.
 *
 * Philox4x32-10 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": four words
 * are a function of a key and four counters, so any thread finds any of them without the ones
 * before. The mathematics is that of squint/ops/philox.py, and meant for loops that gcc turns
 * into vectors: counters are 64-bit with 32 that count, so that a product needs no shuffle. */
#ifndef PHILOX_H
#define PHILOX_H

#include <math.h>
#include <string.h>

#include "squint.h"

typedef struct {
    uint32_t radius[2], angle[2]; /* two pairs: their use here */
} Words;

ALWAYS_INLINE Words philox(int64_t key, uint64_t c0, uint64_t c1, uint64_t c2) {
    uint64_t c3 = 0;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)((uint64_t)key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = 0xD2511F53u * (uint64_t)(uint32_t)c0;
        uint64_t p1 = 0xCD9E8D57u * (uint64_t)(uint32_t)c2;
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (Words){{(uint32_t)c0, (uint32_t)c2}, {(uint32_t)c1, (uint32_t)c3}};
}

ALWAYS_INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

ALWAYS_INLINE float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* -log of a uniform with 31 bits, exact to float's last bits at both ends: where it is near 1,
 * from its distance to 1. The polynomial is a minimax fit to (log(1 + f) - f + f^2/2) / f^3 with
 * errors below 6e-9 f, for 1 + f within a factor of sqrt(2) of 1. */
ALWAYS_INLINE float exponential(uint32_t word) {
    int32_t up = (int32_t)(word >> 1), down = 0x7fffffff - up;
    uint32_t u = bits_of((float)up + 0.5f);                 /* 2^31 times the uniform */
    int32_t exponent = ((int32_t)u - 0x3f3504f3) >> 23;     /* of 2, nearest */
    float mantissa = of_bits(u - ((uint32_t)exponent << 23)); /* sqrt(1/2) .. sqrt(2) */
    float f = exponent == 31 ? -0x1p-31f * ((float)down + 0.5f) : mantissa - 1;
    float p = -0.0785961151f;
    p = p * f + 0.128816471f;
    p = p * f - 0.131287545f;
    p = p * f + 0.141811922f;
    p = p * f - 0.166245535f;
    p = p * f + 0.200022861f;
    p = p * f - 0.250008106f;
    p = p * f + 0.333333164f;
    return (float)(31 - exponent) * 0.693147181f - (f + f * f * (p * f - 0.5f));
}

/* Two independent standard normals (Box and Muller 1958). The angle is reduced to an eighth of a
 * turn in integers, so exactly; the polynomials are minimax fits to sine and cosine there. */
ALWAYS_INLINE void normals(uint32_t radius, uint32_t angle, float *x, float *y) {
    float r = sqrtf(2 * exponential(radius));
    uint32_t quadrant = angle + 0x20000000u; /* its two highest bits */
    float a = ((float)(int32_t)(angle - (quadrant & 0xC0000000u)) + 0.5f) * 1.46291808e-9f;
    float t = a * a;
    float sine = ((-0.000195172989f * t + 0.00833217815f) * t - 0.166666549f) * t * a + a;
    float cosine = ((2.44384514e-5f * t - 0.00138873675f) * t + 0.0416666469f) * t * t;
    cosine += 1 - 0.5f * t;
    uint32_t odd = quadrant & 0x40000000u, second = quadrant & 0x80000000u;
    *x = r * of_bits(bits_of(odd ? sine : cosine) ^ (second ^ (odd << 1)));
    *y = r * of_bits(bits_of(odd ? cosine : sine) ^ second);
}

ALWAYS_INLINE uint64_t bits_of_double(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

ALWAYS_INLINE double of_bits_double(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* An integer below 2^52 as a number: vectors have no such conversion before AVX-512. */
ALWAYS_INLINE double number(uint64_t integer) {
    return of_bits_double(integer | 0x4330000000000000u) - 0x1p52;
}

/* The middle of one of 2^32 equal parts of 0..1. */
ALWAYS_INLINE double uniform(uint32_t word) { return (number(word) + 0.5) * 0x1p-32; }

/* log(1 + x) to 1e-15 relative, by the series of 2 artanh(f / (2 + f)), f + 1 the mantissa. */
ALWAYS_INLINE double log_1p(double x) {
    const uint64_t half = 0x3fe6a09e667f3bcdu; /* of sqrt(1/2) */
    uint64_t shifted = bits_of_double(1 + x) - half + 0x3ff0000000000000u;
    uint64_t exponent = shifted >> 52;
    double mantissa = of_bits_double((shifted & 0xfffffffffffffu) + half);
    double f = exponent == 1023 ? x : mantissa - 1;
    double s = f / (2 + f), t = s * s, p = 1 / 21.0;
#pragma GCC unroll 9
    for (int term = 19; term >= 3; term -= 2) p = p * t + 1.0 / term;
    return (number(exponent) - 1023) * 0.69314718055994530942 + 2 * (s + s * t * p);
}

/* exp(x) - 1 to 1e-15 relative for -700 < x <= 0, by its series around a whole power of 2. */
ALWAYS_INLINE double exp_m1(double x) {
    const double whole = 0x1.8p52; /* adding it rounds to an integer, in the lowest bits */
    double shifted = x * 1.4426950408889634074 + whole, power = shifted - whole;
    double r = x - power * 0x1.62e42feep-1 - power * 0x1.a39ef35793c76p-33; /* ln 2, in two */
    double p = 1;
#pragma GCC unroll 12
    for (int term = 13; term >= 2; term--) p = p * r * (1.0 / term) + 1;
    double scale = of_bits_double((bits_of_double(shifted) << 52) + 0x3ff0000000000000u);
    return scale * (p * r) + (scale - 1);
}

/* Cosine of a whole turn's part, word / 2^32, as the sine of what is missing to a quarter. */
ALWAYS_INLINE double cosine_of_turn(uint32_t word) {
    double from_half = number(word) + 0.5 - 0x1p31; /* -2^31 .. 2^31; cosine of 1/2 is -1 */
    double x = (fabs(from_half) - 0x1p30) * 1.4629180792671596e-9, t = x * x, p = 1;
#pragma GCC unroll 10
    for (int term = 22; term >= 4; term -= 2) p = 1 - p * t * (1.0 / (term * (term + 1)));
    return x - x * t * p * (1.0 / 6);
}

#endif
