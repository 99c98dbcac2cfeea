/* SPDX-License-Identifier: GPL-3.0-or-later
 * One end of a link and nothing else, as a program that the fault tests start, stop and kill. The sender's
 * samples, block lengths, GAPs and absent channels are functions of seed and sample number, so the
 * receiver checks every one of them knowing only the seed. Lines of JSON on stdout: "open", progress once a
 * second, and the end. --trace FILE gets one record for each block worked off, written before its credit
 * goes back: what was confirmed is in the file, also after kill -9.
 *
 *   link_driver send|receive ADDRESS [--transport tcp] [--listen] [--blocks 1000] ... (see usage()) */
#include "pipeline/link.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct options {
    bool send, listen, crc, drop;
    gw_transport transport;
    const char *address, *trace;
    int lanes, credit, slabs;
    uint32_t samples, channels, rate_hz;
    uint64_t blocks, seed;
    int gap_percent, absent_percent;
    double blocks_per_s;
    int pause_us, hold; /* receiver: per block; blocks held back before their credit is returned */
    int64_t first;      /* sender: its first sample */
    uint64_t leave_after;
    double patience_s; /* without a block before the receiver ends by itself */
} options;

typedef struct trace_record { /* little-endian as the hosts are; read by faults.py */
    int64_t monotonic_ns, sample0;
    uint64_t samples; /* of the block or the GAP */
    uint64_t session, seq;
    uint32_t flags, reason;
} trace_record;
_Static_assert(sizeof(trace_record) == 48, "faults.py reads 48 bytes");

typedef struct tally {
    uint64_t blocks, gaps, samples, gap_samples, sessions, hole_samples;
    uint64_t wrong_samples, wrong_tiles, wrong_presence, wrong_seq;
    int64_t end;
    uint64_t session, next_seq;
    int err;
} tally;

static volatile sig_atomic_t stop;
static gw_link_counts counts;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* -- the stream, from seed and sample number --------------------------------------------------------- */

static uint64_t mix(uint64_t x) /* splitmix64's finaliser */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t draw(const options *o, int64_t sample0, uint64_t what)
{
    return mix(mix(o->seed + what * 0x632be59bd9b4e019u) ^ (uint64_t)sample0);
}

enum { DRAW_GAP, DRAW_LENGTH, DRAW_ABSENT, DRAW_CHANNEL };

static float sample_value(uint64_t channel_seed, int64_t sample)
{
    uint64_t x = channel_seed ^ (uint64_t)sample * 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return (float)(int32_t)(x >> 40) * 0x1p-20f; /* 24 bits: exact in float32 */
}

static uint64_t channel_seed(const options *o, uint32_t channel)
{
    return mix(o->seed ^ (uint64_t)channel << 40);
}

static uint64_t length_at(const options *o, int64_t sample0, bool *gap)
{
    *gap = (int)(draw(o, sample0, DRAW_GAP) % 100) < o->gap_percent;
    const uint64_t any = draw(o, sample0, DRAW_LENGTH);
    if (*gap)
        return 1 + any % (3 * (uint64_t)o->samples);
    const uint64_t room = o->samples - (uint64_t)sample0 % o->samples; /* to the next multiple */
    return any % 4 ? room : 1 + (any >> 2) % room;
}

static bool has_absent(const options *o, int64_t sample0)
{
    return (int)(draw(o, sample0, DRAW_ABSENT) % 100) < o->absent_percent;
}

static bool is_absent(const options *o, int64_t sample0, uint32_t channel)
{
    return mix(draw(o, sample0, DRAW_CHANNEL) + channel) % 4 == 0;
}

