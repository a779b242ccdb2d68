/* Crop, resize and flip with antialiasing: two passes of weighted sums, a row at a time.
 *
 * The mathematics is that of squint/views/resize.py. Weights of LANES neighbouring targets lie
 * beside each other for every source pixel that any of them sees, zeros included: a vector of
 * targets then costs one multiplication per source pixel, and nothing is gathered. */
#ifndef SQUINT_RESIZE_H
#define SQUINT_RESIZE_H

#include "squint.h"
#include "workspace.h"

/* Weights along one axis. */
typedef struct {
    int32_t size;       /* target pixels */
    int32_t low, high;  /* source pixels seen by any target: low <= pixel < high */
    int32_t *first;     /* per block of LANES targets: first source pixel, ... */
    int32_t *last;      /* ... the one after the last, ... */
    float **weights;    /* ... and weights, (last - first, LANES) */
    int32_t *near, *far; /* per target: the source pixels it may see itself */
    float *pool;        /* where the weights lie */
} Axis;

/* Both axes and the rows between the passes, for images of one size. */
typedef struct {
    Axis rows, columns;
    int64_t pitch; /* floats between rows */
    float *line;   /* one target row in source columns */
    float *ring;   /* `held` source rows as floats; row i lies at i % held */
    int32_t held;
    int32_t read; /* the next source row that is not in the ring */
} Resize;

size_t resize_bytes(const Images *images, int32_t size);
void resize_open(Resize *resize, Workspace *work, const Images *images, int32_t size);

/* Weights for one window; resize_row then gives the rows of the target, in ascending order. */
void resize_window(Resize *resize, const Images *image, const Window *window, int flip,
                   int bicubic);

/* Target row y of `pixels` (one image), as levels 0..255 times `scale`, in `channels` rows of
 * floats that lie `plane` apart, each with room for a multiple of LANES. Not cut off: bicubic
 * leaves the range a little. */
void resize_row(Resize *resize, const Images *images, const uint8_t *pixels, int32_t y,
                float scale, float *target, int64_t plane);

#endif
