/* SPDX-License-Identifier: GPL-3.0-or-later
 * Blocks: what moves through the pipeline. A block is a fixed 128-byte little-endian header and a
 * payload [channel][sample]. Its stream's spec says what never changes from block to block. */
#ifndef GW_BLOCK_H
#define GW_BLOCK_H

#include "pipeline/clock.h"
#include "pipeline/device.h"
#include "pipeline/error.h"

#include <stdatomic.h>

#define GW_BLOCK_MAGIC   0x42535747u /* "GWSB" */
#define GW_BLOCK_VERSION 1u
#define GW_HEADER_BYTES  128u
#define GW_NAME_BYTES    64 /* a channel, stream or stage name with its NUL */

/* Header flags. */
enum {
    GW_FLAG_GAP = 1u << 0,       /* no payload: gap_samples samples are missing from sample0 on */
    GW_FLAG_EOS = 1u << 1,       /* nothing follows on this stream */
    GW_FLAG_INJECTION = 1u << 2, /* a simulated or hardware-injected signal is in these samples */
    GW_FLAG_REPLAY = 1u << 3     /* archived data, not live */
};

/* Data-quality bits, 1 = passes / no injection; GWOSC's short names, at our own fixed places. A stream
 * without data-quality information carries GW_DQ_ALL. */
enum {
    GW_DQ_DATA = 1u << 0,
    GW_DQ_CBC_CAT1 = 1u << 1,
    GW_DQ_CBC_CAT2 = 1u << 2,
    GW_DQ_CBC_CAT3 = 1u << 3,
    GW_DQ_BURST_CAT1 = 1u << 4,
    GW_DQ_BURST_CAT2 = 1u << 5,
    GW_DQ_BURST_CAT3 = 1u << 6,
    GW_DQ_NO_CBC_HW_INJ = 1u << 16,
    GW_DQ_NO_BURST_HW_INJ = 1u << 17,
    GW_DQ_NO_DETCHAR_HW_INJ = 1u << 18,
    GW_DQ_NO_CW_HW_INJ = 1u << 19,
    GW_DQ_NO_STOCH_HW_INJ = 1u << 20
};
#define GW_DQ_ALL 0x001f007fu

typedef enum gw_dtype {
    GW_F32 = 1,
    GW_F64 = 2,
    GW_I16 = 3,
    GW_I32 = 4,
    GW_U8 = 5 /* opaque bytes: events between processes */
} gw_dtype;
size_t gw_dtype_bytes(gw_dtype t);     /* 0 if unknown */
const char *gw_dtype_text(gw_dtype t); /* "float32"; "?" if unknown */

/* In memory as on the wire. Integers little-endian. */
typedef struct gw_header {
    uint32_t magic;
    uint16_t version, length; /* refuse an unknown version; skip what a longer header adds */
    uint32_t flags;
    uint8_t dtype, reserved8[3];
    uint64_t run_id; /* changes whenever the producer starts anew */
    uint64_t seq;    /* block number on its link: contiguous, or it is a bug */
    int64_t sample0; /* number of the first sample, counted from GPS 0 + the spec's phase */
    uint32_t n_samples, n_channels, channel0, stream_id;
    uint64_t payload_bytes;
    uint64_t gap_samples; /* with GW_FLAG_GAP; else 0 */
    uint64_t dq;          /* GW_DQ_ bits that hold for every sample of the block */
    int64_t due_ns;       /* GPS time at which the last sample was taken */
    int64_t ingest_ns;    /* GPS wall clock when this program first had it */
    /* Optional tail behind the payload (presence_offset = payload_bytes): one bit a channel, 1 = present,
     * channel c is bit c % 8 of byte c / 8. No tail = all present. An absent channel's samples mean nothing.
     */
    uint32_t presence_offset, presence_bytes;
    uint32_t payload_crc; /* CRC32C of the payload, or 0 */
    uint32_t reserved32;
    uint64_t networks;   /* which networks cleaned these samples: the XOR of the first 64 bits of each one's
                            SHA-256 (of one alone: its first 16 hex digits); 0 = none did */
    uint32_t gap_reason; /* gw_gap_reason, with GW_FLAG_GAP */
    uint32_t header_crc; /* CRC32C of the 124 bytes before it */
} gw_header;
_Static_assert(sizeof(gw_header) == GW_HEADER_BYTES, "the block header is 128 bytes");

/* Why samples are missing. */
#define GW_GAP_REASONS(X)                                                                                    \
    X(NONE, "none")                                                                                          \
    X(ABSENT, "absent")        /* no data: a hole between files, or a detector that is off */                \
    X(NAN, "not-a-number")     /* the samples are NaN or infinite */                                         \
    X(QUALITY, "data-quality") /* DATA or CBC_CAT1 does not pass */                                          \
    X(WARMUP, "warm-up")       /* a stage had no filter yet */                                               \
    X(HISTORY, "history")      /* a stage's memory was not full yet after the start or a hole */             \
    X(DROPPED, "dropped")      /* a side branch was too slow */                                              \
    X(PARTIAL, "partial")      /* a fragment shorter than the stage's hop */                                 \
    X(LATE, "late")            /* did not come within the bounded wait for a live stream */                  \
    X(CHANNEL, "channel")      /* some channel is absent, and the stage wants all of them */