static void fill(const options *o, gw_block *b, int64_t sample0, uint64_t seq, uint64_t run_id)
{
    bool gap;
    const uint64_t n = length_at(o, sample0, &gap);
    gw_header *h = &b->hdr;
    h->run_id = run_id;
    h->seq = seq;
    h->sample0 = sample0;
    h->dtype = GW_F32;
    h->dq = GW_DQ_ALL;
    if (gap) {
        h->flags = GW_FLAG_GAP;
        h->gap_samples = n;
        h->gap_reason = GW_GAP_ABSENT;
        gw_block_seal(b);
        return;
    }
    h->n_samples = (uint32_t)n;
    h->n_channels = o->channels;
    h->payload_bytes = n * o->channels * sizeof(float);
    float *x = b->data; /* [channel][sample] */
    for (uint32_t c = 0; c < o->channels; c++) {
        const uint64_t seed = channel_seed(o, c);
        for (uint64_t i = 0; i < n; i++)
            *x++ = sample_value(seed, sample0 + (int64_t)i);
    }
    if (has_absent(o, sample0)) {
        h->presence_offset = (uint32_t)h->payload_bytes;
        h->presence_bytes = (o->channels + 7) / 8;
        uint8_t *bits = (uint8_t *)b->data + h->presence_offset;
        memset(bits, 0, h->presence_bytes);
        for (uint32_t c = 0; c < o->channels; c++)
            if (!is_absent(o, sample0, c))
                bits[c / 8] |= (uint8_t)(1u << c % 8);
    }
    gw_block_seal(b);
}

/* On a dropping link a GAP may stand anywhere, so only what is there can be checked. */
static void check_block(const options *o, tally *t, const gw_block *b)
{
    const gw_header *h = &b->hdr;
    bool gap;
    const uint64_t want = length_at(o, h->sample0, &gap);
    if (h->flags & GW_FLAG_GAP) {
        if (!o->drop && (!gap || h->gap_samples != want))
            t->wrong_tiles++;
        return;
    }
    if (gap || h->n_samples != want || h->n_channels != o->channels ||
        h->payload_bytes != want * o->channels * sizeof(float)) {
        t->wrong_tiles++;
        return;
    }
    const float *x = b->data;
    for (uint32_t c = 0; c < o->channels; c++) {
        const uint64_t seed = channel_seed(o, c);
        uint64_t wrong = 0;
        for (uint64_t i = 0; i < want; i++)
            wrong += *x++ != sample_value(seed, h->sample0 + (int64_t)i);
        t->wrong_samples += wrong;
    }
    const uint8_t *bits = gw_block_presence(b);
    if (has_absent(o, h->sample0) != (bits != NULL))
        t->wrong_presence++;
    for (uint32_t c = 0; bits && c < o->channels; c++)
        t->wrong_presence += gw_present(bits, c) == is_absent(o, h->sample0, c);
}

/* -- what is told ------------------------------------------------------------------------------------ */

static long status_kib(const char *key)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)))
            kib = strtol(line + strlen(key), NULL, 10);
    if (f)
        fclose(f);
    return kib;
}

static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n - 3; /* itself, . and .. */
}

static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text >= 0x20)
            putchar(*text);
    putchar('"');
}

static void tell(const options *o, const char *what, const tally *t)
{
    printf("{\"what\":\"%s\",\"role\":\"%s\",\"monotonic_ns\":%" PRId64 ",\"error\":\"%s\",\"detail\":", what,
           o->send ? "send" : "receive", gw_monotonic_ns(), t->err ? gw_err_name(t->err) : "");
    print_quoted(t->err ? gw_err_detail() : "");
    printf(",\"blocks\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"samples\":%" PRIu64 ",\"gap_samples\":%" PRIu64
           ",\"end\":%" PRId64 ",\"sessions\":%" PRIu64 ",\"hole_samples\":%" PRIu64,
           t->blocks, t->gaps, t->samples, t->gap_samples, t->end, t->sessions, t->hole_samples);
    printf(",\"wrong\":{\"samples\":%" PRIu64 ",\"tiles\":%" PRIu64 ",\"presence\":%" PRIu64
           ",\"seq\":%" PRIu64 "}",
           t->wrong_samples, t->wrong_tiles, t->wrong_presence, t->wrong_seq);
    printf(",\"counts\":{\"blocks\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"bytes\":%" PRIu64
           ",\"copied_bytes\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"dropped_samples\":%" PRIu64
           ",\"resent\":%" PRIu64 ",\"duplicates\":%" PRIu64 ",\"malformed\":%" PRIu64
           ",\"sessions\":%" PRIu64 ",\"credits\":%" PRId64 "}",
           atomic_load(&counts.blocks), atomic_load(&counts.gaps), atomic_load(&counts.bytes),
           atomic_load(&counts.copied_bytes), atomic_load(&counts.dropped),
           atomic_load(&counts.dropped_samples), atomic_load(&counts.resent), atomic_load(&counts.duplicates),
           atomic_load(&counts.malformed), atomic_load(&counts.sessions), atomic_load(&counts.credits));
    printf(",\"rss_kib\":%ld,\"rss_peak_kib\":%ld,\"fds\":%d}\n", status_kib("VmRSS:"), status_kib("VmHWM:"),
           open_fds());
    fflush(stdout);
}

