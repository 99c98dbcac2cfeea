/* SPDX-License-Identifier: GPL-3.0-or-later
 * One socket of a link (lane.h). On the wire a message is: a control message and its text, if it has one; or
 * a block's header and its payload with the presence tail, if it has one. On shm the header is followed by a
 * descriptor in the same frame; inproc, the frame is the block itself. */
#include "pipeline/lane.h"
#include "pipeline/log.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPLAIN_NS (10 * GW_SECOND_NS)
enum { MAX_FRAMES = 2, ID_BYTES = 255, KERNEL_BUFFER = 4 << 20 };

typedef struct identity {
    unsigned char bytes[ID_BYTES];
    size_t n; /* 0: nobody */
} identity;

struct gw_lane {
    void *socket;
    gw_transport transport;
    bool router, crc;
    gw_pool *pool; /* shm sender */
    identity peer, last;
    zmq_msg_t frame[MAX_FRAMES];
    int frames;
    char *text;
    size_t text_room;
    char where[400]; /* "sky.H1 (tcp://127.0.0.1:5555)" */
    int64_t complained_ns;
};

static int zmq_failed(const char *what, const char *address)
{
    const int e = zmq_errno();
    const int err = e == EADDRINUSE                                    ? GW_EBUSY
                    : e == EINVAL || e == ENODEV || e == EADDRNOTAVAIL ? GW_ECONFIG
                    : e == EACCES                                      ? GW_EACCESS
                                                                       : GW_ESYSTEM;
    return gw_fail(err, "link %s: %s: %s", address, what, zmq_strerror(e));
}

/* The address of lane `index`. */
static int lane_address(const gw_link_conf *c, int index, char *text, size_t n)
{
    if (c->transport != GW_TCP) {
        snprintf(text, n, index ? "%s-%d" : "%s", c->address, index);
        return GW_OK;
    }
    const char *colon = strrchr(c->address, ':');
    char *end;
    const long port = colon ? strtol(colon + 1, &end, 10) : 0;
    if (!colon || *end || port < 1 || port + index > 65535)
        return gw_fail(GW_ECONFIG, "link %s: want tcp://host:port with ports up to 65535 for %d lanes",
                       c->address, c->lanes);
    snprintf(text, n, "%.*s:%ld", (int)(colon - c->address), c->address, port + index);
    return GW_OK;
}

static void set_int(void *socket, int option, int value)
{
    (void)zmq_setsockopt(socket, option, &value, sizeof value);
}

static void set_options(gw_lane *l, const gw_link_conf *c)
{
    set_int(l->socket, ZMQ_LINGER, 0);
    if (l->transport == GW_INPROC) { /* credits bound what is in flight */
        set_int(l->socket, ZMQ_SNDHWM, 0);
        set_int(l->socket, ZMQ_RCVHWM, 0);
        return;
    }
    /* Credits bound what a peer of this protocol has in flight; the high-water marks bound everybody else. */
    set_int(l->socket, ZMQ_SNDHWM, 2 * c->credit + 64);
    set_int(l->socket, ZMQ_RCVHWM, 2 * c->credit + 64);
    set_int(l->socket, ZMQ_RECONNECT_IVL, 50);
    set_int(l->socket, ZMQ_RECONNECT_IVL_MAX, 100); /* however long a peer was away, it is found at once */
    if (l->router)
        set_int(l->socket, ZMQ_ROUTER_MANDATORY, 1);
    const size_t slab = gw_spec_slab_bytes(c->spec);
    const int64_t largest = (int64_t)(slab > GW_WIRE_TEXT_MAX ? slab : GW_WIRE_TEXT_MAX) + 4096;
    (void)zmq_setsockopt(l->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    if (l->transport == GW_IPC) { /* tcp sizes its buffers itself, and better */
        set_int(l->socket, ZMQ_SNDBUF, KERNEL_BUFFER);
        set_int(l->socket, ZMQ_RCVBUF, KERNEL_BUFFER);
    }
    if (l->transport == GW_TCP) { /* a cable that was pulled says nothing */
        set_int(l->socket, ZMQ_HEARTBEAT_IVL, 1000);
        set_int(l->socket, ZMQ_HEARTBEAT_TIMEOUT, 3000);
    }
}

/* ZeroMQ receives into memory from malloc, which by default gives megabytes back to the kernel with every
 * free and takes them again, page fault by page fault, for the next message: measured to cost a third of a
 * tcp link's speed. What is kept instead is bounded by the credits. For the whole process, once. */
static void keep_freed_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the most that malloc allows */
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

int gw_lane_open(gw_lane **out, const gw_link_conf *c, int index, bool sender)
{
    *out = NULL;
    char address[256];
    GW_TRY(lane_address(c, index, address, sizeof address));
    gw_lane *l = calloc(1, sizeof *l);
    if (!l)
        return gw_fail(GW_ENOMEM, "link %s", address);
    snprintf(l->where, sizeof l->where, "%s (%s)", c->spec->name, address);
    l->transport = c->transport;
    l->router = c->listen && c->transport != GW_INPROC;
    l->crc = c->crc;
    if (!sender && (c->transport == GW_IPC || c->transport == GW_TCP)) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        (void)pthread_once(&once, keep_freed_memory);
    }
    l->pool = sender ? c->pool : NULL;
    l->socket = zmq_socket(c->zmq, l->router ? ZMQ_ROUTER : ZMQ_DEALER);
    int err = l->socket ? GW_OK : zmq_failed("socket", address);
    if (err == GW_OK) {
        set_options(l, c);
        const int io_threads = zmq_ctx_get(c->zmq, ZMQ_IO_THREADS);
        if (c->lanes > 1 && io_threads > 1) {
            const uint64_t one_thread = UINT64_C(1) << (index % io_threads % 64);
            (void)zmq_setsockopt(l->socket, ZMQ_AFFINITY, &one_thread, sizeof one_thread);
        }
        if (c->keys)
            err = gw_keys_apply(c->keys, l->socket, c->listen);
    }
    if (err == GW_OK && (c->listen ? zmq_bind(l->socket, address) : zmq_connect(l->socket, address)) != 0)
        err = zmq_failed(c->listen ? "cannot listen" : "cannot connect", address);
    if (err != GW_OK) {
        gw_lane_close(&l, 0);
        return err;
    }
    *out = l;
    return GW_OK;
}

