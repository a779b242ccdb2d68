/* Windows of JPEG files: only the rows and columns that are asked for, at a half, a quarter or an
 * eighth of the scale if that is asked for too.
 *
 * Knows ordinary files only: 8-bit grey or YCbCr, baseline in one scan or progressive, upright,
 * whole. Everything else is refused with NOT_ORDINARY, as is whatever makes libjpeg complain;
 * Pillow then has the say. Of an ordinary file a window has the very pixels that Pillow decodes:
 * the same accurate integer DCT and smooth chroma upsampling. */
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#define EXPORT __attribute__((visibility("default")))

enum { NOT_ORDINARY = -1, ORIENTATION = 0x0112, MARGIN = 2 };

/* More columns than were asked for, at most: margins, and the blocks of four that a part begins
 * with. jpeg.py has the same number. */
enum { SLACK = 2 * MARGIN + 32 };

/* Of the functions and structures below; jpeg.py has the same number. */
EXPORT int32_t squint_jpeg_interface(void) { return 2; }

typedef struct {
    int32_t height, width, channels;
} JpegSize;

typedef struct {
    int32_t top, left, height, width;
} JpegWindow;

/* Columns in memory, of which `first` is the first that was asked for. */
typedef struct {
    int32_t first, width;
} JpegColumns;

typedef struct {
    const uint8_t *at, *end;
} Bytes;

static uint32_t number(const uint8_t *at, int bytes, int little_endian) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint32_t)at[i] << 8 * (little_endian ? i : bytes - 1 - i);
    return value;
}

static int starts_with(Bytes body, const char *text, size_t length) {
    return (size_t)(body.end - body.at) >= length && memcmp(body.at, text, length) == 0;
}

static int holds(Bytes body, const char *text) {
    size_t length = strlen(text);
    for (; (size_t)(body.end - body.at) >= length; body.at++)
        if (memcmp(body.at, text, length) == 0) return 1;
    return 0;
}

/* Whether EXIF, a small TIFF file, says that the image is stored upright, or nothing. */
static int upright(Bytes tiff) {
    int little = starts_with(tiff, "II*\0", 4);
    if (tiff.end - tiff.at < 8 || !(little || starts_with(tiff, "MM\0*", 4))) return 0;
    uint32_t directory = number(tiff.at + 4, 4, little), size = (uint32_t)(tiff.end - tiff.at);
    if (directory > size - 2) return 0;
    uint32_t entries = number(tiff.at + directory, 2, little);
    if (entries * 12 > size - 2 - directory) return 0;
    for (uint32_t i = 0; i < entries; i++) {
        const uint8_t *entry = tiff.at + directory + 2 + i * 12;
        if (number(entry, 2, little) != ORIENTATION) continue;
        int is_one_short = number(entry + 2, 2, little) == 3 && number(entry + 4, 4, little) == 1;
        if (!is_one_short || number(entry + 8, 2, little) != 1) return 0;
    }
    return 1;
}

/* Whether an APPn segment leaves the pixels alone and is one that Pillow reads without trouble. */
static int harmless(int marker, Bytes body, int *exifs) {
    long length = body.end - body.at;
    switch (marker) {
    case 0xE0:
        return length >= 7 || !starts_with(body, "JFIF", 4);
    case 0xE1:
        if (!starts_with(body, "Exif\0", 5)) return !holds(body, "Orientation"); /* XMP */
        body.at += 6;
        return length > 6 && !(*exifs)++ && upright(body);
    case 0xE2: /* several pictures in one file; colour profiles */
        return !starts_with(body, "MPF\0", 4) && (length > 13 || !starts_with(body, "ICC", 3));
    case 0xEE:
        return length >= 12;
    default:
        return 1;
    }
}

static int is_frame(int marker) { return marker == 0xC0 || marker == 0xC1 || marker == 0xC2; }

static int is_table_or_comment(int marker) {
    return marker == 0xC4 || marker == 0xDB || marker == 0xDD || marker == 0xFE;
}

/* Where coded data ends: the marker after it, restarts not counted. */
static const uint8_t *after_scan(const uint8_t *at, const uint8_t *end) {
    while ((at = memchr(at, 0xFF, end - at)) != NULL && at + 1 < end) {
        if (at[1] != 0 && (at[1] < 0xD0 || at[1] > 0xD7)) return at;
        at += 2;
    }
    return end;
}

static int read_frame(Bytes body, JpegSize *size) {
    long length = body.end - body.at;
    if (size->channels || length < 6) return 0; /* a second frame, or a short one */
    size->height = (int32_t)number(body.at + 1, 2, 0);
    size->width = (int32_t)number(body.at + 3, 2, 0);
    size->channels = body.at[5];
    return body.at[0] == 8 && size->height && size->width && length == 6 + 3 * size->channels &&
           (size->channels == 1 || size->channels == 3);
}

