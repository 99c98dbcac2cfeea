/* SPDX-License-Identifier: GPL-3.0-or-later
 * Closing a link loses nothing: over each transport, N times, a sender gives a random number of blocks and
 * GAPs of random lengths and closes as soon as gw_sender_finish lets it; the receiver, with a random credit,
 * is now slow and now quick, gives blocks back late and out of step, and closes at the end of the stream.
 * Every block must have come once, in order, with its content, and every slab must be home. Two processes a
 * run (inproc: two threads); which end listens and which comes first is random too. One line a transport.
 *
 *   close_driver [RUNS] [SEED] [TRANSPORT]     exit status 0 or 1 */
#include "pipeline/link.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_SAMPLES = 4096, MAX_HELD = 16, PATIENCE_S = 20 };

/* One run, in memory that both ends share. */
typedef struct run {
    gw_transport transport;
    bool curve, sender_listens;
    int credit, held; /* held: blocks the receiver keeps before it gives the oldest back */
    uint64_t seed, blocks;
    int late_us[2]; /* sender, receiver */
    char address[64];
    gw_keys keys[2];
    uint64_t came, wrong;
    int err[2];
    char text[2][512];
} run;

static uint64_t mix(uint64_t x) /* splitmix64's finaliser */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t draw(const run *r, uint64_t block, uint64_t what)
{
    return mix(mix(r->seed + what * 0x632be59bd9b4e019u) ^ block);
}

/* Block k of a run: its length, and whether it is a GAP. */
static uint32_t samples_of(const run *r, uint64_t k)
{
    return 1 + (uint32_t)(draw(r, k, 1) % (draw(r, k, 2) % 4 ? 64 : MAX_SAMPLES));
}

static bool is_gap(const run *r, uint64_t k)
{
    return draw(r, k, 3) % 8 == 0;
}

static int conf_of(const run *r, bool sends, void *zmq, gw_spec *spec, gw_link_conf *c)
{
    *spec = (gw_spec){
        .name = "close", .rate = {16384, 1}, .dtype = GW_I32, .n_channels = 1, .block_samples = MAX_SAMPLES};
    *c = (gw_link_conf){.zmq = zmq,
                        .transport = r->transport,
                        .address = r->address,
                        .listen = sends == r->sender_listens,
                        .spec = spec,
                        .session = r->seed + (sends ? 1 : 2),
                        .credit = r->credit,
                        .crc = r->transport == GW_TCP,
                        .keys = r->curve ? &r->keys[sends ? 0 : 1] : NULL};
    return gw_spec_set_channels(spec, 1, NULL);
}

/* A guard for the listening end of an encrypted link. */
static int make_guard(const run *r, bool sends, void *zmq, gw_guard **guard)
{
    *guard = NULL;
    if (!r->curve || sends != r->sender_listens)
        return GW_OK;
    GW_TRY(gw_guard_new(guard, zmq));
    return gw_guard_allow(*guard, r->keys[sends ? 1 : 0].own_public);
}

/* -- sender ------------------------------------------------------------------------------------------ */

static int wait_sender(gw_sender *s)
{
    zmq_pollitem_t item[GW_MAX_LANES + 2];
    (void)zmq_poll(item, gw_sender_poll(s, item, GW_MAX_LANES + 2), 200);
    return gw_sender_pump(s);
}

static int send_all(const run *r, gw_pool *pool, gw_sender *s)
{
    int64_t at = 0;
    for (uint64_t k = 0; k < r->blocks; k++) {
        gw_block *b = NULL;
        while (!gw_sender_ready(s) || gw_pool_take(pool, &b) != GW_OK)
            GW_TRY(wait_sender(s));
        const uint32_t n = samples_of(r, k);
        b->hdr.dtype = GW_I32;
        b->hdr.sample0 = at;
        b->hdr.seq = k;
        b->hdr.run_id = r->seed + 1; /* the session */
        if (is_gap(r, k)) {
            b->hdr.flags = GW_FLAG_GAP;
            b->hdr.gap_samples = n;
            b->hdr.gap_reason = GW_GAP_ABSENT;
        } else {
            b->hdr.n_channels = 1;
            b->hdr.n_samples = n;
            b->hdr.payload_bytes = n * sizeof(int32_t);
            for (uint32_t i = 0; i < n; i++)
                ((uint32_t *)b->data)[i] = (uint32_t)mix(r->seed ^ (uint64_t)(at + i));
        }
        at += n;
        gw_block_seal(b);
        GW_TRY(gw_sender_give(s, b));
    }
    int err;
    while ((err = gw_sender_finish(s)) == GW_EAGAIN)
        GW_TRY(wait_sender(s));
    return err;
}