static void drop_frames(gw_lane *l)
{
    while (l->frames > 0)
        zmq_msg_close(&l->frame[--l->frames]);
}

void gw_lane_close(gw_lane **ll, int linger_ms)
{
    gw_lane *l = *ll;
    *ll = NULL;
    if (!l)
        return;
    drop_frames(l);
    if (l->socket) {
        set_int(l->socket, ZMQ_LINGER, linger_ms);
        zmq_close(l->socket);
    }
    free(l->text);
    free(l);
}

void *gw_lane_socket(const gw_lane *l)
{
    return l->socket;
}

bool gw_lane_has_peer(const gw_lane *l)
{
    return !l->router || l->peer.n > 0;
}

void gw_lane_adopt(gw_lane *l)
{
    l->peer = l->last;
}

void gw_lane_forget(gw_lane *l)
{
    l->peer.n = 0;
}

/* -- hearing ----------------------------------------------------------------------------------------- */

/* Reads one whole message into l->frame; what is beyond MAX_FRAMES is thrown away and counted in *extra. */
static int receive_frames(gw_lane *l, int *extra)
{
    *extra = 0;
    drop_frames(l);
    bool first = true;
    for (int more = 1; more;) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        if (zmq_msg_recv(&m, l->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&m);
            return zmq_errno() == EAGAIN ? GW_EAGAIN
                                         : gw_fail(GW_ESYSTEM, "link: %s", zmq_strerror(zmq_errno()));
        }
        more = zmq_msg_more(&m);
        if (first && l->router) {
            l->last.n = zmq_msg_size(&m) <= ID_BYTES ? zmq_msg_size(&m) : 0;
            memcpy(l->last.bytes, zmq_msg_data(&m), l->last.n);
        } else if (l->frames < MAX_FRAMES) {
            zmq_msg_init(&l->frame[l->frames]);
            zmq_msg_move(&l->frame[l->frames++], &m);
        } else {
            ++*extra;
        }
        zmq_msg_close(&m);
        first = false;
    }
    return l->frames ? GW_OK : gw_fail(GW_EFORMAT, "link: an empty message");
}

static int hear_control(gw_lane *l, gw_heard *m)
{
    GW_TRY(gw_control_read(zmq_msg_data(&l->frame[0]), zmq_msg_size(&l->frame[0]), &m->control));
    const size_t bytes = l->frames > 1 ? zmq_msg_size(&l->frame[1]) : 0;
    if (bytes != m->control.text_bytes)
        return gw_fail(GW_EFORMAT, "control message: a text of %zu bytes, stated %" PRIu32, bytes,
                       m->control.text_bytes);
    if (bytes + 1 > l->text_room) {
        char *room = realloc(l->text, bytes + 1);
        if (!room)
            return gw_fail(GW_ENOMEM, "control message: a text of %zu bytes", bytes);
        l->text = room;
        l->text_room = bytes + 1;
    }
    if (bytes)
        memcpy(l->text, zmq_msg_data(&l->frame[1]), bytes);
    l->text[bytes] = '\0';
    m->text = l->text;
    m->is_control = true;
    return GW_OK;
}