static void tell_progress(const options *o, const tally *t)
{
    static int64_t last_ns;
    const int64_t now = gw_monotonic_ns();
    if (now - last_ns >= GW_SECOND_NS) {
        last_ns = now;
        tell(o, "progress", t);
    }
}

/* -- the two ends ------------------------------------------------------------------------------------ */

enum { MAX_POLL = 2 * GW_MAX_LANES + 8, BEAT_MS = 100, MAX_HELD = 64 };

static void sleep_until(int64_t ns)
{
    const int64_t left = ns - gw_monotonic_ns();
    if (left > 0)
        usleep((useconds_t)(left / 1000));
}

/* Waits for the link, but not beyond `until_ns`. */
static int wait_sender(gw_sender *s, int64_t until_ns)
{
    zmq_pollitem_t item[MAX_POLL];
    const int n = gw_sender_poll(s, item, MAX_POLL);
    int64_t left_ms = (until_ns - gw_monotonic_ns()) / 1000000;
    left_ms = left_ms < 0 ? 0 : left_ms > BEAT_MS ? BEAT_MS : left_ms;
    (void)zmq_poll(item, n, left_ms);
    return gw_sender_pump(s);
}

static int send_all(const options *o, const gw_link_conf *c, gw_pool *pool, tally *t)
{
    gw_sender *s;
    GW_TRY(gw_sender_open(&s, c));
    tell(o, "open", t);
    t->end = o->first;
    const int64_t started_ns = gw_monotonic_ns();
    int err = GW_OK;
    while (err == GW_OK && !stop && t->blocks < o->blocks) {
        tell_progress(o, t);
        if (o->blocks_per_s > 0) {
            const int64_t due_ns = started_ns + (int64_t)((double)t->blocks / o->blocks_per_s * 1e9);
            while (err == GW_OK && gw_monotonic_ns() < due_ns - 1000000 && !stop)
                err = wait_sender(s, due_ns);
            sleep_until(due_ns);
        }
        gw_block *b;
        if (err != GW_OK || (err = gw_sender_pump(s)) != GW_OK)
            break;
        if (!gw_sender_ready(s) || gw_pool_take(pool, &b) != GW_OK) {
            err = wait_sender(s, INT64_MAX);
            continue;
        }
        fill(o, b, t->end, t->blocks, c->session);
        t->end += (int64_t)(b->hdr.n_samples + b->hdr.gap_samples);
        t->samples += b->hdr.n_samples;
        t->gap_samples += b->hdr.gap_samples;
        t->gaps += (b->hdr.flags & GW_FLAG_GAP) != 0;
        t->blocks++;
        err = gw_sender_give(s, b);
    }
    while (err == GW_OK && (err = gw_sender_finish(s)) == GW_EAGAIN) {
        tell_progress(o, t);
        err = wait_sender(s, INT64_MAX);
    }
    t->err = err;
    tell(o, "end", t);
    gw_sender_close(&s);
    return err;
}

static void account(const options *o, const gw_receiver *r, tally *t, const gw_block *b, int trace)
{
    const gw_header *h = &b->hdr;
    const uint64_t session = gw_receiver_session(r), n = h->n_samples + h->gap_samples;
    if (session != t->session || t->blocks == 0) {
        if (t->blocks)
            t->hole_samples += h->sample0 > t->end ? (uint64_t)(h->sample0 - t->end) : 0;
        t->wrong_tiles += t->blocks && h->sample0 < t->end;
        t->sessions++;
        t->session = session;
    } else {
        t->wrong_tiles += h->sample0 != t->end;
        t->wrong_seq += h->seq != t->next_seq;
    }
    t->next_seq = h->seq + 1;
    t->end = h->sample0 + (int64_t)n;
    t->blocks++;
    t->samples += h->n_samples;
    t->gap_samples += h->gap_samples;
    t->gaps += (h->flags & GW_FLAG_GAP) != 0;
    check_block(o, t, b);
    const trace_record record = {.monotonic_ns = gw_monotonic_ns(),
                                 .sample0 = h->sample0,
                                 .samples = n,
                                 .session = session,
                                 .seq = h->seq,
                                 .flags = h->flags,
                                 .reason = h->gap_reason};
    if (trace >= 0 && write(trace, &record, sizeof record) != (ssize_t)sizeof record)
        t->wrong_tiles++;
}

