/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a link that leaves the process says on the wire: control messages beside the blocks of block.h, and
 * the text form of a stream's spec. docs/wire.md tells a stranger the same; change both together. Knows no
 * sockets: lane.c moves these messages, link.c decides when. Little-endian, like the block header. */
#ifndef GW_WIRE_H
#define GW_WIRE_H

#include "pipeline/block.h"

#define GW_CONTROL_MAGIC 0x43535747u /* "GWSC" */
#define GW_CONTROL_BYTES 64u
#define GW_WIRE_VERSION  1u /* of control messages; blocks carry GW_BLOCK_VERSION */
#define GW_WIRE_TEXT_MAX (64u << 20)

/* Who says it, and what `count` and `limit` mean. Blocks of a link are numbered from 0 on; a number never
 * means another block within one sender's session. */
typedef enum gw_control_type {
    GW_HELLO = 1, /* receiver: "send me block `count` next (GW_FROM_OLDEST: the oldest you still hold), and no
                     block from `limit` on". Opens a session; repeated when blocks went missing */
    GW_SPEC = 2,  /* sender: this is my stream (text), the first block I shall send is `count` */
    GW_CREDIT = 3, /* receiver: every block below `count` has been worked off; send none from `limit` on.
                      Cumulative, repeated as a heartbeat */
    GW_BEAT = 4,   /* sender: I am here; I have sent every block below `count` */
    GW_EOS = 5,    /* sender: the stream has `count` blocks and no more; repeated until BYE */
    GW_BYE = 6,    /* receiver: all `count` have been worked off; the sender may let go */
    GW_GONE = 7    /* either: I leave; `count` is a gw_gone, the text says why */
} gw_control_type;
#define GW_FROM_OLDEST UINT64_MAX

typedef enum gw_gone {
    GW_GONE_LEFT = 0,   /* ended or failed; somebody else may take its place */
    GW_GONE_REFUSE = 1, /* the specs do not fit: trying again is no use */
    GW_GONE_BUSY = 2,   /* another peer is being served: try again */
    GW_GONE_UNKNOWN = 3 /* you are not, or no longer, the one I serve: begin anew */
} gw_gone;

typedef struct gw_control {
    uint32_t magic;
    uint16_t version, type;
    uint64_t session; /* who says it: a number drawn by each end when it starts (a sender's is its run id) */
    uint64_t count, limit;
    uint64_t spec_hash;  /* HELLO: of the spec it expects, 0 = any. SPEC: of its own, 0 = not computed */
    uint32_t text_bytes; /* length of the text frame that follows; 0 = none */
    uint32_t epoch; /* HELLO: how many this receiver has said to this sender. BEAT, EOS: the latest heard, so
                       that a receiver can tell "sent before you asked again" from "lost" */
    uint32_t reserved[3];
    uint32_t crc; /* CRC32C of the 60 bytes before it */
} gw_control;
_Static_assert(sizeof(gw_control) == GW_CONTROL_BYTES, "control messages are 64 bytes");

/* On a shm link a block is sent as its header and this: where in the memfd its payload lies. */
typedef struct gw_descriptor {
    uint64_t offset;
    uint64_t capacity; /* bytes of the slab from there on */
} gw_descriptor;
_Static_assert(sizeof(gw_descriptor) == 16, "descriptors are 16 bytes");

void gw_control_seal(gw_control *c); /* magic, version, crc */
/* GW_EFORMAT with the reason: not 64 bytes, magic, version, CRC, unknown type, a text that is too long. */
int gw_control_read(const void *data, size_t bytes, gw_control *out);
/* Whether these bytes want to be a control message (the magic): everything else wants to be a block. */
bool gw_is_control(const void *data, size_t bytes);

/* The descriptor against the header it came with and a segment of `segment_bytes`. */
int gw_descriptor_read(const void *data, size_t bytes, const gw_header *h, size_t segment_bytes,
                       gw_descriptor *out);

/* A spec as one JSON object: {"name":"sky.H1","rate":[16384,1],"phase_ns":0,"dtype":"float64","channels":1 or
 * ["H1:STRAIN"],"block_samples":1024,"detector":"H1","unit":"strain","whitening":""}. Write: *text is
 * malloced for the caller. Read: unknown keys are ignored (that is how versions grow), an impossible value is
 * GW_EFORMAT; what is absent stays 0 or "". Names count as agreed: gw_spec_agrees compares all else that the
 * expected spec states (0 and "" state nothing; channel names only where both have them). */
int gw_spec_write(const gw_spec *s, char **text);
int gw_spec_read(const char *text, size_t bytes, gw_spec *s);
bool gw_spec_agrees(const gw_spec *expected, const gw_spec *offered);

#endif