static int hear_block(gw_lane *l, gw_heard *m)
{
    void *data = zmq_msg_data(&l->frame[0]);
    const size_t bytes = zmq_msg_size(&l->frame[0]);
    if (l->transport == GW_INPROC) {
        gw_block *b = data;
        if (!atomic_load_explicit(&b->sealed, memory_order_acquire))
            return gw_fail(GW_EBUG, "link: a block that is still being written");
        gw_block_ref(b);
        m->block = b;
        m->header = b->hdr;
        return GW_OK;
    }
    GW_TRY(gw_header_read(data, bytes, &m->header));
    const gw_header *h = &m->header;
    const uint64_t want = h->payload_bytes + h->presence_bytes;
    if (l->transport == GW_SHM) {
        if (l->frames > 1)
            return gw_fail(GW_EFORMAT, "block: a payload frame on a shm link");
        m->where = (const char *)data + h->length;
        m->where_bytes = bytes - h->length;
        return GW_OK;
    }
    const uint64_t have = l->frames > 1 ? zmq_msg_size(&l->frame[1]) : 0;
    if (have != want)
        return gw_fail(GW_EFORMAT, "block: %" PRIu64 " bytes of payload, the header states %" PRIu64, have,
                       want);
    if (h->payload_crc && h->payload_crc != gw_crc32c(0, zmq_msg_data(&l->frame[1]), (size_t)have))
        return gw_fail(GW_EFORMAT, "block: the payload's CRC does not match");
    m->payload = have ? &l->frame[1] : NULL;
    return GW_OK;
}

int gw_lane_hear(gw_lane *l, gw_heard *m)
{
    memset(m, 0, sizeof *m);
    int extra;
    GW_TRY(receive_frames(l, &extra));
    m->stranger =
        l->router && (l->last.n != l->peer.n || memcmp(l->last.bytes, l->peer.bytes, l->last.n) != 0);
    if (extra)
        return gw_fail(GW_EFORMAT, "link: a message of %d frames", MAX_FRAMES + extra);
    /* An inproc frame's length tells what it is; the block itself is only looked at once it is known sealed.
     */
    const size_t bytes = zmq_msg_size(&l->frame[0]);
    if (l->transport == GW_INPROC ? bytes == GW_CONTROL_BYTES
                                  : gw_is_control(zmq_msg_data(&l->frame[0]), bytes))
        return hear_control(l, m);
    if (m->stranger)
        return gw_fail(GW_EFORMAT, "link: a block from a peer that has not introduced itself");
    return hear_block(l, m);
}

void gw_lane_complain(gw_lane *l, gw_link_counts *count)
{
    const uint64_t n = 1 + atomic_fetch_add_explicit(&count->malformed, 1, memory_order_relaxed);
    const int64_t now_ns = gw_monotonic_ns();
    if (l->complained_ns && now_ns - l->complained_ns < COMPLAIN_NS)
        return;
    l->complained_ns = now_ns;
    gw_log(GW_LOG_WARN, NULL, "link %s: message refused (%" PRIu64 " so far): %s", l->where, n,
           gw_err_detail());
}

/* -- speaking ---------------------------------------------------------------------------------------- */

/* After a failed zmq_send. */
static int send_failed(void)
{
    switch (zmq_errno()) {
    case EAGAIN:
        return GW_EAGAIN;
    case EHOSTUNREACH:
        return gw_fail(GW_EPEER, "link: the peer is not connected");
    default:
        return gw_fail(GW_ESYSTEM, "link: %s", zmq_strerror(zmq_errno()));
    }
}