typedef enum gw_gap_reason {
#define X(name, text) GW_GAP_##name,
    GW_GAP_REASONS(X)
#undef X
        GW_GAP_REASON_COUNT
} gw_gap_reason;
const char *gw_gap_reason_text(gw_gap_reason r);

/* Fills length, magic, version and header_crc; call it last. */
void gw_header_seal(gw_header *h);

/* Checks a header that came from outside: magic, version, CRC, and that its sizes agree with each other
 * (n_channels * n_samples * dtype == payload_bytes without overflow, or GAP without payload).
 * GW_EFORMAT with the reason otherwise. `bytes` is how many are readable at `data`. */
int gw_header_read(const void *data, size_t bytes, gw_header *out);

uint32_t gw_crc32c(uint32_t crc, const void *data, size_t bytes);

/* What never changes on a stream. Owned by value; the channel names are one allocation. */
typedef struct gw_spec {
    char name[GW_NAME_BYTES]; /* of the stream: "sky.H1" */
    uint32_t stream_id;
    gw_rate rate;
    int64_t phase_ns; /* GPS time of sample 0 */
    gw_dtype dtype;
    uint32_t n_channels;
    uint32_t block_samples;         /* the longest block; no block crosses a multiple of it */
    char detector[8];               /* "H1"; "" where a stream belongs to none or several */
    char unit[16];                  /* "strain", "whitened", "logit" */
    char whitening[128];            /* what whitened it, as one canonical text; "" = not whitened */
    char cleaning[256];             /* what was subtracted when the run began, "" = nothing: for each network
                                       "coupling:model:first 16 hex digits of its SHA-256:bands", joined by
                                       "; ". Networks are replaced while it runs (gw_header.networks): two ends
                                       need not agree */
    char (*channel)[GW_NAME_BYTES]; /* n_channels names */
} gw_spec;

int gw_spec_copy(gw_spec *to, const gw_spec *from); /* `to` is overwritten, not freed first */
int gw_spec_set_channels(gw_spec *s, uint32_t n, const char *const *names); /* names may be NULL */
void gw_spec_free(gw_spec *s);
uint64_t gw_spec_hash(const gw_spec *s); /* of all that must agree between two ends */
void gw_spec_text(const gw_spec *s, char *text,
                  size_t n); /* "sky.H1: 1 x 16384 Hz float64, blocks of 1024" */

typedef struct gw_block gw_block;
struct gw_block {
    gw_header hdr; /* first: an inproc message's data is the block itself */
    atomic_int refs;
    atomic_bool sealed; /* set once by gw_block_seal; read-only ever after */
    gw_space space;
    size_t capacity;              /* bytes at data */
    void *data;                   /* [channel][sample], channels hdr.n_samples apart */
    uint8_t *tail;                /* in space DEVICE: the presence bits, in the host's memory; else NULL */
    void (*release)(gw_block *b); /* called with the last reference gone: the slab goes home */
    void *home;                   /* release's own: a pool, or the receiver that lent the block */
};

/* Presence bits of a block, NULL when every channel is present. */
static inline const uint8_t *gw_block_presence(const gw_block *b)
{
    const uint8_t *tail = b->tail ? b->tail : (const uint8_t *)b->data + b->hdr.presence_offset;
    return b->hdr.presence_bytes ? tail : NULL;
}
static inline bool gw_present(const uint8_t *presence, uint32_t channel)
{
    return !presence || presence[channel / 8] >> channel % 8 & 1;
}
/* Bytes a slab needs for the longest block of a stream and its presence tail. */
size_t gw_spec_slab_bytes(const gw_spec *s);

void gw_block_seal(gw_block *b);   /* seals the header too; release */
void gw_block_ref(gw_block *b);    /* one more reader */
void gw_block_unref(gw_block **b); /* gives the slab back with the last one; nulls; NULL is fine */

/* A fixed number of slabs of one size, allocated at once. A free slab is the permission to produce. In space
 * SHARED the slabs lie in a memfd (no name, sealed against resizing), which a shm link hands to its receiver.
 * gw_pool_new: in spaces HOST and SHARED. */
typedef struct gw_pool gw_pool;
int gw_pool_new(gw_pool **p, const char *name, int slabs, size_t slab_bytes, gw_space space);
/* In any space; `device` gives the memory in spaces PINNED and DEVICE, and is not needed for the others. The
 * host cannot read a DEVICE slab, so its presence bits, at most tail_bytes, lie beside it. */
int gw_pool_new_on(gw_pool **p, const gw_device *device, const char *name, int slabs, size_t slab_bytes,
                   size_t tail_bytes, gw_space space);
/* A free slab with one reference and a zeroed header, or GW_EAGAIN. Any thread may return slabs; one
 * thread takes them. */
int gw_pool_take(gw_pool *p, gw_block **b);
int gw_pool_free_slabs(const gw_pool *p);
int gw_pool_slabs(const gw_pool *p);                        /* free or not */
int gw_pool_fd(const gw_pool *p);                           /* the memfd; -1 unless SHARED */
size_t gw_pool_offset(const gw_pool *p, const gw_block *b); /* of b's data in the memfd */
bool gw_pool_owns(const gw_pool *p, const gw_block *b);
size_t gw_pool_bytes(const gw_pool *p);
void gw_pool_destroy(gw_pool **p); /* all slabs must be home */

#endif
