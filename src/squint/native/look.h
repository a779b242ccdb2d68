/* One image's look: everything after crop and flip, in the order squint/views/apply.py has it. */
#ifndef SQUINT_LOOK_H
#define SQUINT_LOOK_H

#include "squint.h"

enum Operation { BRIGHTNESS, CONTRAST, SATURATION, HUE, OPERATIONS }; /* numbers of Look.order */

/* What a recipe says about every image. */
typedef struct {
    int32_t size;           /* side of a view */
    int32_t bicubic;        /* else bilinear */
    int32_t add_brightness; /* else it is multiplied (only the byol form adds) */
    int32_t tensorflow;     /* contrast per channel and saturation in HSV; else torchvision's */
    int32_t has_effect[OPERATIONS];
    int32_t gray;    /* 0 never, 1 after the jitter, 2 before it */
    int32_t blur;    /* 0 never, 1 zero padding, 2 reflection */
    int32_t radius;  /* of the blur, in pixels */
    int32_t solarize;
    const float *mean, *std; /* one per channel */
} View;

/* What was drawn for each image: `Look` of squint/views/draw.py, arrays of one entry per image. */
typedef struct {
    const uint8_t *flip, *jitter;
    const float *strength[OPERATIONS];
    const int64_t *order; /* OPERATIONS per image */
    const uint8_t *gray, *blur;
    const float *sigma;
    const uint8_t *solarize;
} Looks;

/* Finished views; strides in floats. Planar, or interleaved (channels last). */
typedef struct {
    float *pixels;
    int64_t image_stride, channel_stride, row_stride, pixel_stride;
} Views;

/* Finishes image `number`: x holds its flipped crop, planes of size * size pixels in 0..1, and is
 * overwritten; `scratch` has room for look_scratch floats. */
void apply_look(float *x, float *scratch, int32_t channels, const View *view, const Looks *looks,
                int64_t number, const Views *views);
size_t look_scratch(int32_t channels, const View *view);

#endif
