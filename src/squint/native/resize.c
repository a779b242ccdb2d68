/* See resize.h. */
#include "resize.h"

#include <math.h>
#include <string.h>

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }

/* One channel is both. */
static int is_interleaved(const Images *images) {
    return images->pixel_stride == images->channels;
}

static float support(int bicubic) { return bicubic ? 2.0f : 1.0f; }

/* Most source pixels that a block of targets may see: no window is longer than the side. */
static int32_t block_reach(int32_t side, int32_t size) {
    double scale = (double)side / size;
    double reach = LANES * scale + 2 * support(1) * fmax(scale, 1) + 3;
    return reach < side ? (int32_t)reach : side;
}

static size_t pool_bytes(int32_t side, int32_t size) {
    return sizeof(float) * LANES * blocks_of(size) * block_reach(side, size);
}

static size_t axis_bytes(int32_t side, int32_t size) {
    int32_t blocks = blocks_of(size);
    return 2 * aligned(blocks * sizeof(int32_t)) + aligned(blocks * sizeof(float *)) +
           2 * aligned((size_t)size * sizeof(int32_t)) + aligned(pool_bytes(side, size));
}

/* Most source rows that one target row sees. */
static int32_t most_held(int32_t side, int32_t size) {
    double held = 2 * support(1) * fmax((double)side / size, 1) + 3;
    return held < side ? (int32_t)held : side;
}

/* Floats of a row of all channels, and what vectors read or write past its end. */
static int64_t line_pitch(const Images *images) {
    return (int64_t)tiles_of(images->width * images->channels) * TILE_WIDTH + LANES;
}

size_t resize_bytes(const Images *images, int32_t size) {
    size_t lines = 1 + (size_t)most_held(images->height, size);
    return axis_bytes(images->height, size) + axis_bytes(images->width, size) +
           aligned(lines * sizeof(float) * (size_t)line_pitch(images));
}

static void axis_open(Axis *axis, Workspace *work, int32_t side, int32_t size) {
    int32_t blocks = blocks_of(size);
    axis->size = size;
    axis->first = take(work, blocks * sizeof(int32_t));
    axis->last = take(work, blocks * sizeof(int32_t));
    axis->weights = take(work, blocks * sizeof(float *));
    axis->near = take(work, (size_t)size * sizeof(int32_t));
    axis->far = take(work, (size_t)size * sizeof(int32_t));
    axis->pool = take(work, pool_bytes(side, size));
}

void resize_open(Resize *resize, Workspace *work, const Images *images, int32_t size) {
    axis_open(&resize->rows, work, images->height, size);
    axis_open(&resize->columns, work, images->width, size);
    resize->held = most_held(images->height, size);
    resize->pitch = line_pitch(images);
    resize->line = take(work, sizeof(float) * (size_t)((1 + resize->held) * resize->pitch));
    resize->ring = resize->line + resize->pitch;
}

/* Centres of a block of targets, counted from the start of the window. A function of its own:
 * fused with what follows, the product would not be rounded, unlike the reference's. */
__attribute__((noinline)) static void centres(float *centre, int32_t block, int32_t size,
                                              float scale, int flip) {
    for (int lane = 0; lane < LANES; lane++) {
        float target = (float)(block * LANES + lane) + 0.5f;
        centre[lane] = (flip ? (float)size - target : target) * scale;
    }
}

/* Height of the filter at distance x >= 0 (bicubic: Keys 1981, a = -0.5). */
ALWAYS_INLINE float filter(float x, int bicubic) {
    if (!bicubic) return 1 - (x < 1 ? x : 1);
    float near = (1.5f * x - 2.5f) * x * x + 1;
    float far = ((2.5f - 0.5f * x) * x - 4) * x + 2;
    return x < 1 ? near : x < 2 ? far : 0;
}

/* Source pixels whose centre is in the window; the one it lies in if there is none. */
ALWAYS_INLINE void find_inside(Axis *axis, double start, double length, int32_t side) {
    int32_t low = (int32_t)floor(start - 0.5) + 1, high = (int32_t)ceil(start + length - 0.5);
    if (high <= low) low = (int32_t)floor(start + length / 2);
    axis->low = least(most(low, 0), side - 1);
    axis->high = least(most(high, axis->low + 1), side);
}