static int run_sender(const run *r, void *zmq)
{
    gw_spec spec;
    gw_link_conf c;
    gw_guard *guard;
    gw_pool *pool = NULL;
    gw_sender *s = NULL;
    const int slabs = r->credit + 2;
    GW_TRY(conf_of(r, true, zmq, &spec, &c));
    int err = make_guard(r, true, zmq, &guard);
    if (err == GW_OK)
        err = gw_pool_new(&pool, "close", slabs, MAX_SAMPLES * sizeof(int32_t),
                          r->transport == GW_SHM ? GW_SPACE_SHARED : GW_SPACE_HOST);
    c.pool = pool;
    if (err == GW_OK)
        err = gw_sender_open(&s, &c);
    if (err == GW_OK)
        err = send_all(r, pool, s);
    gw_sender_close(&s);
    gw_guard_destroy(&guard);
    if (r->transport != GW_INPROC)
        zmq_ctx_term(zmq);
    if (err == GW_OK && gw_pool_free_slabs(pool) != slabs)
        err = gw_fail(GW_EBUG, "%d of %d slabs are home", gw_pool_free_slabs(pool), slabs);
    gw_pool_destroy(&pool);
    gw_spec_free(&spec);
    return err;
}

/* -- receiver ---------------------------------------------------------------------------------------- */

static bool is_right(const run *r, uint64_t k, int64_t at, const gw_header *h, const uint32_t *data)
{
    const uint32_t n = samples_of(r, k);
    if (k >= r->blocks || h->sample0 != at)
        return false;
    if (is_gap(r, k))
        return h->flags & GW_FLAG_GAP && h->gap_samples == n && h->gap_reason == GW_GAP_ABSENT;
    if (h->flags & GW_FLAG_GAP || h->n_samples != n)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (data[i] != (uint32_t)mix(r->seed ^ (uint64_t)(at + i)))
            return false;
    return true;
}

static int give_back(gw_receiver *link, gw_block **held, int *n_held, int i)
{
    gw_block *b = held[i];
    memmove(held + i, held + i + 1, (size_t)(--*n_held - i) * sizeof *held);
    return gw_receiver_done(link, &b);
}

static int receive_all(run *r, gw_receiver *link)
{
    gw_block *held[MAX_HELD + 1] = {0};
    int n_held = 0;
    int64_t at = 0;
    for (;;) {
        gw_block *b;
        const int err = gw_receiver_take(link, &b);
        if (err == GW_EAGAIN &&
            n_held > 0) { /* whoever holds a block for ever gets no more than its credit */
            GW_TRY(give_back(link, held, &n_held, 0));
            continue;
        }
        if (err == GW_EAGAIN) {
            zmq_pollitem_t item[GW_MAX_LANES + 2];
            (void)zmq_poll(item, gw_receiver_poll(link, item, GW_MAX_LANES + 2), 200);
            continue;
        }
        if (err != GW_OK) {
            while (n_held > 0)
                GW_TRY(give_back(link, held, &n_held, n_held - 1));
            return err == GW_EEND ? GW_OK : err;
        }
        r->wrong += !is_right(r, r->came, at, &b->hdr, b->data);
        at = b->hdr.sample0 + (int64_t)b->hdr.n_samples + (int64_t)b->hdr.gap_samples;
        const uint64_t pause = draw(r, r->came++, 4);
        if (pause % 16 == 0)
            usleep((useconds_t)(pause >> 32) % 1000);
        held[n_held++] = b;
        if (n_held > r->held) /* not always the oldest first */
            GW_TRY(give_back(link, held, &n_held, (int)((pause >> 8) % (uint64_t)n_held)));
    }
}

static int run_receiver(run *r, void *zmq)
{
    gw_spec spec;
    gw_link_conf c;
    gw_guard *guard;
    gw_receiver *link = NULL;
    GW_TRY(conf_of(r, false, zmq, &spec, &c));
    int err = make_guard(r, false, zmq, &guard);
    if (err == GW_OK)
        err = gw_receiver_open(&link, &c);
    if (err == GW_OK)
        err = receive_all(r, link);
    gw_receiver_close(&link);
    gw_guard_destroy(&guard);
    if (r->transport != GW_INPROC)
        zmq_ctx_term(zmq);
    gw_spec_free(&spec);
    return err;
}

/* -- both -------------------------------------------------------------------------------------------- */

static void run_end(run *r, bool sends, void *zmq)
{
    const int me = sends ? 0 : 1;
    if (r->late_us[me])
        usleep((useconds_t)r->late_us[me]);
    r->err[me] = sends ? run_sender(r, zmq) : run_receiver(r, zmq);
    snprintf(r->text[me], sizeof r->text[me], "%s", gw_err_detail());
}

typedef struct thread {
    run *r;
    void *zmq;
} thread;

