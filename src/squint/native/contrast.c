/* Contrastive losses: similarities of a block of anchors and all keys, made, summed and multiplied
 * with the keys 256 columns at a time, while they are in the cache. */
#include "squint.h"

#include <string.h>

#define ROWS 8    /* of a result that stays in registers, */
#define PANEL 32  /* and its columns: two registers of AVX-512 */
#define CHUNK 256 /* columns of weights that lie together */
#define STRIDE (CHUNK + 16) /* rows of a chunk 2^k bytes apart would share too few cache lines */
#define STRUCK (-1e30f)

#if defined(__x86_64__) && defined(__GNUC__)
#define FOR_AVX512 __attribute__((target("avx512f")))
#else
#define FOR_AVX512
#endif

typedef float Wide __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t WideInt __attribute__((vector_size(64), aligned(4), may_alias));

/* A macro, because gcc lowers a function of this, inlined or not, to sixteen masked moves. */
#define ALL(x) ((Wide)((x) - (Wide){0}))

/* c[r][v] += sum over k of a[r * row + k * step] b[k][v], for ROWS rows and PANEL columns of c;
 * a fresh c is written without being read. */
ALWAYS_INLINE void multiply(const float *a, int64_t row, int64_t step, const float *b,
                            int64_t depth, float *c, int64_t c_row, int fresh) {
    Wide sum[ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        sum[r][0] = fresh ? ALL(0) : *(const Wide *)(c + r * c_row);
        sum[r][1] = fresh ? ALL(0) : *(const Wide *)(c + r * c_row + 16);
    }
    for (int64_t k = 0; k < depth; k++, a += step, b += PANEL) {
        Wide left = *(const Wide *)b, right = *(const Wide *)(b + 16);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            Wide scalar = ALL(a[r * row]);
            sum[r][0] += scalar * left;
            sum[r][1] += scalar * right;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        *(Wide *)(c + r * c_row) = sum[r][0];
        *(Wide *)(c + r * c_row + 16) = sum[r][1];
    }
}

/* 2^x for x < 127, to a unit in the last place; 0 from -126 down. */
FOR_AVX512 ALWAYS_INLINE Wide exp2_of(Wide x) {
    Wide shifted = x + 12582912.f; /* 1.5 * 2^23: the whole part is in the last bits */
    Wide f = x - (shifted - 12582912.f);
    Wide p = ALL(1.54614447e-04f); /* 2^f on [-1/2, 1/2], interpolated at Chebyshev's points */
    p = p * f + 1.34004282e-03f;
    p = p * f + 9.61805668e-03f;
    p = p * f + 5.55032723e-02f;
    p = p * f + 2.40226509e-01f;
    p = p * f + 6.93147207e-01f;
    p = p * f + 1.f;
    return (Wide)(((WideInt)p + ((WideInt)shifted << 23)) & (x > -126.f));
}

/* Logits to weights, with their largest and their sum. */
FOR_AVX512 static void weigh(float *x, int64_t width, float *top, float *total) {
    Wide most = ALL(STRUCK), sum = ALL(0);
    for (int64_t j = 0; j < width; j += 16) {
        Wide bits = *(const Wide *)(x + j), weights = exp2_of(bits);
        WideInt more = bits > most;
        most = (Wide)(((WideInt)bits & more) | ((WideInt)most & ~more));
        sum += weights;
        *(Wide *)(x + j) = weights;
    }
    float part = 0;
    for (int i = 0; i < 16; i++) {
        if (most[i] > *top) *top = most[i];
        part += sum[i];
    }
    *total += part;
}

/* Strikes columns of one image out of a row of logits, and those beyond the last key. */
static void strike(const Contrast *block, int64_t r, int64_t start, int64_t width, float *logits) {
    for (int i = 0; i < 2; i++) {
        int64_t column = block->own[i] + r - start;
        if (0 <= column && column < width) logits[column] = STRUCK;
    }
    int64_t end = block->candidates - start;
    for (int64_t j = end < 0 ? 0 : end; j < width; j++) logits[j] = STRUCK;
}

static int64_t width_at(const Contrast *block, int64_t start) {
    return block->keys - start < CHUNK ? block->keys - start : CHUNK;
}

EXPORT FOR_AVX512 int squint_contrast_anchors(const Contrast *block, int64_t first, int64_t last) {
    int64_t begin = first * ROWS, end = last * ROWS, d = block->width;
    for (int64_t r = begin; r < end; r++) block->top[r] = STRUCK, block->total[r] = 0;
    if (block->by_anchors)
        memset(block->by_anchors + begin * d, 0, sizeof(float) * (size_t)((end - begin) * d));
    for (int64_t start = 0; start < block->keys; start += CHUNK) {
        int64_t width = width_at(block, start);
        float *weights = block->weights + start / CHUNK * block->rows * STRIDE;
        for (int64_t j = 0; j < width; j += PANEL)
            for (int64_t r = begin; r < end; r += ROWS)
                multiply(block->anchors + r * d, d, 1, block->across + (start + j) * d, d,
                         weights + r * STRIDE + j, STRIDE, 1);
        for (int64_t r = begin; r < end; r++) {
            strike(block, r, start, width, weights + r * STRIDE);
            weigh(weights + r * STRIDE, width, block->top + r, block->total + r);
        }
        for (int64_t v = 0; block->by_anchors && v < d; v += PANEL)
            for (int64_t r = begin; r < end; r += ROWS)
                multiply(weights + r * STRIDE, STRIDE, 1,
                         block->along + v * block->keys + start * PANEL, width,
                         block->by_anchors + r * d + v, d, 0);
    }
    return 0;
}

EXPORT FOR_AVX512 int squint_contrast_keys(const Contrast *block, int64_t first, int64_t last) {
    int64_t d = block->width;
    for (int64_t start = first * CHUNK; start < last * CHUNK; start += CHUNK) {
        const float *weights = block->weights + start / CHUNK * block->rows * STRIDE;
        for (int64_t v = 0; v < d; v += PANEL)
            for (int64_t j = 0; j < width_at(block, start); j += ROWS)
                multiply(weights + j, 1, STRIDE, block->pulls + v * block->rows, block->rows,
                         block->by_keys + (start + j) * d + v, d, 0);
    }
    return 0;
}

EXPORT int32_t squint_contrast_fits(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_supports("avx512f") != 0;
#else
    return 0;
#endif
}