/* Which source pixels the targets of a block see: all whose weight is not 0, rarely one more. */
ALWAYS_INLINE void reach_block(Axis *axis, int32_t block, const float *centre, double start,
                               float reach) {
    int32_t count = least(LANES, axis->size - block * LANES);
    int32_t first = axis->high, last = axis->low;
    for (int lane = 0; lane < count; lane++) {
        double middle = start + centre[lane];
        int32_t near = (int32_t)floor(middle - reach - 0.5) + 1;
        int32_t far = (int32_t)ceil(middle + reach - 0.5);
        near = least(most(near, axis->low), axis->high - 1);
        far = least(most(far, near + 1), axis->high);
        axis->near[block * LANES + lane] = near;
        axis->far[block * LANES + lane] = far;
        first = least(first, near);
        last = most(last, far);
    }
    axis->first[block] = first;
    axis->last[block] = last;
}

/* Weights of a block of targets; each target's sum to 1. */
ALWAYS_INLINE void weigh_block(float *weights, int32_t first, int32_t last, const float *centre,
                               float start, float widening, int bicubic) {
    float sum[LANES] = {0};
    for (int32_t source = first; source < last; source++) {
        float *row = weights + (int64_t)(source - first) * LANES;
        float place = (float)source + 0.5f - start;
#pragma omp simd
        for (int lane = 0; lane < LANES; lane++) {
            row[lane] = filter(fabsf(place - centre[lane]) / widening, bicubic);
            sum[lane] += row[lane];
        }
    }
    for (int lane = 0; lane < LANES; lane++) sum[lane] = sum[lane] != 0 ? 1 / sum[lane] : 0;
    for (int32_t source = 0; source < last - first; source++)
        for (int lane = 0; lane < LANES; lane++) weights[source * LANES + lane] *= sum[lane];
}

FOR_EACH_CPU
static void resize_weights(Axis *axis, double start, double length, int32_t side, int flip,
                           int bicubic) {
    float scale = (float)length / (float)axis->size; /* source pixels per target pixel */
    float widening = fmaxf(scale, 1);
    float centre[LANES];
    float *weights = axis->pool;
    find_inside(axis, start, length, side);
    for (int32_t block = 0; block < blocks_of(axis->size); block++) {
        centres(centre, block, axis->size, scale, flip);
        reach_block(axis, block, centre, start, support(bicubic) * widening);
        int32_t first = axis->first[block], last = axis->last[block];
        if (bicubic)
            weigh_block(weights, first, last, centre, (float)start, widening, 1);
        else
            weigh_block(weights, first, last, centre, (float)start, widening, 0);
        axis->weights[block] = weights;
        weights += (int64_t)(last - first) * LANES;
    }
}

void resize_window(Resize *resize, const Images *image, const Window *window, int flip,
                   int bicubic) {
    resize_weights(&resize->rows, window->top, window->height, image->height, 0, bicubic);
    resize_weights(&resize->columns, window->left, window->width, image->width, flip, bicubic);
    resize->read = resize->rows.low;
}

/* One source row of the window as floats, channels interleaved or one after the other. */
ALWAYS_INLINE void read_row(const Images *images, const uint8_t *restrict row, int32_t run,
                            float *restrict target) {
    int32_t channels = images->channels;
    if (is_interleaved(images)) {
        for (int32_t i = 0; i < run * channels; i++) target[i] = (float)row[i];
        return;
    }
    for (int32_t c = 0; c < channels; c++, row += images->channel_stride, target += run)
        for (int32_t i = 0; i < run; i++) target[i] = (float)row[i];
}

/* Reads what target row y sees and earlier rows did not; a ring holds as many as any row sees. */
ALWAYS_INLINE void read_rows(Resize *resize, const Images *images, const uint8_t *pixels,
                             int32_t y) {
    int32_t low = resize->columns.low, run = resize->columns.high - low;
    const uint8_t *window = pixels + low * images->pixel_stride;
    for (; resize->read < resize->rows.far[y]; resize->read++)
        read_row(images, window + resize->read * images->row_stride, run,
                 resize->ring + (resize->read % resize->held) * resize->pitch);
}

