/* SPDX-License-Identifier: GPL-3.0-or-later
 * Slabs. A pool is one allocation of equal slabs and a stack of the free ones. One thread takes; any
 * thread gives back by dropping the last reference, so the stack has a lock; it is held for a few
 * instructions, some thousand times a second. Where a device reads or has the slabs, the memory is from it.
 */
#include "pipeline/block.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLAB_ALIGN = 128 }; /* two cache lines; also what AVX-512 and DMA like */

struct gw_pool {
    char name[GW_NAME_BYTES];
    pthread_mutex_t lock;
    int slabs, n_free;
    size_t slab_bytes;
    void *memory;
    gw_space space;
    const gw_device *device; /* that gave the memory, in spaces PINNED and DEVICE */
    uint8_t *tails;          /* [slabs][tail_bytes] in space DEVICE */
    int fd;                  /* of the memfd; -1 in other spaces than SHARED */
    gw_block *block;         /* [slabs] */
    int *free_list;          /* [n_free] indices */
};

static void give_back(gw_block *b)
{
    gw_pool *p = b->home;
    pthread_mutex_lock(&p->lock);
    p->free_list[p->n_free++] = (int)(b - p->block);
    pthread_mutex_unlock(&p->lock);
}

/* A memfd has no name, so nothing is left behind; sealed, so that a receiver's mapping can never fault
 * because somebody shortened it. */
static void *shared_memory(const char *name, size_t bytes, int *fd)
{
    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0)
        return NULL;
    void *p = MAP_FAILED;
    if (ftruncate(*fd, (off_t)bytes) == 0 &&
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (p != MAP_FAILED) {
        (void)madvise(p, bytes, MADV_HUGEPAGE);
        return p;
    }
    close(*fd);
    *fd = -1;
    return NULL;
}

static int allocate(gw_pool *p, size_t bytes)
{
    if (p->device)
        return p->device->memory_new(&p->memory, bytes, p->space);
    p->memory = p->space == GW_SPACE_SHARED ? shared_memory(p->name, bytes, &p->fd)
                                            : aligned_alloc(SLAB_ALIGN, bytes);
    return p->memory ? GW_OK : gw_fail(GW_ENOMEM, "no memory");
}

static bool is_devices(gw_space s)
{
    return s == GW_SPACE_PINNED || s == GW_SPACE_DEVICE;
}

int gw_pool_new_on(gw_pool **out, const gw_device *device, const char *name, int slabs, size_t slab_bytes,
                   size_t tail_bytes, gw_space space)
{
    *out = NULL;
    if (slabs < 1 || (unsigned)space > GW_SPACE_SHARED || (is_devices(space) && !device))
        return gw_fail(GW_ENOTSUP, "pool %s: %d slabs in memory space %d", name, slabs, (int)space);
    const size_t stride = (slab_bytes + SLAB_ALIGN - 1) / SLAB_ALIGN * SLAB_ALIGN;
    gw_pool *p = calloc(1, sizeof *p);
    if (!p)
        return gw_fail(GW_ENOMEM, "pool %s", name);
    snprintf(p->name, sizeof p->name, "%s", name);
    pthread_mutex_init(&p->lock, NULL);
    p->slabs = slabs;
    p->slab_bytes = stride;
    p->space = space;
    p->device = is_devices(space) ? device : NULL;
    p->fd = -1;
    p->block = calloc((size_t)slabs, sizeof *p->block);
    p->free_list = calloc((size_t)slabs, sizeof *p->free_list);
    if (space == GW_SPACE_DEVICE)
        p->tails = calloc((size_t)slabs, tail_bytes ? tail_bytes : 1);
    const bool sane = stride <= (SIZE_MAX / 2) / (size_t)slabs && p->block && p->free_list &&
                      (p->tails || space != GW_SPACE_DEVICE);
    int err =
        sane ? allocate(p, stride ? stride * (size_t)slabs : SLAB_ALIGN) : gw_fail(GW_ENOMEM, "no memory");
    if (err != GW_OK) {
        gw_pool_destroy(&p);
        return gw_fail_at(err, "pool %s: %d slabs of %zu bytes", name, slabs, stride);
    }
    if (space != GW_SPACE_DEVICE)
        memset(p->memory, 0, stride * (size_t)slabs); /* touch the pages now, not in the first block */
    for (int i = 0; i < slabs; i++) {
        gw_block *b = &p->block[i];
        atomic_init(&b->refs, 0);
        atomic_init(&b->sealed, false);
        b->space = space;
        b->capacity = slab_bytes;
        b->data = (char *)p->memory + stride * (size_t)i;
        b->tail = p->tails ? p->tails + tail_bytes * (size_t)i : NULL;
        b->release = give_back;
        b->home = p;
        p->free_list[p->n_free++] = slabs - 1 - i;
    }
    *out = p;
    return GW_OK;
}

int gw_pool_new(gw_pool **p, const char *name, int slabs, size_t slab_bytes, gw_space space)
{
    return gw_pool_new_on(p, NULL, name, slabs, slab_bytes, 0, space);
}

int gw_pool_fd(const gw_pool *p)
{
    return p->fd;
}

size_t gw_pool_offset(const gw_pool *p, const gw_block *b)
{
    return (size_t)((const char *)b->data - (const char *)p->memory);
}

bool gw_pool_owns(const gw_pool *p, const gw_block *b)
{
    return b->home == p;
}

int gw_pool_take(gw_pool *p, gw_block **out)
{
    pthread_mutex_lock(&p->lock);
    gw_block *b = p->n_free ? &p->block[p->free_list[--p->n_free]] : NULL;
    pthread_mutex_unlock(&p->lock);
    *out = b;
    if (!b)
        return GW_EAGAIN;
    memset(&b->hdr, 0, sizeof b->hdr);
    atomic_store_explicit(&b->sealed, false, memory_order_relaxed);
    atomic_store_explicit(&b->refs, 1, memory_order_relaxed);
    return GW_OK;
}

int gw_pool_free_slabs(const gw_pool *p)
{
    gw_pool *q = (gw_pool *)p;
    pthread_mutex_lock(&q->lock);
    int n = q->n_free;
    pthread_mutex_unlock(&q->lock);
    return n;
}

int gw_pool_slabs(const gw_pool *p)
{
    return p->slabs;
}

size_t gw_pool_bytes(const gw_pool *p)
{
    return p->slab_bytes * (size_t)p->slabs;
}

void gw_pool_destroy(gw_pool **pp)
{
    gw_pool *p = *pp;
    if (!p)
        return;
    *pp = NULL;
    pthread_mutex_destroy(&p->lock);
    if (p->fd >= 0) {
        munmap(p->memory, p->slab_bytes ? p->slab_bytes * (size_t)p->slabs : SLAB_ALIGN);
        close(p->fd);
    } else if (p->device) {
        p->device->memory_destroy(&p->memory, p->space);
    } else {
        free(p->memory);
    }
    free(p->tails);
    free(p->block);
    free(p->free_list);
    free(p);
}

void gw_block_seal(gw_block *b)
{
    gw_header_seal(&b->hdr);
    atomic_store_explicit(&b->sealed, true, memory_order_release);
}

void gw_block_ref(gw_block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void gw_block_unref(gw_block **bb)
{
    gw_block *b = *bb;
    if (!b)
        return;
    *bb = NULL;
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
        b->release(b);
}