static int receive_all(const options *o, const gw_link_conf *c, int trace, tally *t)
{
    gw_receiver *r;
    GW_TRY(gw_receiver_open(&r, c));
    tell(o, "open", t);
    gw_block *held[MAX_HELD + 1];
    int n_held = 0, err = GW_OK;
    int64_t heard_ns = gw_monotonic_ns();
    while (!stop && (!o->leave_after || t->blocks < o->leave_after)) {
        tell_progress(o, t);
        gw_block *b;
        err = gw_receiver_take(r, &b);
        if (err == GW_EAGAIN) {
            err = GW_OK;
            if (n_held > 0 && (err = gw_receiver_done(r, &held[--n_held])) != GW_OK)
                break;
            zmq_pollitem_t item[MAX_POLL];
            const int n = gw_receiver_poll(r, item, MAX_POLL);
            (void)zmq_poll(item, n, BEAT_MS);
            if (o->patience_s > 0 && gw_monotonic_ns() - heard_ns > (int64_t)(o->patience_s * 1e9)) {
                err = gw_fail(GW_EAGAIN, "no block for %.1f s", o->patience_s);
                break;
            }
            continue;
        }
        if (err != GW_OK)
            break;
        heard_ns = gw_monotonic_ns();
        account(o, r, t, b, trace);
        if (o->pause_us)
            usleep((useconds_t)o->pause_us);
        held[n_held++] = b;
        if (n_held > o->hold) { /* given back out of order */
            const int k = (int)(mix(t->blocks) % (uint64_t)n_held);
            b = held[k];
            held[k] = held[--n_held];
            err = gw_receiver_done(r, &b);
        }
        if (err != GW_OK)
            break;
    }
    while (n_held > 0)
        (void)gw_receiver_done(r, &held[--n_held]);
    t->err = err == GW_EEND ? GW_OK : err;
    tell(o, err == GW_EEND ? "end" : "left", t);
    gw_receiver_close(&r);
    return t->err;
}

