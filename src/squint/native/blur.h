/* Gaussian blur of one image, a row at a time: vertical sums into a line, horizontal sums of it.
 *
 * The mathematics is that of `blur` in squint/views/apply.py. Vectors run past the end of a row
 * into what follows and the surplus is ignored; every buffer has room for it. */
#ifndef SQUINT_BLUR_H
#define SQUINT_BLUR_H

#include <math.h>
#include <string.h>

#include "color.h"
#include "squint.h"

#define MOST_RADIUS 256
#define NEGLIGIBLE 1e-9f /* of a weight: three hundred of them are below float32's resolution */

typedef struct {
    int32_t channels, size, radius, reflects;
    int64_t pitch; /* floats between the channels of `row` */
    float *zeros;  /* stands for rows outside, unless they are reflected */
    float *line;   /* one row of one channel, blurred vertically, with `radius` pixels around */
    float *row;    /* the result: one row of every channel */
    float weights[MOST_RADIUS + 1]; /* at distance 0, 1, ... */
    int32_t reach; /* distance of the last weight that matters */
} Blur;

static inline int64_t blur_pitch(int32_t size) { return (int64_t)tiles_of(size) * TILE_WIDTH; }

static inline size_t blur_scratch(int32_t channels, int32_t size, int32_t radius) {
    return (size_t)((channels + 2) * blur_pitch(size) + 2 * radius);
}

ALWAYS_INLINE Blur blur_open(float *scratch, int32_t channels, int32_t size, int32_t radius,
                             int32_t reflects) {
    int64_t pitch = blur_pitch(size);
    Blur blur = {channels, size, radius, reflects, pitch};
    blur.row = scratch;
    blur.zeros = scratch + channels * pitch;
    blur.line = blur.zeros + pitch;
    memset(blur.zeros, 0, sizeof(float) * (size_t)pitch);
    return blur;
}

ALWAYS_INLINE void blur_weights(Blur *blur, float sigma) {
    float sum = 0;
    for (int32_t k = 0; k <= blur->radius; k++) {
        float z = (float)k / sigma;
        blur->weights[k] = expf(-0.5f * z * z);
        sum += blur->weights[k];
    }
    float total = 2 * sum - blur->weights[0];
    blur->reach = 0;
    for (int32_t k = 0; k <= blur->radius; k++) {
        blur->weights[k] /= total;
        if (blur->weights[k] > NEGLIGIBLE) blur->reach = k;
    }
}

/* Row y of a plane; beyond its edges a reflected one, or zeros. */
ALWAYS_INLINE const float *row_or_border(const Blur *blur, const float *plane, int32_t y) {
    int32_t last = blur->size - 1;
    if (y < 0 || y > last) {
        if (!blur->reflects) return blur->zeros;
        y = y < 0 ? -y : 2 * last - y;
    }
    return plane + (int64_t)y * blur->size;
}

/* Sums of a tile of pixels: a weight for the one in the middle, ... */
ALWAYS_INLINE void tile_start(Lanes *sums, float weight, const float *x) {
    for (int i = 0; i < TILE; i++) sums[i] = weight * load(x + i * LANES);
}

/* ... another for two that are equally far away on either side. */
ALWAYS_INLINE void tile_add(Lanes *sums, float weight, const float *x, const float *y) {
    for (int i = 0; i < TILE; i++) sums[i] += weight * (load(x + i * LANES) + load(y + i * LANES));
}

ALWAYS_INLINE void tile_store(float *x, const Lanes *sums) {
    for (int i = 0; i < TILE; i++) store(x + i * LANES, sums[i]);
}

/* line[x], for every x in the row: the weighted sum over the rows around y. */
ALWAYS_INLINE void blur_down(const Blur *blur, const float *plane, int32_t y, float *line) {
    const float *above[MOST_RADIUS + 1], *below[MOST_RADIUS + 1];
    for (int32_t k = 0; k <= blur->reach; k++) {
        above[k] = row_or_border(blur, plane, y - k);
        below[k] = row_or_border(blur, plane, y + k);
    }
    for (int32_t x = 0; x < blur->size; x += TILE_WIDTH) {
        Lanes sums[TILE];
        tile_start(sums, blur->weights[0], above[0] + x);
        for (int32_t k = 1; k <= blur->reach; k++)
            tile_add(sums, blur->weights[k], above[k] + x, below[k] + x);
        tile_store(line + x, sums);
    }
}

/* Fills the `reach` pixels on either side of a line. */
ALWAYS_INLINE void pad_line(const Blur *blur, float *line) {
    int32_t last = blur->size - 1;
    for (int32_t k = 1; k <= blur->reach; k++) {
        line[-k] = blur->reflects ? line[k] : 0;
        line[last + k] = blur->reflects ? line[last - k] : 0;
    }
}

ALWAYS_INLINE void blur_across(const Blur *blur, const float *line, float *row) {
    for (int32_t x = 0; x < blur->size; x += TILE_WIDTH) {
        Lanes sums[TILE];
        tile_start(sums, blur->weights[0], line + x);
        for (int32_t k = 1; k <= blur->reach; k++)
            tile_add(sums, blur->weights[k], line + x - k, line + x + k);
        tile_store(row + x, sums);
    }
    for (int32_t x = 0; x < blur->size; x++) row[x] = clip(row[x]);
}

/* Blurs row y of every channel of x into blur->row, cut off to 0..1. */
ALWAYS_INLINE void blur_row(const Blur *blur, const float *x, int32_t y) {
    float *line = blur->line + blur->radius;
    for (int32_t c = 0; c < blur->channels; c++) {
        blur_down(blur, x + (int64_t)c * blur->size * blur->size, y, line);
        pad_line(blur, line);
        blur_across(blur, line, blur->row + c * blur->pitch);
    }
}

#endif