static void *sender_main(void *arg)
{
    const thread *t = arg;
    run_end(t->r, true, t->zmq);
    return NULL;
}

static void run_threads(run *r)
{
    thread t = {.r = r, .zmq = zmq_ctx_new()};
    pthread_t sender;
    if (pthread_create(&sender, NULL, sender_main, &t) == 0) {
        run_end(r, false, t.zmq);
        pthread_join(sender, NULL);
    }
    zmq_ctx_term(t.zmq);
}

static pid_t fork_end(run *r, bool sends)
{
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    alarm(PATIENCE_S);
    run_end(r, sends, zmq_ctx_new());
    _exit(0);
}

static void run_processes(run *r)
{
    r->err[0] = r->err[1] = GW_EPEER; /* until they say otherwise */
    snprintf(r->text[0], sizeof r->text[0], "did not end within %d s", PATIENCE_S);
    memcpy(r->text[1], r->text[0], sizeof r->text[1]);
    const pid_t pid[2] = {fork_end(r, true), fork_end(r, false)};
    for (int i = 0; i < 2; i++)
        waitpid(pid[i], NULL, 0);
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&at, n) != 0 || getsockname(fd, (struct sockaddr *)&at, &n) != 0)
        at.sin_port = htons(5598);
    close(fd);
    return ntohs(at.sin_port);
}

static bool one_run(run *r, gw_transport transport, bool curve, uint64_t seed)
{
    memset(r, 0, sizeof *r);
    r->transport = transport;
    r->curve = curve;
    r->seed = mix(seed ^ (uint64_t)transport << 32 ^ (uint64_t)curve << 40);
    r->credit = 1 + (int)(draw(r, 0, 10) % MAX_HELD);
    r->held = (int)(draw(r, 0, 11) % (uint64_t)r->credit);
    r->blocks = draw(r, 0, 12) % (draw(r, 0, 13) % 4 ? 40 : 400);
    r->sender_listens = transport == GW_SHM || transport == GW_INPROC || draw(r, 0, 14) % 2;
    r->late_us[0] = draw(r, 0, 15) % 3 ? 0 : (int)(draw(r, 0, 16) % 3000);
    r->late_us[1] = draw(r, 0, 17) % 3 ? 0 : (int)(draw(r, 0, 18) % 3000);
    if (transport == GW_TCP)
        snprintf(r->address, sizeof r->address, "tcp://127.0.0.1:%d", free_port());
    else
        snprintf(r->address, sizeof r->address, "%s%d-%" PRIx64,
                 transport == GW_INPROC ? "inproc://close-" : "ipc://@gwstream-close-", (int)getpid(),
                 r->seed);
    for (int i = 0; curve && i < 2; i++)
        (void)zmq_curve_keypair(r->keys[i].own_public, r->keys[i].own_secret);
    memcpy(r->keys[0].server, r->keys[1].own_public, GW_KEY_TEXT);
    memcpy(r->keys[1].server, r->keys[0].own_public, GW_KEY_TEXT);
    if (transport == GW_INPROC)
        run_threads(r);
    else
        run_processes(r);
    const bool well = !r->err[0] && !r->err[1] && r->came == r->blocks && !r->wrong;
    if (!well)
        printf("FAILED  %s%s, run of seed %" PRIu64 ": %" PRIu64 " of %" PRIu64 " blocks, %" PRIu64
               " wrong, credit %d; sender: %d %s; receiver: %d %s\n",
               gw_transport_text(transport), curve ? "+curve" : "", seed, r->came, r->blocks, r->wrong,
               r->credit, r->err[0], r->text[0], r->err[1], r->text[1]);
    return well;
}

int main(int argc, char **argv)
{
    const int runs = argc > 1 ? atoi(argv[1]) : 20;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    const char *only = argc > 3 ? argv[3] : NULL;
    run *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED || runs < 1)
        return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    int failed = 0;
    for (int k = 0; k < 5; k++) {
        const bool curve = k == 4;
        const gw_transport transport = curve ? GW_TCP : (gw_transport)(GW_INPROC + k);
        char name[16];
        snprintf(name, sizeof name, "%s%s", gw_transport_text(transport), curve ? "+curve" : "");
        if (only && strcmp(only, name) != 0)
            continue;
        uint64_t blocks = 0;
        int bad = 0;
        for (int i = 0; i < runs; i++) {
            bad += !one_run(r, transport, curve, seed + (uint64_t)i);
            blocks += r->came;
        }
        printf("%s %s: %d runs, %" PRIu64 " blocks, %d runs lost something\n", bad ? "FAILED " : "ok     ",
               name, runs, blocks, bad);
        failed += bad;
    }
    return failed ? 1 : 0;
}
