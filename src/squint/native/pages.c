/* Large pages for results: a batch of views is tens of MiB of fresh memory, and to be given it page
 * by page, 4 KiB each, takes the processor as long as to compute the views. */
#include "squint.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

EXPORT void squint_ask_for_large_pages(void *start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)start + page - 1) / page * page;
    uintptr_t last = ((uintptr_t)start + (uintptr_t)bytes) / page * page;
    if (first < last) madvise((void *)first, last - first, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}