static int run(const options *o)
{
    gw_spec spec = {.name = "driver",
                    .rate = {o->rate_hz, 1},
                    .dtype = GW_F32,
                    .block_samples = o->samples,
                    .unit = "counts"};
    GW_TRY(gw_spec_set_channels(&spec, o->channels, NULL));
    uint64_t session = 0;
    if (getrandom(&session, sizeof session, 0) != (ssize_t)sizeof session || !session)
        session = (uint64_t)getpid();
    tally t = {.err = GW_OK};
    gw_pool *pool = NULL, *gaps = NULL;
    void *zmq = zmq_ctx_new();
    int err = zmq ? GW_OK : gw_fail(GW_ESYSTEM, "zmq_ctx_new");
    if (err == GW_OK && o->send)
        err = gw_pool_new(&pool, "driver", o->slabs, gw_spec_slab_bytes(&spec),
                          o->transport == GW_SHM ? GW_SPACE_SHARED : GW_SPACE_HOST);
    if (err == GW_OK && o->send && o->drop)
        err = gw_pool_new(&gaps, "driver gaps", o->credit + 2, 0, GW_SPACE_HOST);
    const int trace = o->trace ? open(o->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (err == GW_OK && o->trace && trace < 0)
        err = gw_fail(GW_EIO, "%s", o->trace);
    const gw_link_conf c = {.zmq = zmq,
                            .transport = o->transport,
                            .address = o->address,
                            .listen = o->listen,
                            .lanes = o->lanes,
                            .spec = &spec,
                            .session = session,
                            .credit = o->credit,
                            .on_full = o->drop ? GW_DROP : GW_WAIT,
                            .pool = pool,
                            .gaps = gaps,
                            .crc = o->crc,
                            .counts = &counts};
    if (err == GW_OK)
        err = o->send ? send_all(o, &c, pool, &t) : receive_all(o, &c, trace, &t);
    if (err != GW_OK && t.err == GW_OK) { /* it did not even open */
        t.err = err;
        tell(o, "refused", &t);
    }
    if (zmq)
        zmq_ctx_term(zmq); /* its threads let go of the last messages */
    if (pool && gw_pool_free_slabs(pool) != o->slabs)
        printf("{\"what\":\"leak\",\"slabs\":%d}\n", o->slabs - gw_pool_free_slabs(pool));
    gw_pool_destroy(&pool);
    gw_pool_destroy(&gaps);
    gw_spec_free(&spec);
    if (trace >= 0)
        close(trace);
    const bool wrong = t.wrong_samples || t.wrong_tiles || t.wrong_presence || t.wrong_seq;
    return err != GW_OK ? 1 : wrong ? 3 : 0;
}

/* -- the command line -------------------------------------------------------------------------------- */

static int usage(void)
{
    fputs(
        "link_driver send|receive ADDRESS\n"
        "  --transport shm|ipc|tcp --listen --lanes N --credit N --crc --drop --slabs N\n"
        "  --samples N --channels N --rate HZ --seed N --gaps PERCENT --absent PERCENT\n"
        "send:    --blocks N --first SAMPLE --speed BLOCKS_PER_SECOND\n"
        "receive: --pause MICROSECONDS --hold BLOCKS --leave-after BLOCKS --patience SECONDS --trace FILE\n",
        stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"transport", 1, NULL, 't'},   {"listen", 0, NULL, 'l'},
                                          {"lanes", 1, NULL, 'n'},       {"credit", 1, NULL, 'c'},
                                          {"crc", 0, NULL, 'k'},         {"drop", 0, NULL, 'd'},
                                          {"slabs", 1, NULL, 'b'},       {"samples", 1, NULL, 's'},
                                          {"channels", 1, NULL, 'w'},    {"rate", 1, NULL, 'r'},
                                          {"seed", 1, NULL, 'e'},        {"gaps", 1, NULL, 'g'},
                                          {"absent", 1, NULL, 'a'},      {"blocks", 1, NULL, 'm'},
                                          {"first", 1, NULL, 'f'},       {"speed", 1, NULL, 'v'},
                                          {"pause", 1, NULL, 'p'},       {"hold", 1, NULL, 'h'},
                                          {"leave-after", 1, NULL, 'q'}, {"patience", 1, NULL, 'i'},
                                          {"trace", 1, NULL, 'o'},       {NULL, 0, NULL, 0}};
    options o = {.transport = GW_TCP,
                 .lanes = 1,
                 .credit = 8,
                 .samples = 1024,
                 .channels = 4,
                 .rate_hz = 16384,
                 .blocks = 1000,
                 .seed = 1,
                 .gap_percent = 5,
                 .absent_percent = 10};
    for (int k; (k = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        const long n = optarg ? strtol(optarg, NULL, 10) : 0;
        switch (k) {
        case 't':
            o.transport = !strcmp(optarg, "shm") ? GW_SHM : !strcmp(optarg, "ipc") ? GW_IPC : GW_TCP;
            break;
        case 'l':
            o.listen = true;
            break;
        case 'n':
            o.lanes = (int)n;
            break;
        case 'c':
            o.credit = (int)n;
            break;
        case 'k':
            o.crc = true;
            break;
        case 'd':
            o.drop = true;
            break;
        case 'b':
            o.slabs = (int)n;
            break;
        case 's':
            o.samples = (uint32_t)n;
            break;
        case 'w':
            o.channels = (uint32_t)n;
            break;
        case 'r':
            o.rate_hz = (uint32_t)n;
            break;
        case 'e':
            o.seed = (uint64_t)n;
            break;
        case 'g':
            o.gap_percent = (int)n;
            break;
        case 'a':
            o.absent_percent = (int)n;
            break;
        case 'm':
            o.blocks = (uint64_t)n;
            break;
        case 'f':
            o.first = n;
            break;
        case 'v':
            o.blocks_per_s = strtod(optarg, NULL);
            break;
        case 'p':
            o.pause_us = (int)n;
            break;
        case 'h':
            o.hold = n < MAX_HELD ? (int)n : MAX_HELD;
            break;
        case 'q':
            o.leave_after = (uint64_t)n;
            break;
        case 'i':
            o.patience_s = strtod(optarg, NULL);
            break;
        case 'o':
            o.trace = optarg;
            break;
        default:
            return usage();
        }
    }
    if (argc - optind != 2)
        return usage();
    o.send = !strcmp(argv[optind], "send");
    o.address = argv[optind + 1];
    o.slabs = o.slabs ? o.slabs : (o.drop ? 2 : 1) * o.credit + 2; /* what is kept, and a queue that drops */
    const struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGTERM, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    return run(&o);
}
