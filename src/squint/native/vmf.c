/* Draws from the von Mises-Fisher law: the numbers of squint/ops/vmf_variates.py and the map of
 * squint/ops/vmf_sampler.py, one row at a time in the cache. */
#include "philox.h"
#include "squint.h"
#include "workspace.h"

enum Purpose { DIRECTION, PROPOSAL }; /* third counter: what the words are for */

#define GROUP 4      /* rows that share a column's words */
#define TRIES 32     /* PROPOSALS of vmf_variates.py */
#define PENDING 256  /* rows whose proposals are made together */
#define LEAST 1e-24f /* squared length below which a mean is the first axis itself */

ALWAYS_INLINE float sum(Lanes x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

/* Inner products of two rows with themselves and each other; the size is a multiple of 2 LANES. */
typedef struct {
    float aa, ab, bb;
} Products;

ALWAYS_INLINE Products products(const float *a, const float *b, int64_t size) {
    Lanes aa[2] = {{0}}, ab[2] = {{0}}, bb[2] = {{0}};
    for (int64_t j = 0; j < size; j += 2 * LANES)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            Lanes x = load(a + j + half * LANES), y = load(b + j + half * LANES);
            aa[half] += x * x;
            ab[half] += x * y;
            bb[half] += y * y;
        }
    return (Products){sum(aa[0] + aa[1]), sum(ab[0] + ab[1]), sum(bb[0] + bb[1])};
}

/* a <- x a - y b + (first, 0, 0, ...), and its squared length. */
ALWAYS_INLINE float combine(float *a, const float *b, float x, float y, float first,
                            int64_t size) {
    Lanes squares[2] = {{0}}, add = {first};
    for (int64_t j = 0; j < size; j += 2 * LANES) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            Lanes both = x * load(a + j + half * LANES) - y * load(b + j + half * LANES);
            if (half == 0) both += add;
            store(a + j + half * LANES, both);
            squares[half] += both * both;
        }
        add = (Lanes){0};
    }
    return sum(squares[0] + squares[1]);
}

/* Standard normals of four rows; columns that are not there are 0. */
FOR_EACH_CPU
void draw_group(int64_t key, int64_t group, int64_t dim, int64_t pitch, float *restrict x) {
    float *restrict row0 = x, *restrict row1 = x + pitch;
    float *restrict row2 = x + 2 * pitch, *restrict row3 = x + 3 * pitch;
#pragma omp simd
    for (int32_t column = 0; column < (int32_t)pitch; column++) {
        Words words = philox(key, (uint64_t)group, (uint64_t)column, DIRECTION);
        normals(words.radius[0], words.angle[0], row0 + column, row1 + column);
        normals(words.radius[1], words.angle[1], row2 + column, row3 + column);
    }
    for (int row = 0; row < GROUP && dim < pitch; row++)
        memset(x + row * pitch + dim, 0, sizeof(float) * (size_t)(pitch - dim));
}

/* Rows around e_1, with directions in x but for their first column, to rows around mu: reflect of
 * squint/ops/vmf_sampler.py, with mu - e_1 in `away` (its length and sign do not count). Row after
 * row, for square roots and divisions take longer than what lies between; and whole vectors are
 * written, for a single number has to reach memory before a vector around it can be read. */
FOR_EACH_CPU
void reflect_rows(int64_t rows, int64_t dim, int64_t pitch, const float *restrict mu,
                  const float *restrict cosine, const float *restrict sine, float *restrict x,
                  float *restrict away, float *restrict z) {
    float scale[GROUP], twice[GROUP], squares[GROUP];
    for (int64_t row = 0; row < rows; row++) {
        float *base = x + row * pitch, *v = away + row * pitch;
        memcpy(v, mu + row * dim, sizeof(float) * (size_t)dim);
        store(v, load(v) - (Lanes){1});
        store(base, load(base) * (Lanes){0, 1, 1, 1, 1, 1, 1, 1});
        Products found = products(base, v, pitch);
        scale[row] = sine[row] / sqrtf(found.aa);
        twice[row] = 2 * (cosine[row] * load(v)[0] + scale[row] * found.ab) /
                     (found.bb > LEAST ? found.bb : LEAST);
    }
    for (int64_t row = 0; row < rows; row++)
        squares[row] = combine(x + row * pitch, away + row * pitch, scale[row], twice[row],
                               cosine[row], pitch);
    for (int64_t row = 0; row < rows; row++) scale[row] = 1 / sqrtf(squares[row]);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < dim; j++) z[row * dim + j] = x[row * pitch + j] * scale[row];
}

static int64_t padded(int64_t dim) { return (dim + 2 * LANES - 1) / (2 * LANES) * (2 * LANES); }

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

