/* Scratch memory of one call: one allocation, cut into aligned pieces. */
#ifndef SQUINT_WORKSPACE_H
#define SQUINT_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ALIGNMENT 64 /* a cache line, and the longest vector */

typedef struct {
    char *start, *next;
} Workspace;

static inline size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* Room for `bytes`, which is a sum of `aligned` sizes. Returns whether there was memory. */
static inline int workspace_open(Workspace *work, size_t bytes) {
    work->start = work->next = aligned_alloc(ALIGNMENT, aligned(bytes));
    return work->start != NULL;
}

static inline void *take(Workspace *work, size_t bytes) {
    void *piece = work->next;
    work->next += aligned(bytes);
    return piece;
}

static inline void workspace_close(Workspace *work) { free(work->start); }

#endif