/* Weighted sum of the rows that target row y sees, into the line; vectors run past its end. */
ALWAYS_INLINE void sum_rows(const Resize *resize, int32_t y, int32_t length, float scale) {
    const Axis *rows = &resize->rows;
    int32_t near = rows->near[y], count = rows->far[y] - near, block = y / LANES;
    const float *weights = rows->weights[block] + (near - rows->first[block]) * LANES + y % LANES;
    const float *start = resize->ring + (near % resize->held) * resize->pitch;
    const float *end = resize->ring + resize->held * resize->pitch;
    for (int32_t i = 0; i < length; i += TILE_WIDTH) {
        const float *row = start;
        Lanes sums[TILE] = {{0}};
        for (int32_t k = 0; k < count; k++) {
            float weight = weights[k * LANES];
            for (int j = 0; j < TILE; j++) sums[j] += weight * load(row + i + j * LANES);
            row += resize->pitch;
            if (row == end) row = resize->ring;
        }
        for (int j = 0; j < TILE; j++) store(resize->line + i + j * LANES, sums[j] * scale);
    }
}

/* Weighted sums of a line's pixels: a row of targets, for `channels` interleaved `step` apart. */
ALWAYS_INLINE void sum_columns(const Axis *columns, const float *line, int64_t step,
                               int64_t plane_of_line, int32_t channels, float *target,
                               int64_t plane) {
    for (int32_t block = 0; block < blocks_of(columns->size); block++) {
        int32_t first = columns->first[block], count = columns->last[block] - first;
        for (int32_t c = 0; c < channels; c += 3) {
            int32_t together = least(channels - c, 3);
            const float *source = line + c * plane_of_line + (first - columns->low) * step;
            const float *weights = columns->weights[block];
            Lanes sums[3] = {{0}, {0}, {0}};
            for (int32_t i = 0; i < count; i++, weights += LANES, source += step) {
                Lanes weight = load(weights);
                sums[0] += weight * source[0];
                if (together > 1) sums[1] += weight * source[plane_of_line];
                if (together > 2) sums[2] += weight * source[2 * plane_of_line];
            }
            for (int32_t k = 0; k < together; k++)
                store(target + (c + k) * plane + block * LANES, sums[k]);
        }
    }
}

FOR_EACH_CPU
void resize_row(Resize *resize, const Images *images, const uint8_t *pixels, int32_t y,
                float scale, float *target, int64_t plane) {
    const Axis *columns = &resize->columns;
    int32_t channels = images->channels, run = columns->high - columns->low;
    read_rows(resize, images, pixels, y);
    sum_rows(resize, y, run * channels, scale);
    int64_t step = is_interleaved(images) ? channels : 1;
    int64_t plane_of_line = is_interleaved(images) ? 1 : run;
    if (channels == 3)
        sum_columns(columns, resize->line, step, plane_of_line, 3, target, plane);
    else
        sum_columns(columns, resize->line, step, plane_of_line, channels, target, plane);
}

/* Nearest whole grey level; a minimum and a maximum, written so that compilers see them. */
ALWAYS_INLINE uint8_t to_level(float x) {
    float above = x > 0 ? x : 0;
    return (uint8_t)(int32_t)((above < 255 ? above : 255) + 0.5f);
}

FOR_EACH_CPU
void to_levels(const float *restrict row, int32_t count, uint8_t *restrict target, int64_t stride) {
    if (stride == 1)
        for (int32_t i = 0; i < count; i++) target[i] = to_level(row[i]);
    else
        for (int32_t i = 0; i < count; i++) target[i * stride] = to_level(row[i]);
}

EXPORT int squint_crop_resize(const Images *image, const Window *window, int32_t flip,
                              int32_t size, int32_t bicubic, const Crop *target) {
    int64_t plane = blocks_of(size) * LANES;
    size_t row_bytes = sizeof(float) * plane * image->channels;
    Workspace work;
    Resize resize;
    if (!workspace_open(&work, resize_bytes(image, size) + aligned(row_bytes))) return NO_MEMORY;
    resize_open(&resize, &work, image, size);
    float *row = take(&work, row_bytes);
    resize_window(&resize, image, window, flip, bicubic);
    for (int32_t y = 0; y < size; y++) {
        resize_row(&resize, image, image->pixels, y, 1, row, plane);
        for (int32_t c = 0; c < image->channels; c++)
            to_levels(row + c * plane, size,
                      target->pixels + c * target->channel_stride + y * target->row_stride,
                      target->pixel_stride);
    }
    workspace_close(&work);
    return 0;
}
