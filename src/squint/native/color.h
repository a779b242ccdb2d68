/* Colour operations on some pixels of one image, in 0..1, each cut off to 0..1 as the jitter
 * demands. Names and formulas are those of squint/views/color.py.
 *
 * The loops are simple so that compilers turn them into vectors; helpers are inlined into the
 * clones for each processor. r, g and b are rows of `count` pixels. */
#ifndef SQUINT_COLOR_H
#define SQUINT_COLOR_H

#include "squint.h"

#define TINY 1e-12f

/* written as comparisons, which compilers know as one instruction; fminf is a call */
ALWAYS_INLINE float smaller(float a, float b) { return a < b ? a : b; }
ALWAYS_INLINE float larger(float a, float b) { return a > b ? a : b; }
ALWAYS_INLINE float clip(float x) { return smaller(larger(x, 0), 1); }

/* Grey value (ITU-R 601 weights, rounded as torchvision and TensorFlow do). */
ALWAYS_INLINE float luma(float r, float g, float b) {
    return 0.2989f * r + 0.587f * g + 0.114f * b;
}

ALWAYS_INLINE void gray(float *restrict r, float *restrict g, float *restrict b, int32_t count) {
    for (int32_t i = 0; i < count; i++) r[i] = g[i] = b[i] = clip(luma(r[i], g[i], b[i]));
}

ALWAYS_INLINE void scale_brightness(float *x, int32_t count, float factor) {
    for (int32_t i = 0; i < count; i++) x[i] = clip(x[i] * factor);
}

ALWAYS_INLINE void add_brightness(float *x, int32_t count, float delta) {
    for (int32_t i = 0; i < count; i++) x[i] = clip(x[i] + delta);
}

/* Contrast about a mean, of the image's grey or of the channel. */
ALWAYS_INLINE void contrast(float *x, int32_t count, float factor, float mean) {
    for (int32_t i = 0; i < count; i++) x[i] = clip(mean + factor * (x[i] - mean));
}

ALWAYS_INLINE void saturation_to_gray(float *restrict r, float *restrict g, float *restrict b,
                                      int32_t count, float factor) {
    for (int32_t i = 0; i < count; i++) {
        float grey = luma(r[i], g[i], b[i]);
        r[i] = clip(grey + factor * (r[i] - grey));
        g[i] = clip(grey + factor * (g[i] - grey));
        b[i] = clip(grey + factor * (b[i] - grey));
    }
}

/* S of HSV times a factor: all distances to V grow alike, at most until the least is V itself. */
ALWAYS_INLINE void saturation_hsv(float *restrict r, float *restrict g, float *restrict b,
                                  int32_t count, float factor) {
    float wanted = larger(factor, 0);
    for (int32_t i = 0; i < count; i++) {
        float value = larger(larger(r[i], g[i]), b[i]);
        float chroma = value - smaller(smaller(r[i], g[i]), b[i]);
        float f = smaller(wanted, value / larger(chroma, TINY));
        r[i] = clip(value + f * (r[i] - value));
        g[i] = clip(value + f * (g[i] - value));
        b[i] = clip(value + f * (b[i] - value));
    }
}

/* A channel's distance below V, in chromas, where it is `start` turns into the circle: it rises,
 * stays and falls once around. The angle is positive, so cutting its decimals off is floor. */
ALWAYS_INLINE float below_value(float angle, float start) {
    float turns = angle + start;
    float sixths = (turns - (float)(int32_t)turns) * 6;
    float from_middle = sixths > 2 ? sixths - 2 : 2 - sixths;
    return clip(2 - from_middle);
}

ALWAYS_INLINE void hue(float *restrict r, float *restrict g, float *restrict b, int32_t count,
                       float turns) {
    /* red, green and blue start 5, 3 and 1 sixths into the circle; two turns more make every
     * angle positive */
    const float red = 5 / 6.0f + 2, green = 3 / 6.0f + 2, blue = 1 / 6.0f + 2;
    for (int32_t i = 0; i < count; i++) {
        float value = larger(larger(r[i], g[i]), b[i]);
        float chroma = value - smaller(smaller(r[i], g[i]), b[i]);
        float divisor = larger(chroma, TINY);
        int is_red = value == r[i], is_green = value == g[i];
        float across = is_red ? g[i] - b[i] : is_green ? b[i] - r[i] : r[i] - g[i];
        float sixths = across / divisor + (is_red ? 0.0f : is_green ? 2.0f : 4.0f);
        float angle = sixths * (1 / 6.0f) + turns;
        r[i] = clip(value - chroma * below_value(angle, red));
        g[i] = clip(value - chroma * below_value(angle, green));
        b[i] = clip(value - chroma * below_value(angle, blue));
    }
}

ALWAYS_INLINE float solarize(float x) { return x < 0.5f ? x : 1 - x; }

ALWAYS_INLINE double sum(const float *x, int32_t count) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int32_t i = 0; i < count; i++) total += x[i];
    return total;
}

ALWAYS_INLINE double sum_luma(const float *r, const float *g, const float *b, int32_t count) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int32_t i = 0; i < count; i++) total += luma(r[i], g[i], b[i]);
    return total;
}

#endif