/* Reads a file's segments up to its end-of-image marker: 0, or NOT_ORDINARY. */
EXPORT int squint_jpeg_size(const uint8_t *data, int64_t bytes, JpegSize *size) {
    const uint8_t *at = data + 2, *end = data + bytes;
    int progressive = 0, exifs = 0, scans = 0;
    memset(size, 0, sizeof *size);
    if (bytes < 4 || data[0] != 0xFF || data[1] != 0xD8) return NOT_ORDINARY;
    while (end - at >= 4) {
        int marker = at[1];
        if (at[0] != 0xFF) return NOT_ORDINARY;
        Bytes body = {at + 4, at + 2 + number(at + 2, 2, 0)};
        if (body.end < body.at || body.end > end) return NOT_ORDINARY;
        at = body.end;
        if (marker == 0xDA) {
            int components = body.at < body.end ? body.at[0] : 0;
            if (!size->channels || (!progressive && (scans || components != size->channels)))
                return NOT_ORDINARY;
            scans++;
            at = after_scan(at, end);
            if (end - at >= 2 && at[1] == 0xD9) return 0;
        } else if (is_frame(marker)) {
            progressive = marker == 0xC2;
            if (!read_frame(body, size)) return NOT_ORDINARY;
        } else if (marker >= 0xE0 && marker <= 0xEF) {
            if (!harmless(marker, body, &exifs)) return NOT_ORDINARY;
        } else if (!is_table_or_comment(marker)) {
            return NOT_ORDINARY;
        }
    }
    return NOT_ORDINARY;
}

typedef struct {
    struct jpeg_error_mgr base;
    jmp_buf escape;
} Errors;

static void give_up(j_common_ptr decoder) { longjmp(((Errors *)decoder->err)->escape, 1); }

/* libjpeg warns of damaged data and goes on with grey. */
static void give_up_on_warning(j_common_ptr decoder, int level) {
    if (level < 0) give_up(decoder);
}

static void say_nothing(j_common_ptr decoder) { (void)decoder; }

static void decode(j_decompress_ptr decoder, const JpegWindow *window, int32_t channels,
                   uint8_t *target, JpegColumns *columns) {
    /* columns at the border of a decoded part lack a neighbour to smooth with: a margin */
    JDIMENSION left = window->left > MARGIN ? window->left - MARGIN : 0;
    JDIMENSION right = window->left + window->width + MARGIN;
    if (right > decoder->output_width) right = decoder->output_width;
    JDIMENSION width = right - left;
    if (width < decoder->output_width) jpeg_crop_scanline(decoder, &left, &width);
    if (width > (JDIMENSION)window->width + SLACK) give_up((j_common_ptr)decoder);
    *columns = (JpegColumns){window->left - (int32_t)left, (int32_t)width};
    if (window->top) jpeg_skip_scanlines(decoder, window->top);
    for (int32_t y = 0; y < window->height; y++) {
        JSAMPROW row = target + (size_t)y * width * channels;
        if (jpeg_read_scanlines(decoder, &row, 1) != 1) give_up((j_common_ptr)decoder);
    }
}

/* Decodes a window of a file that `squint_jpeg_size` accepted into (height, columns->width,
 * channels); `target` has room for SLACK more columns than the window has. The window is one of the
 * image at 1/reduction of its scale, 1, 2, 4 or 8. 0, or NOT_ORDINARY. */
EXPORT int squint_jpeg_window(const uint8_t *data, int64_t bytes, const JpegWindow *window,
                              int32_t channels, int32_t reduction, uint8_t *target,
                              JpegColumns *columns) {
    struct jpeg_decompress_struct decoder;
    Errors errors;
    decoder.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = give_up;
    errors.base.emit_message = give_up_on_warning;
    errors.base.output_message = say_nothing;
    if (setjmp(errors.escape)) {
        jpeg_destroy_decompress(&decoder);
        return NOT_ORDINARY;
    }
    jpeg_create_decompress(&decoder);
    jpeg_mem_src(&decoder, data, bytes);
    jpeg_read_header(&decoder, TRUE);
    int grey = decoder.jpeg_color_space == JCS_GRAYSCALE;
    if (!grey && (channels != 3 || decoder.jpeg_color_space != JCS_YCbCr))
        give_up((j_common_ptr)&decoder);
    decoder.out_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    decoder.scale_num = 1;
    decoder.scale_denom = reduction;
    decoder.dct_method = JDCT_ISLOW;
    decoder.do_fancy_upsampling = TRUE;
    jpeg_start_decompress(&decoder);
    if (window->top < 0 || window->left < 0 || window->height < 1 || window->width < 1 ||
        (int64_t)window->top + window->height > decoder.output_height ||
        (int64_t)window->left + window->width > decoder.output_width)
        give_up((j_common_ptr)&decoder);
    decode(&decoder, window, channels, target, columns);
    jpeg_destroy_decompress(&decoder);
    return 0;
}