static int send_identity(gw_lane *l, const identity *to)
{
    if (!l->router)
        return GW_OK;
    if (!to->n)
        return gw_fail(GW_EPEER, "link: no peer");
    return zmq_send(l->socket, to->bytes, to->n, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0 ? send_failed() : GW_OK;
}

static int send_control(gw_lane *l, const identity *to, const gw_control *c, const char *text)
{
    gw_control sealed = *c;
    sealed.text_bytes = text ? (uint32_t)strlen(text) : 0;
    gw_control_seal(&sealed);
    GW_TRY(send_identity(l, to));
    const int flags = ZMQ_DONTWAIT | (sealed.text_bytes ? ZMQ_SNDMORE : 0);
    if (zmq_send(l->socket, &sealed, sizeof sealed, flags) < 0)
        return send_failed();
    if (sealed.text_bytes && zmq_send(l->socket, text, sealed.text_bytes, ZMQ_DONTWAIT) < 0)
        return send_failed();
    return GW_OK;
}

int gw_lane_say(gw_lane *l, const gw_control *c, const char *text)
{
    return send_control(l, &l->peer, c, text);
}

int gw_lane_answer(gw_lane *l, const gw_control *c, const char *text)
{
    return send_control(l, &l->last, c, text);
}

static void release_block(void *data, void *hint)
{
    (void)data;
    gw_block *b = hint;
    gw_block_unref(&b);
}

/* Sends `bytes` at `data`, which lie in b: nothing is copied here, and b stays until ZeroMQ is done. */
static int send_borrowed(gw_lane *l, gw_block *b, void *data, size_t bytes)
{
    zmq_msg_t m;
    gw_block_ref(b);
    if (zmq_msg_init_data(&m, data, bytes, release_block, b) != 0) {
        gw_block_unref(&b);
        return gw_fail(GW_ENOMEM, "link: message");
    }
    if (zmq_msg_send(&m, l->socket, ZMQ_DONTWAIT) >= 0)
        return GW_OK;
    int err = send_failed();
    zmq_msg_close(&m); /* gives the reference back */
    return err;
}

static int send_copy(gw_lane *l, const void *data, size_t bytes, int more)
{
    return zmq_send(l->socket, data, bytes, ZMQ_DONTWAIT | more) < 0 ? send_failed() : GW_OK;
}

/* Channels [c0, c0 + n) of a tail. */
static void cut_presence(const uint8_t *from, uint32_t c0, uint32_t n, uint8_t *to)
{
    memset(to, 0, (n + 7) / 8);
    for (uint32_t i = 0; i < n; i++)
        if (gw_present(from, c0 + i))
            to[i / 8] |= (uint8_t)(1u << i % 8);
}

/* A slice with a tail is rare (some channel is absent) and is put together in a message of its own. */
static int send_slice_with_tail(gw_lane *l, gw_block *b, gw_header *h, const char *payload)
{
    zmq_msg_t m;
    const size_t bytes = h->payload_bytes + h->presence_bytes;
    if (zmq_msg_init_size(&m, bytes) != 0)
        return gw_fail(GW_ENOMEM, "link: message of %zu bytes", bytes);
    char *data = zmq_msg_data(&m);
    memcpy(data, payload, h->payload_bytes);
    cut_presence(gw_block_presence(b), h->channel0 - b->hdr.channel0, h->n_channels,
                 (uint8_t *)data + h->payload_bytes);
    if (l->crc)
        h->payload_crc = gw_crc32c(0, data, bytes);
    gw_header_seal(h);
    int err = send_copy(l, h, sizeof *h, ZMQ_SNDMORE);
    if (err == GW_OK && zmq_msg_send(&m, l->socket, ZMQ_DONTWAIT) >= 0)
        return GW_OK;
    err = err == GW_OK ? send_failed() : err;
    zmq_msg_close(&m);
    return err;
}

static int send_on_wire(gw_lane *l, gw_block *b, gw_header *h, uint32_t channel0)
{
    if (h->flags & GW_FLAG_GAP) {
        gw_header_seal(h);
        return send_copy(l, h, sizeof *h, 0);
    }
    const size_t row = (size_t)h->n_samples * gw_dtype_bytes((gw_dtype)h->dtype);
    char *payload = (char *)b->data + row * channel0;
    const bool whole = h->n_channels == b->hdr.n_channels;
    h->payload_bytes = row * h->n_channels;
    if (h->presence_bytes) {
        h->presence_bytes = (h->n_channels + 7) / 8;
        h->presence_offset = (uint32_t)h->payload_bytes;
    }
    if (h->presence_bytes && !whole)
        return send_slice_with_tail(l, b, h, payload);
    const size_t bytes = h->payload_bytes + h->presence_bytes;
    if (l->crc)
        h->payload_crc = gw_crc32c(0, payload, bytes);
    gw_header_seal(h);
    GW_TRY(send_copy(l, h, sizeof *h, ZMQ_SNDMORE));
    return send_borrowed(l, b, payload, bytes);
}

static int send_on_shm(gw_lane *l, gw_block *b, gw_header *h)
{
    struct {
        gw_header header;
        gw_descriptor where;
    } m = {.header = *h};
    if (!(h->flags & GW_FLAG_GAP)) {
        if (!gw_pool_owns(l->pool, b))
            return gw_fail(GW_EBUG, "link: a block that is not of the shared pool");
        m.where = (gw_descriptor){.offset = gw_pool_offset(l->pool, b), .capacity = b->capacity};
    }
    gw_header_seal(&m.header);
    return send_copy(l, &m, sizeof m, 0);
}

int gw_lane_send(gw_lane *l, gw_block *b, uint64_t number, uint32_t channel0, uint32_t n_channels)
{
    if (l->transport == GW_INPROC)
        return send_borrowed(l, b, b, GW_HEADER_BYTES);
    gw_header h = b->hdr;
    h.seq = number;
    if (!(h.flags & GW_FLAG_GAP)) {
        h.channel0 = b->hdr.channel0 + channel0;
        h.n_channels = n_channels;
    }
    GW_TRY(send_identity(l, &l->peer));
    return l->transport == GW_SHM ? send_on_shm(l, b, &h) : send_on_wire(l, b, &h, channel0);
}
