/* SPDX-License-Identifier: GPL-3.0-or-later
 * The smallest C client of docs/wire.md: sends one stream of samples to a live source of gwstream. Needs
 * libzmq, and nothing of gwstream: cc feed.c -lzmq -o feed
 *
 *   feed ADDRESS SPEC SAMPLE0 [SERVER.key OWN.key_secret] < samples
 *
 * SPEC is the stream's spec as JSON, "channels" as a number, without spaces after colons. The input is blocks
 * one after the other, each [channel][block_samples] in the spec's type, little-endian (as is this machine,
 * it is supposed); the first begins at sample number SAMPLE0. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { HELLO = 1, SPEC, CREDIT, BEAT, EOS, BYE, GONE };
enum { KEEP = 32, REFUSED = 1, BEAT_MS = 250 };

typedef struct control {
    uint32_t magic;
    uint16_t version, type;
    uint64_t session, count, limit, spec_hash;
    uint32_t text_bytes, epoch, reserved[3], crc;
} control;

typedef struct header {
    uint32_t magic;
    uint16_t version, length;
    uint32_t flags;
    uint8_t dtype, reserved8[3];
    uint64_t run_id, seq;
    int64_t sample0;
    uint32_t n_samples, n_channels, channel0, stream_id;
    uint64_t payload_bytes, gap_samples, dq;
    int64_t due_ns, ingest_ns;
    uint32_t presence_offset, presence_bytes, payload_crc, reserved32[3], gap_reason, header_crc;
} header;

static struct feed {
    void *socket;
    const char *spec;
    uint64_t session, peer; /* ours; the receiver's, once it has said HELLO */
    uint64_t next, base, cursor, limit;
    uint32_t epoch;
    int ended, bye;
    int64_t said_ms;
    header head[KEEP]; /* what the receiver has not worked off: numbers base .. next - 1 */
    char *block[KEEP];
    size_t block_bytes;
} feed;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint32_t crc32c(const void *data, size_t n)
{
    static uint32_t table[256];
    for (uint32_t i = 0; !table[255] && i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
    }
    uint32_t crc = 0xffffffffu;
    for (const unsigned char *p = data; n; n--)
        crc = crc >> 8 ^ table[(crc ^ *p++) & 255];
    return ~crc;
}

/* Nothing here waits: what cannot be sent now is sent, or said, again. */
static int send_frames(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    if (zmq_send(feed.socket, a, a_bytes, ZMQ_DONTWAIT | (b_bytes ? ZMQ_SNDMORE : 0)) < 0)
        return 0;
    return !b_bytes || zmq_send(feed.socket, b, b_bytes, ZMQ_DONTWAIT) >= 0;
}

static void say(uint16_t type, uint64_t count)
{
    const size_t text = type == SPEC ? strlen(feed.spec) : 0;
    control c = {.magic = 0x43535747,
                 .version = 1,
                 .type = type,
                 .session = feed.session,
                 .count = count,
                 .epoch = feed.epoch,
                 .text_bytes = (uint32_t)text};
    c.crc = crc32c(&c, offsetof(control, crc));
    send_frames(&c, sizeof c, feed.spec, text);
    feed.said_ms = now_ms();
}

static void hear(const control *c, const char *text)
{
    if (c->type == HELLO) {
        feed.peer = c->session;
        feed.epoch = c->epoch;
        feed.limit = c->limit;
        feed.cursor = c->count == UINT64_MAX || c->count < feed.base ? feed.base : c->count;
        if (feed.cursor > feed.next)
            feed.cursor = feed.next;
        if (c->limit == 0) /* it wants to know the stream first */
            say(SPEC, feed.base);
    } else if (c->type == GONE && c->count == REFUSED) {
        fail("refused", text);
    } else if (c->session != feed.peer) {
        return;
    } else if (c->type == CREDIT) {
        const uint64_t done = c->count < feed.next ? c->count : feed.next;
        feed.base = done > feed.base ? done : feed.base;
        feed.limit = c->limit > feed.limit ? c->limit : feed.limit;
        feed.cursor = feed.cursor < feed.base ? feed.base : feed.cursor;
    } else if (c->type == BYE && feed.ended && c->count == feed.next) {
        feed.bye = 1;
        say(GONE, 0);
    } else if (c->type == GONE) {
        feed.peer = 0; /* another receiver may come */
    }
}

static void hear_all(void)
{
    for (;;) {
        control c;
        char text[2048] = "";
        int n = zmq_recv(feed.socket, &c, sizeof c, ZMQ_DONTWAIT), more = 0;
        if (n < 0)
            return;
        size_t size = sizeof more;
        for (zmq_getsockopt(feed.socket, ZMQ_RCVMORE, &more, &size); more;
             zmq_getsockopt(feed.socket, ZMQ_RCVMORE, &more, &size)) {
            int m = zmq_recv(feed.socket, text, sizeof text - 1, 0);
            text[m < 0 ? 0 : m < (int)sizeof text ? m : (int)sizeof text - 1] = '\0';
        }
        if (n == (int)sizeof c && c.magic == 0x43535747 && c.version == 1 &&
            c.crc == crc32c(&c, offsetof(control, crc)))
            hear(&c, text);
    }
}

