/* See look.h. */
#include "look.h"

#include "blur.h"
#include "color.h"

/* Pixels that go through all operations together, so that they stay in the nearest cache. */
#define CHUNK 1024

/* The jitter's operations and grey, as the steps of one image. */
typedef struct {
    int32_t operation; /* enum Operation, or GRAY */
    float strength;
} Step;
enum { GRAY = OPERATIONS, MOST_STEPS = OPERATIONS + 2 };

static int32_t steps_of(Step *steps, int32_t channels, const View *view, const Looks *looks,
                        int64_t number) {
    int32_t count = 0;
    int grays = view->gray && looks->gray[number] && channels == 3;
    if (grays && view->gray == 2) steps[count++] = (Step){GRAY, 0};
    for (int turn = 0; turn < OPERATIONS && looks->jitter[number]; turn++) {
        int32_t operation = (int32_t)looks->order[number * OPERATIONS + turn];
        int needs_color = operation == SATURATION || operation == HUE;
        if (view->has_effect[operation] && (channels == 3 || !needs_color))
            steps[count++] = (Step){operation, looks->strength[operation][number]};
    }
    if (grays && view->gray == 1) steps[count++] = (Step){GRAY, 0};
    return count;
}

/* Pixels `from` to `from + count` of every plane through one step. */
ALWAYS_INLINE void take_step(float *x, int64_t plane, int32_t channels, int32_t from,
                             int32_t count, const View *view, Step step, const float *mean) {
    float *r = x + from, *g = r + plane, *b = g + plane;
    switch (step.operation) {
    case BRIGHTNESS:
        for (int32_t c = 0; c < channels; c++)
            if (view->add_brightness)
                add_brightness(r + c * plane, count, step.strength);
            else
                scale_brightness(r + c * plane, count, step.strength);
        break;
    case CONTRAST:
        for (int32_t c = 0; c < channels; c++)
            contrast(r + c * plane, count, step.strength, mean[view->tensorflow ? c : 0]);
        break;
    case SATURATION:
        if (view->tensorflow)
            saturation_hsv(r, g, b, count, step.strength);
        else
            saturation_to_gray(r, g, b, count, step.strength);
        break;
    case HUE: hue(r, g, b, count, step.strength); break;
    case GRAY: gray(r, g, b, count); break;
    }
}

/* Adds to what will be the means of contrast: per channel, or of grey (the first). */
ALWAYS_INLINE void add_up(const float *x, int64_t plane, int32_t channels, int32_t from,
                          int32_t count, int per_channel, double *sums) {
    const float *r = x + from;
    if (!per_channel && channels == 3)
        sums[0] += sum_luma(r, r + plane, r + 2 * plane, count);
    else
        for (int32_t c = 0; c < channels; c++)
            sums[per_channel ? c : 0] += sum(r + c * plane, count);
}

/* All pixels through some steps, chunk by chunk; `sums` may be NULL. */
ALWAYS_INLINE void pass(float *x, int64_t plane, int32_t channels, const View *view,
                        const Step *steps, int32_t count, const float *mean, double *sums) {
    for (int32_t from = 0; from < plane; from += CHUNK) {
        int32_t pixels = plane - from < CHUNK ? (int32_t)plane - from : CHUNK;
        for (int32_t i = 0; i < count; i++)
            take_step(x, plane, channels, from, pixels, view, steps[i], mean);
        if (sums) add_up(x, plane, channels, from, pixels, view->tensorflow, sums);
    }
}

/* All steps. Contrast, which comes once at most, must have seen the whole image before. */
ALWAYS_INLINE void take_steps(float *x, int64_t plane, int32_t channels, const View *view,
                              const Step *steps, int32_t count) {
    float mean[channels];
    double sums[channels];
    for (int32_t c = 0; c < channels; c++) sums[c] = 0;
    int32_t before = 0;
    while (before < count && steps[before].operation != CONTRAST) before++;
    pass(x, plane, channels, view, steps, before, mean, before < count ? sums : NULL);
    if (before == count) return;
    int64_t pixels = view->tensorflow || channels == 3 ? plane : plane * channels;
    for (int32_t c = 0; c < channels; c++) mean[c] = (float)(sums[c] / (double)pixels);
    pass(x, plane, channels, view, steps + before, count - before, mean, NULL);
}

/* Stores a finished row: solarized, normalised, planar or interleaved. */
ALWAYS_INLINE void store_row(const float *row, int64_t plane, int32_t channels, const View *view,
                             int inverts, float *target, const Views *views) {
    int64_t step = views->pixel_stride;
    for (int32_t c = 0; c < channels; c++, row += plane, target += views->channel_stride) {
        float mean = view->mean[c], scale = 1 / view->std[c];
        if (inverts)
            for (int32_t i = 0; i < view->size; i++)
                target[i * step] = (solarize(row[i]) - mean) * scale;
        else if (step == 1)
            for (int32_t i = 0; i < view->size; i++) target[i] = (row[i] - mean) * scale;
        else
            for (int32_t i = 0; i < view->size; i++) target[i * step] = (row[i] - mean) * scale;
    }
}

size_t look_scratch(int32_t channels, const View *view) {
    return blur_scratch(channels, view->size, view->radius);
}

FOR_EACH_CPU
void apply_look(float *x, float *scratch, int32_t channels, const View *view, const Looks *looks,
                int64_t number, const Views *views) {
    int32_t size = view->size;
    int64_t plane = (int64_t)size * size;
    int inverts = view->solarize && looks->solarize[number];
    float *target = views->pixels + number * views->image_stride;
    Step steps[MOST_STEPS];
    take_steps(x, plane, channels, view, steps, steps_of(steps, channels, view, looks, number));
    if (view->blur && looks->blur[number]) {
        Blur blur = blur_open(scratch, channels, size, view->radius, view->blur == 2);
        blur_weights(&blur, looks->sigma[number]);
        for (int32_t y = 0; y < size; y++, target += views->row_stride) {
            blur_row(&blur, x, y);
            store_row(blur.row, blur.pitch, channels, view, inverts, target, views);
        }
    } else {
        for (int32_t y = 0; y < size; y++, target += views->row_stride)
            store_row(x + y * size, plane, channels, view, inverts, target, views);
    }
}
