/* What the kernels share. Plain C11 and the standard library: no Python.h, no threads, no state.
 *
 * The Python package loads the library with ctypes, which gives the interpreter's lock away
 * during a call; threads are the caller's, one range of a batch each. Functions that can fail
 * return 0, or a negative Error. Names are those of squint/views and squint/ops. */
#ifndef SQUINT_H
#define SQUINT_H

#include <stddef.h>
#include <stdint.h>

/* Of all functions and structures that Python knows; native/__init__.py has the same number. */
#define INTERFACE 6

#define EXPORT __attribute__((visibility("default")))
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* One object file serves every x86-64: the loader takes the clone that suits the processor.
 * Helpers are inlined into the clones, which is why they are static and in headers. */
#if !defined(__x86_64__) || !defined(__GLIBC__) || !defined(__GNUC__) || defined(__clang__)
#define FOR_EACH_CPU
#elif __GNUC__ >= 12
#define FOR_EACH_CPU \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else /* knows no levels */
#define FOR_EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#endif

enum Error { NO_MEMORY = -1 };

/* Floats that are worked on together: one register of AVX2, two of SSE or NEON. Sixteen would suit
 * AVX-512 a tenth better, but gcc splits them for AVX2 so badly that it takes six times as long. */
#define LANES 8
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

ALWAYS_INLINE Lanes load(const float *x) { return *(const Lanes *)x; }
ALWAYS_INLINE void store(float *x, Lanes lanes) { *(Lanes *)x = lanes; }
ALWAYS_INLINE int32_t blocks_of(int32_t size) { return (size + LANES - 1) / LANES; }

/* Vectors that are summed side by side, because each sum waits for its last addition. */
#define TILE 4
#define TILE_WIDTH (TILE * LANES)
ALWAYS_INLINE int32_t tiles_of(int32_t size) { return (size + TILE_WIDTH - 1) / TILE_WIDTH; }

/* 8-bit pixels anywhere in memory; strides are in bytes. Either planar (pixel_stride 1) or
 * interleaved (channel_stride 1, pixel_stride = channels). */
typedef struct {
    const uint8_t *pixels;
    int64_t image_stride, channel_stride, row_stride, pixel_stride;
    int32_t channels, height, width;
} Images;

/* Part of an image, in its pixels; fractions where a JPEG was decoded at a reduced scale. */
typedef struct {
    double top, left, height, width;
} Window;

/* Where uint8 results go; strides in bytes, any. */
typedef struct {
    uint8_t *pixels;
    int64_t channel_stride, row_stride, pixel_stride;
} Crop;

/* INTERFACE of the sources the library was built from. */
EXPORT int32_t squint_interface(void);

/* Asks for pages of 2 MiB under fresh memory, before anything is written to it. A hint: what
 * comes of it, or not, changes no number. */
EXPORT void squint_ask_for_large_pages(void *start, int64_t bytes);

/* Cuts `window` out of the first of `image` and resizes it to size x size with antialiasing,
 * bilinear (0) or bicubic (1), rounded to whole grey levels and cut off at 0 and 255.
 * Source pixels outside the window are never read, except one where it holds the centre
 * of none. */
EXPORT int squint_crop_resize(const Images *image, const Window *window, int32_t flip,
                              int32_t size, int32_t bicubic, const Crop *target);

/* Draws first <= draw < first + count of images `index`, (n, count), each in [0, 1), from the stream
 * `key`: squint/views/uniform.py. */
EXPORT void squint_uniform(int64_t key, const int64_t *index, int64_t n, int64_t first,
                           int64_t count, double *target);

/* Where a draw's random numbers come from: `Noise` of squint/ops/vmf_variates.py. */
typedef struct {
    int64_t key, first; /* of the generator; number of row 0 in the draw */
} Noise;

/* What follows works on rows begin <= row < end of arrays that hold every row, one after another.
 *
 * Angle to the mean of each row, for concentrations `kappa_step` apart (0: one for all): its
 * cosine, 1 - cosine without cancellation, and sine. */
EXPORT int squint_vmf_angles(const Noise *noise, const double *kappa, int64_t kappa_step,
                             int64_t dim, double *gap, float *cosine, float *sine, int64_t begin,
                             int64_t end);

/* Unit rows z at the given angles to unit rows mu, in uniform directions away from them. */
EXPORT int squint_vmf_place(const Noise *noise, const float *mu, int64_t dim, const float *cosine,
                            const float *sine, float *z, int64_t begin, int64_t end);

/* Gradient in mu of what has gradient `grad` in the rows z that squint_vmf_place made. */
EXPORT int squint_vmf_mean_gradient(const float *mu, const float *z, const float *grad,
                                    int64_t dim, float *result, int64_t begin, int64_t end);

/* A block of anchors of a contrastive loss and all keys, as squint/ops/contrast_native.py lays them
 * out: `rows` anchors, a multiple of 8, already scaled, so that inner products are logits in bits;
 * `keys` and `width` multiples of 32, of which `candidates` keys are there. Column own[i] + r is
 * struck out of row r. Null by_anchors: only sums are wanted. */
typedef struct {
    const float *anchors; /* (rows, width) */
    const float *across;  /* keys, (keys / 32, width, 32) */
    const float *along;   /* keys, (width / 32, keys, 32) */
    const float *pulls;   /* anchors over their sums, (width / 32, rows, 32) */
    float *weights;       /* (keys / 256 rounded up, rows, 272): exp2 of the logits */
    float *top, *total;   /* (rows,): largest logit, sum of weights */
    float *by_anchors;    /* (rows, width): sum of weighted keys */
    float *by_keys;       /* (keys, width): sum of weighted pulls, added to what is there */
    int64_t rows, keys, width, candidates, own[2];
} Contrast;

/* Whether this processor has the registers that the next two functions are compiled for. */
EXPORT int32_t squint_contrast_fits(void);

/* Weights, top, total and by_anchors of rows 8 * first <= row < 8 * last. */
EXPORT int squint_contrast_anchors(const Contrast *block, int64_t first, int64_t last);

/* by_keys of keys 256 * first <= key < 256 * last. */
EXPORT int squint_contrast_keys(const Contrast *block, int64_t first, int64_t last);

#endif