EXPORT int squint_vmf_place(const Noise *noise, const float *mu, int64_t dim, const float *cosine,
                            const float *sine, float *z, int64_t begin, int64_t end) {
    int64_t pitch = padded(dim);
    size_t bytes = sizeof(float) * (size_t)(GROUP * pitch);
    Workspace work;
    if (!workspace_open(&work, 2 * aligned(bytes))) return NO_MEMORY;
    float *x = take(&work, bytes), *away = take(&work, bytes);
    memset(away, 0, bytes);
    for (int64_t row = begin; row < end;) {
        int64_t group = (noise->first + row) / GROUP, within = (noise->first + row) % GROUP;
        int64_t rows = at_most(GROUP - within, end - row);
        draw_group(noise->key, group, dim, pitch, x);
        reflect_rows(rows, dim, pitch, mu + row * dim, cosine + row, sine + row,
                     x + within * pitch, away, z + row * dim);
        row += rows;
    }
    workspace_close(&work);
    return 0;
}

/* Rows without an accepted proposal yet. */
typedef struct {
    int64_t count;
    double kappa[PENDING], gap[PENDING];
    int64_t row[PENDING], accepted[PENDING];
} Pending;

/* One proposal for each pending row: Wood 1994, algorithm VM*, as in vmf_variates.py. */
FOR_EACH_CPU
void propose(Pending *restrict pending, int64_t key, int64_t first, uint64_t trial, int64_t dim) {
    double m = (double)(dim - 1), power = m > 1 ? 2 / (m - 1) : 0;
#pragma omp simd
    for (int64_t i = 0; i < pending->count; i++) {
        Words words = philox(key, (uint64_t)(first + pending->row[i]), trial, PROPOSAL);
        double root = sqrt(-exp_m1(power * log_1p(uniform(words.radius[0]) - 1)));
        double half = 0.5 * cosine_of_turn(words.angle[0]) * (m > 1 ? root : 1);
        double y = 0.5 + half, rest = 0.5 - half, kappa = pending->kappa[i];
        double b = m / (2 * kappa + sqrt(4 * kappa * kappa + m * m));
        double gap = 2 * b * y / (rest + b * y), delta = 2 * b / (1 + b) - gap;
        double log_ratio = kappa * delta + m * log_1p(-delta * (1 - b) * (1 + b) / (4 * b));
        pending->gap[i] = gap;
        pending->accepted[i] = log_ratio >= log_1p(uniform(words.radius[1]) - 1);
    }
}

/* Writes every gap, a later one over an earlier, and keeps the rows that go on. */
static void settle(Pending *pending, double *gap) {
    int64_t left = 0;
    for (int64_t i = 0; i < pending->count; i++) {
        gap[pending->row[i]] = pending->gap[i];
        pending->row[left] = pending->row[i];
        pending->kappa[left] = pending->kappa[i];
        left += !pending->accepted[i];
    }
    pending->count = left;
}

FOR_EACH_CPU
void measure(const double *restrict gap, float *restrict cosine, float *restrict sine,
             int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        cosine[i] = (float)(1 - gap[i]);
        sine[i] = (float)sqrt(gap[i] * (2 - gap[i]));
    }
}

EXPORT int squint_vmf_angles(const Noise *noise, const double *kappa, int64_t kappa_step,
                             int64_t dim, double *gap, float *cosine, float *sine, int64_t begin,
                             int64_t end) {
    Pending pending;
    for (int64_t start = begin; start < end; start += PENDING) {
        int64_t count = pending.count = at_most(PENDING, end - start);
        for (int64_t i = 0; i < count; i++) {
            pending.row[i] = start + i;
            pending.kappa[i] = kappa[(start + i) * kappa_step];
        }
        for (uint64_t trial = 0; trial < TRIES && pending.count > 0; trial++) {
            propose(&pending, noise->key, noise->first, trial, dim);
            settle(&pending, gap);
        }
        measure(gap + start, cosine + start, sine + start, count);
    }
    return 0;
}

/* A row where vectors may read past its end: a copy with zeros behind it. */
static float *copied(float *copy, const float *row, int64_t dim) {
    return memcpy(copy, row, sizeof(float) * (size_t)dim);
}

/* 2 / |v|^2 ((z.v) g - (g.v) z), v = mu - e_1: the derivative of the reflection in mu. */
FOR_EACH_CPU
void mean_gradient(const float *v, const float *z, const float *grad, int64_t dim, int64_t pitch,
                   float *restrict result) {
    Products of_z = products(z, v, pitch), of_grad = products(grad, v, pitch);
    float scale = 2 / (of_z.bb > LEAST ? of_z.bb : LEAST);
    for (int64_t j = 0; j < dim; j++)
        result[j] = scale * (of_z.ab * grad[j] - of_grad.ab * z[j]);
}

EXPORT int squint_vmf_mean_gradient(const float *mu, const float *z, const float *grad,
                                    int64_t dim, float *result, int64_t begin, int64_t end) {
    int64_t pitch = padded(dim);
    Workspace work;
    size_t bytes = 3 * sizeof(float) * (size_t)pitch;
    if (!workspace_open(&work, aligned(bytes))) return NO_MEMORY;
    float *copies = take(&work, bytes);
    memset(copies, 0, bytes);
    for (int64_t at = begin * dim; at < end * dim; at += dim) {
        float *v = copied(copies, mu + at, dim);
        store(v, load(v) - (Lanes){1});
        mean_gradient(v, copied(copies + pitch, z + at, dim),
                      copied(copies + 2 * pitch, grad + at, dim), dim, pitch, result + at);
    }
    workspace_close(&work);
    return 0;
}