static void pump(void)
{
    hear_all();
    for (; feed.peer && feed.cursor < feed.next && feed.cursor < feed.limit; feed.cursor++)
        if (!send_frames(&feed.head[feed.cursor % KEEP], sizeof(header), feed.block[feed.cursor % KEEP],
                         feed.block_bytes))
            break;
    if (now_ms() - feed.said_ms < BEAT_MS || feed.bye)
        return;
    if (!feed.peer)
        say(SPEC, feed.base);
    else
        say(feed.ended && feed.cursor == feed.next ? EOS : BEAT, feed.cursor);
}

static void give(int64_t sample0, uint32_t n_samples, uint32_t n_channels, uint8_t dtype)
{
    header *h = &feed.head[feed.next % KEEP];
    *h = (header){.magic = 0x42535747,
                  .version = 1,
                  .length = sizeof *h,
                  .dtype = dtype,
                  .run_id = feed.session,
                  .seq = feed.next,
                  .sample0 = sample0,
                  .n_samples = n_samples,
                  .n_channels = n_channels,
                  .payload_bytes = feed.block_bytes,
                  .dq = 0x1f007f,
                  .payload_crc = crc32c(feed.block[feed.next % KEEP], feed.block_bytes)};
    h->header_crc = crc32c(h, offsetof(header, header_crc));
    feed.next++;
}

/* The number behind "key": in the spec. */
static uint32_t number(const char *spec, const char *key)
{
    const char *at = strstr(spec, key);
    long v = at ? strtol(at + strlen(key), NULL, 10) : 0;
    if (v < 1)
        fail(key, "expected a number in the spec");
    return (uint32_t)v;
}

static void read_key(const char *path, const char *which, int option)
{
    char line[256], key[41] = "";
    FILE *f = fopen(path, "r");
    if (!f)
        fail(path, strerror(errno));
    while (!key[0] && fgets(line, sizeof line, f))
        if (strstr(line, which) && strchr(line, '"'))
            snprintf(key, sizeof key, "%s", strchr(line, '"') + 1);
    fclose(f);
    if (zmq_setsockopt(feed.socket, option, key, sizeof key) != 0)
        fail(path, "no key");
}

static void open_socket(void *zmq, int argc, char **argv)
{
    const int on = 1, linger_ms = 500;
    feed.socket = zmq_socket(zmq, ZMQ_DEALER);
    zmq_setsockopt(feed.socket, ZMQ_IMMEDIATE, &on, sizeof on); /* no queue without a connection */
    zmq_setsockopt(feed.socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    if (argc == 6) {
        read_key(argv[4], "public-key", ZMQ_CURVE_SERVERKEY);
        read_key(argv[5], "public-key", ZMQ_CURVE_PUBLICKEY);
        read_key(argv[5], "secret-key", ZMQ_CURVE_SECRETKEY);
    }
    if (zmq_connect(feed.socket, argv[1]) != 0)
        fail(argv[1], zmq_strerror(zmq_errno()));
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 6) {
        fputs("usage: feed ADDRESS SPEC SAMPLE0 [SERVER.key OWN.key_secret] < samples\n", stderr);
        return 2;
    }
    static const char *const type[] = {"\"float32\"", "\"float64\"", "\"int16\"", "\"int32\""};
    static const uint8_t type_bytes[] = {4, 8, 2, 4};
    uint8_t dtype = 0;
    for (uint8_t i = 0; i < 4; i++)
        dtype = strstr(argv[2], type[i]) ? (uint8_t)(i + 1) : dtype;
    if (!dtype)
        fail("SPEC", "no dtype");
    const uint32_t channels = number(argv[2], "\"channels\":"), n = number(argv[2], "\"block_samples\":");
    int64_t sample0 = strtoll(argv[3], NULL, 10);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    feed.session = ((uint64_t)t.tv_sec << 30 ^ (uint64_t)t.tv_nsec) << 4 ^ (uint64_t)getpid();
    feed.spec = argv[2];
    feed.block_bytes = (size_t)channels * n * type_bytes[dtype - 1];
    for (int i = 0; i < KEEP; i++)
        if (!(feed.block[i] = malloc(feed.block_bytes)))
            fail("memory", strerror(errno));
    void *zmq = zmq_ctx_new();
    open_socket(zmq, argc, argv);
    for (size_t have = 0; !feed.bye; pump()) { /* bytes of the block that is being read */
        const int room = !feed.ended && feed.next - feed.base < KEEP;
        zmq_pollitem_t item[2] = {{.socket = feed.socket, .events = ZMQ_POLLIN},
                                  {.fd = 0, .events = ZMQ_POLLIN}};
        zmq_poll(item, room ? 2 : 1, BEAT_MS / 5);
        if (!room || !item[1].revents)
            continue;
        ssize_t got = read(0, feed.block[feed.next % KEEP] + have, feed.block_bytes - have);
        feed.ended = got <= 0;
        have += feed.ended ? 0 : (size_t)got;
        if (have == feed.block_bytes) {
            give(sample0, n, channels, dtype);
            sample0 += n;
            have = 0;
        }
        if (feed.ended && have)
            fprintf(stderr, "%zu bytes at the end are no whole block and were not sent\n", have);
    }
    zmq_close(feed.socket);
    zmq_ctx_term(zmq);
    return 0;
}
