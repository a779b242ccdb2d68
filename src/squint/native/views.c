/* Whole views of a batch: the two entries of the library that finish images. */
#include "blur.h"
#include "color.h"
#include "look.h"
#include "resize.h"
#include "squint.h"

EXPORT int32_t squint_interface(void) { return INTERFACE; }

/* Boxes as drawn, in whole pixels: `Box` of squint/views/draw.py. */
typedef struct {
    const int64_t *top, *left, *height, *width;
} Boxes;

/* Scratch memory of one call. */
typedef struct {
    Workspace work;
    Resize resize;
    float *x;       /* one image, planar */
    float *scratch; /* of the look */
    float *row;     /* one resized row of every channel */
    int64_t pitch;  /* floats between the channels of `row` */
} Desk;

/* Every row may be read past its end by a tile of the blur, the last one too. */
static size_t pixels_bytes(const Images *images, const View *view) {
    return sizeof(float) * ((size_t)images->channels * view->size * view->size + TILE_WIDTH);
}

static int desk_open(Desk *desk, const Images *images, const View *view, int crops) {
    size_t scratch_bytes = sizeof(float) * look_scratch(images->channels, view);
    desk->pitch = (int64_t)blocks_of(view->size) * LANES;
    size_t row_bytes = sizeof(float) * (size_t)(images->channels * desk->pitch);
    size_t bytes = aligned(pixels_bytes(images, view)) + aligned(scratch_bytes);
    if (crops) bytes += aligned(row_bytes) + resize_bytes(images, view->size);
    if (!workspace_open(&desk->work, bytes)) return 0;
    desk->x = take(&desk->work, pixels_bytes(images, view));
    desk->scratch = take(&desk->work, scratch_bytes);
    if (crops) {
        desk->row = take(&desk->work, row_bytes);
        resize_open(&desk->resize, &desk->work, images, view->size);
    }
    return 1;
}

/* A resized row to its place in the planes, cut off to 0..1. */
FOR_EACH_CPU
void place_row(const float *row, int64_t pitch, int32_t channels, int32_t size, int32_t y,
               float *x) {
    for (int32_t c = 0; c < channels; c++) {
        const float *restrict source = row + c * pitch;
        float *restrict target = x + ((int64_t)c * size + y) * size;
        for (int32_t i = 0; i < size; i++) target[i] = clip(source[i]);
    }
}

/* Crop, resize and flip of one image into the desk's planes, in 0..1. */
static void crop_resize(Desk *desk, const Images *images, const Boxes *box, const View *view,
                        const Looks *looks, int64_t number) {
    Window window = {(double)box->top[number], (double)box->left[number],
                     (double)box->height[number], (double)box->width[number]};
    const uint8_t *pixels = images->pixels + number * images->image_stride;
    resize_window(&desk->resize, images, &window, looks->flip[number], view->bicubic);
    for (int32_t y = 0; y < view->size; y++) {
        resize_row(&desk->resize, images, pixels, y, 1 / 255.0f, desk->row, desk->pitch);
        place_row(desk->row, desk->pitch, images->channels, view->size, y, desk->x);
    }
}

/* A level as a share of 255, in the bits of the division, which takes ten times as long. The first
 * factor has so few digits that its product is exact. */
ALWAYS_INLINE float share(uint8_t level) {
    return (float)level * 0x1.01p-8f + (float)level * 0x1.010102p-24f;
}

/* A crop that has its size already into the desk's planes, in 0..1, flipped if asked. */
FOR_EACH_CPU
void read_crop(const Images *crops, int64_t number, int flip, float *restrict x) {
    int32_t width = crops->width;
    int64_t step = flip ? -crops->pixel_stride : crops->pixel_stride;
    for (int32_t c = 0; c < crops->channels; c++)
        for (int32_t y = 0; y < crops->height; y++, x += width) {
            const uint8_t *restrict row = crops->pixels + number * crops->image_stride +
                                          c * crops->channel_stride + y * crops->row_stride;
            if (flip) row += (width - 1) * crops->pixel_stride;
            if (step == 1)
                for (int32_t i = 0; i < width; i++) x[i] = share(row[i]);
            else if (step == -1)
                for (int32_t i = 0; i < width; i++) x[i] = share(row[-i]);
            else
                for (int32_t i = 0; i < width; i++) x[i] = share(row[i * step]);
        }
}

/* `apply` of squint/views/apply.py and the normalisation, for images first <= number < last. */
EXPORT int squint_apply(const Images *images, const Boxes *box, const Looks *looks,
                        const View *view, const Views *views, int64_t first, int64_t last) {
    Desk desk;
    if (!desk_open(&desk, images, view, 1)) return NO_MEMORY;
    for (int64_t number = first; number < last; number++) {
        crop_resize(&desk, images, box, view, looks, number);
        apply_look(desk.x, desk.scratch, images->channels, view, looks, number, views);
    }
    workspace_close(&desk.work);
    return 0;
}

/* `apply_look` of squint/views/apply.py and the normalisation, for crops of the views' size. */
EXPORT int squint_apply_look(const Images *crops, const Looks *looks, const View *view,
                             const Views *views, int64_t first, int64_t last) {
    Desk desk;
    if (!desk_open(&desk, crops, view, 0)) return NO_MEMORY;
    for (int64_t number = first; number < last; number++) {
        read_crop(crops, number, looks->flip[number], desk.x);
        apply_look(desk.x, desk.scratch, crops->channels, view, looks, number, views);
    }
    workspace_close(&desk.work);
    return 0;
}
