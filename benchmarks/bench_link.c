/* SPDX-License-Identifier: GPL-3.0-or-later
 * One measurement of one link: a sender and a receiver (link.h) in two processes (inproc: two threads), for
 * some seconds, as one line of JSON. Which measurements, how often, and what follows from them is
 * benchmarks/link.py's.
 *
 *   bench_link link TRANSPORT MODE BYTES ...  blocks of BYTES through a link
 *   bench_link plain TRANSPORT bytes BYTES    messages of BYTES through a bare PUSH - PULL pair: what ZeroMQ
 *                                             itself leaves for a link to lose
 *   bench_link ping TRANSPORT ...             128 bytes through a bare ZeroMQ socket: what waking up costs
 *
 * --place together: the I/O threads of both ends on the last core. --place apart: the sender with its I/O
 * thread on the first core, the receiver with its on the last.
 *
 * MODE descriptors: nobody touches the payload. MODE bytes: the sender copies every byte of it from a buffer
 * of its own, the receiver reads (and checks) every byte. With --rate blocks are sent at that rate, and
 * latency is from the time a block was due to the time it had been read. */
#include "pipeline/keys.h"
#include "pipeline/link.h"
#include "pipeline/placement.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LATENCIES = 1 << 20, PING_BYTES = 128 };

/* What one end saw, after the warm-up. */
typedef struct end {
    uint64_t blocks, copied_bytes, wrong;
    double seconds, cpu_s;
} end;

typedef enum place { ANYWHERE, TOGETHER, APART } place;

/* In memory that both processes share. */
typedef struct trial {
    place place;
    gw_transport transport;
    bool curve, touch, ping, plain;
    size_t bytes;
    double seconds, rate_hz;
    int credit, lanes;
    char address[64];
    gw_keys sender_keys, receiver_keys;
    uint32_t base_sum;
    end sender, receiver;
    size_t n_latencies;
    int64_t latency_ns[MAX_LATENCIES];
} trial;

/* One of the two ends at work. */
typedef struct work {
    trial *t;
    void *zmq;
    gw_spec spec;
    gw_link_counts counts;
    gw_link_conf conf;
    clockid_t cpu_clock;
    int err;
    char err_text[512];
} work;

static double cpu_s(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void sleep_until(int64_t monotonic_ns)
{
    const struct timespec at = {.tv_sec = (time_t)(monotonic_ns / GW_SECOND_NS),
                                .tv_nsec = (long)(monotonic_ns % GW_SECOND_NS)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
        ;
}

static uint32_t sum_words(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint32_t sum = 0, word;
    for (size_t i = 0; i < bytes / 4; i++) {
        memcpy(&word, p + 4 * i, 4);
        sum += word;
    }
    return sum;
}

static uint64_t warm_blocks(const trial *t)
{
    return t->rate_hz > 0 ? (uint64_t)(t->rate_hz * 0.1) + 4 : 2 * (uint64_t)t->credit;
}

static void note_latency(trial *t, uint64_t k, int64_t due_ns)
{
    if (t->rate_hz > 0 && k >= warm_blocks(t) && t->n_latencies < MAX_LATENCIES)
        t->latency_ns[t->n_latencies++] = gw_monotonic_ns() - due_ns;
}

/* -- a link ------------------------------------------------------------------------------------------ */

static int conf_of(work *w, bool sends)
{
    trial *t = w->t;
    w->spec = (gw_spec){.name = "bench",
                        .rate = {16384, 1},
                        .dtype = GW_F32,
                        .n_channels = (uint32_t)t->lanes,
                        .block_samples = (uint32_t)(t->bytes / 4 / (size_t)t->lanes)};
    GW_TRY(gw_spec_set_channels(&w->spec, w->spec.n_channels, NULL));
    w->conf = (gw_link_conf){.zmq = w->zmq,
                             .transport = t->transport,
                             .address = t->address,
                             .listen = sends,
                             .lanes = t->lanes,
                             .spec = &w->spec,
                             .session = (uint64_t)gw_monotonic_ns(),
                             .credit = t->credit,
                             .crc = t->transport == GW_TCP,
                             .keys = !t->curve ? NULL
                                     : sends   ? &t->sender_keys
                                               : &t->receiver_keys,
                             .counts = &w->counts};
    return GW_OK;
}

static int wait_sender(gw_sender *s)
{
    zmq_pollitem_t item[GW_MAX_LANES + 2];
    (void)zmq_poll(item, gw_sender_poll(s, item, GW_MAX_LANES + 2), 200);
    return gw_sender_pump(s);
}

static int send_blocks(work *w, gw_pool *pool, gw_sender *s, const void *source)
{
    trial *t = w->t;
    const uint64_t warm = warm_blocks(t);
    int64_t start_ns = gw_monotonic_ns(), end_ns = INT64_MAX;
    double cpu0 = 0;
    for (uint64_t k = 0;; k++) {
        gw_block *b = NULL;
        while (!gw_sender_ready(s) || gw_pool_take(pool, &b) != GW_OK)
            GW_TRY(wait_sender(s));
        int64_t now_ns = gw_monotonic_ns();
        if (k == 0)
            start_ns = now_ns; /* the receiver has come */
        if (k == warm) {
            cpu0 = cpu_s(w->cpu_clock);
            w->t->sender.seconds = -(double)now_ns * 1e-9;
            end_ns = now_ns + (int64_t)(t->seconds * 1e9);
        }
        if (t->rate_hz > 0) {
            now_ns = start_ns + (int64_t)((double)k * 1e9 / t->rate_hz);
            sleep_until(now_ns);
        }
        b->hdr.dtype = GW_F32;
        b->hdr.n_channels = w->spec.n_channels;
        b->hdr.n_samples = w->spec.block_samples;
        b->hdr.payload_bytes = t->bytes;
        b->hdr.sample0 = (int64_t)k * w->spec.block_samples;
        b->hdr.run_id = w->conf.session;
        b->hdr.seq = k;
        b->hdr.ingest_ns = now_ns;
        if (t->touch) {
            memcpy(b->data, source, t->bytes);
            memcpy(b->data, &(uint32_t){(uint32_t)k}, 4);
        }
        gw_block_seal(b);
        GW_TRY(gw_sender_give(s, b));
        if (now_ns >= end_ns) {
            t->sender.blocks = k + 1 - warm;
            break;
        }
    }
    int err;
    while ((err = gw_sender_finish(s)) == GW_EAGAIN)
        GW_TRY(wait_sender(s));
    t->sender.cpu_s = cpu_s(w->cpu_clock) - cpu0;
    t->sender.seconds += (double)gw_monotonic_ns() * 1e-9;
    t->sender.copied_bytes = atomic_load(&w->counts.copied_bytes);
    return err;
}

static int run_sender(work *w)
{
    trial *t = w->t;
    GW_TRY(conf_of(w, true));
    gw_guard *guard = NULL;
    gw_pool *pool = NULL;
    gw_sender *s = NULL;
    if (t->curve) {
        GW_TRY(gw_guard_new(&guard, w->zmq));
        GW_TRY(gw_guard_allow(guard, t->receiver_keys.own_public));
    }
    uint32_t *source = malloc(t->bytes);
    int err = source ? GW_OK : gw_fail(GW_ENOMEM, "a buffer of %zu bytes", t->bytes);
    for (size_t i = 0; source && i < t->bytes / 4; i++)
        source[i] = (uint32_t)i * 2654435761u;
    if (err == GW_OK)
        err = gw_pool_new(&pool, "bench", t->credit + 2, t->bytes,
                          t->transport == GW_SHM ? GW_SPACE_SHARED : GW_SPACE_HOST);
    w->conf.pool = pool;
    if (err == GW_OK)
        err = gw_sender_open(&s, &w->conf);
    if (err == GW_OK)
        err = send_blocks(w, pool, s, source);
    gw_sender_close(&s);
    if (t->transport != GW_INPROC) {
        gw_guard_destroy(&guard);
        zmq_ctx_term(w->zmq); /* its threads may still hold messages, and so slabs */
    }
    if (pool && gw_pool_free_slabs(pool) != t->credit + 2 && err == GW_OK)
        err = gw_fail(GW_EBUG, "%d of %d slabs came home", gw_pool_free_slabs(pool), t->credit + 2);
    gw_pool_destroy(&pool);
    free(source);
    gw_spec_free(&w->spec);
    return err;
}

static int receive_blocks(work *w, gw_receiver *r)
{
    trial *t = w->t;
    const uint64_t warm = warm_blocks(t);
    double cpu0 = 0;
    int64_t begin_ns = 0, last_ns = 0;
    for (uint64_t k = 0;;) {
        gw_block *b;
        int err = gw_receiver_take(r, &b);
        if (err == GW_EAGAIN) {
            zmq_pollitem_t item[GW_MAX_LANES + 2];
            (void)zmq_poll(item, gw_receiver_poll(r, item, GW_MAX_LANES + 2), 200);
            continue;
        }
        if (err == GW_EEND) {
            t->receiver.blocks = k > warm ? k - warm : 0;
            t->receiver.seconds = (double)(last_ns - begin_ns) * 1e-9;
            t->receiver.cpu_s = cpu_s(w->cpu_clock) - cpu0;
            t->receiver.copied_bytes = atomic_load(&w->counts.copied_bytes);
            return GW_OK;
        }
        GW_TRY(err);
        if (t->touch)
            t->receiver.wrong += sum_words(b->data, t->bytes) != t->base_sum + (uint32_t)k;
        t->receiver.wrong += b->hdr.sample0 != (int64_t)k * w->spec.block_samples;
        note_latency(t, k, b->hdr.ingest_ns);
        GW_TRY(gw_receiver_done(r, &b));
        last_ns = gw_monotonic_ns();
        if (++k == warm) {
            begin_ns = last_ns;
            cpu0 = cpu_s(w->cpu_clock);
        }
    }
}

static int run_receiver(work *w)
{
    gw_receiver *r = NULL;
    GW_TRY(conf_of(w, false));
    int err = gw_receiver_open(&r, &w->conf);
    if (err == GW_OK)
        err = receive_blocks(w, r);
    gw_receiver_close(&r);
    if (w->t->transport != GW_INPROC)
        zmq_ctx_term(w->zmq);
    gw_spec_free(&w->spec);
    return err;
}

/* -- a bare socket ----------------------------------------------------------------------------------- */

static int run_ping(work *w, bool sends)
{
    trial *t = w->t;
    void *socket = zmq_socket(w->zmq, ZMQ_PAIR);
    const int failed = sends ? zmq_bind(socket, t->address) : zmq_connect(socket, t->address);
    if (!socket || failed)
        return gw_fail(GW_ESYSTEM, "%s: %s", t->address, zmq_strerror(zmq_errno()));
    char message[PING_BYTES] = {0};
    const uint64_t n = warm_blocks(t) + 1 + (uint64_t)(t->seconds * t->rate_hz);
    if (sends) {
        int64_t due_ns = 0;
        (void)zmq_recv(socket, message, sizeof message, 0); /* the other is there */
        const int64_t start_ns = gw_monotonic_ns();
        for (uint64_t k = 0; k < n; k++) {
            due_ns = start_ns + (int64_t)((double)k * 1e9 / t->rate_hz);
            sleep_until(due_ns);
            memcpy(message, &due_ns, sizeof due_ns);
            (void)zmq_send(socket, message, sizeof message, 0);
        }
    } else {
        (void)zmq_send(socket, message, sizeof message, 0);
        for (uint64_t k = 0; k < n; k++) {
            int64_t due_ns;
            (void)zmq_recv(socket, message, sizeof message, 0);
            memcpy(&due_ns, message, sizeof due_ns);
            note_latency(t, k, due_ns);
        }
    }
    zmq_close(socket);
    if (t->transport != GW_INPROC)
        zmq_ctx_term(w->zmq);
    return GW_OK;
}

/* The least that ZeroMQ asks for to move the same bytes: one message a block, sent from where it lies. */
static void free_slab(void *data, void *busy)
{
    (void)data;
    atomic_store((atomic_bool *)busy, false);
}

static int push(work *w, void *socket, unsigned char *slabs, const void *source, atomic_bool *busy)
{
    trial *t = w->t;
    const int n = t->credit + 2;
    const int64_t end_ns = gw_monotonic_ns() + (int64_t)(t->seconds * 1.2e9);
    for (uint64_t k = 0;; k++) {
        const size_t i = k % (size_t)n;
        while (atomic_load(&busy[i]))
            sleep_until(gw_monotonic_ns() + 20000);
        if (gw_monotonic_ns() >= end_ns)
            break;
        memcpy(slabs + i * t->bytes, source, t->bytes);
        atomic_store(&busy[i], true);
        zmq_msg_t m;
        if (zmq_msg_init_data(&m, slabs + i * t->bytes, t->bytes, free_slab, &busy[i]) != 0 ||
            zmq_msg_send(&m, socket, 0) < 0)
            return gw_fail(GW_ESYSTEM, "%s: %s", t->address, zmq_strerror(zmq_errno()));
    }
    return zmq_send(socket, "", 0, 0) < 0 ? gw_fail(GW_ESYSTEM, "%s", zmq_strerror(zmq_errno())) : GW_OK;
}

static int pull(work *w, void *socket)
{
    end *r = &w->t->receiver;
    int64_t begin_ns = 0;
    uint32_t sum = 0;
    zmq_msg_t m;
    zmq_msg_init(&m);
    for (uint64_t k = 0; zmq_msg_recv(&m, socket, 0) > 0; k++) {
        sum |= sum_words(zmq_msg_data(&m), zmq_msg_size(&m));
        r->seconds = (double)(gw_monotonic_ns() - begin_ns) * 1e-9;
        if (k < warm_blocks(w->t)) {
            begin_ns = gw_monotonic_ns();
            r->cpu_s = -cpu_s(w->cpu_clock);
        } else {
            r->blocks++;
        }
    }
    zmq_msg_close(&m);
    r->cpu_s += cpu_s(w->cpu_clock);
    r->wrong = sum == 0;
    return GW_OK;
}

static int run_plain(work *w, bool sends)
{
    trial *t = w->t;
    const size_t n = (size_t)t->credit + 2;
    void *socket = zmq_socket(w->zmq, sends ? ZMQ_PUSH : ZMQ_PULL);
    (void)zmq_setsockopt(socket, sends ? ZMQ_SNDHWM : ZMQ_RCVHWM, &t->credit, sizeof t->credit);
    if (!socket || (sends ? zmq_bind(socket, t->address) : zmq_connect(socket, t->address)))
        return gw_fail(GW_ESYSTEM, "%s: %s", t->address, zmq_strerror(zmq_errno()));
    unsigned char *slabs = sends ? malloc((n + 1) * t->bytes) : NULL;
    atomic_bool *busy = sends ? calloc(n, sizeof *busy) : NULL;
    int err = GW_OK;
    if (sends && (!slabs || !busy))
        err = gw_fail(GW_ENOMEM, "%zu slabs of %zu bytes", n, t->bytes);
    if (sends && err == GW_OK) {
        memset(slabs, 1, (n + 1) * t->bytes);
        const double cpu0 = cpu_s(w->cpu_clock);
        const int64_t start_ns = gw_monotonic_ns();
        err = push(w, socket, slabs, slabs + n * t->bytes, busy);
        t->sender.seconds = (double)(gw_monotonic_ns() - start_ns) * 1e-9;
        t->sender.cpu_s = cpu_s(w->cpu_clock) - cpu0;
    } else if (!sends) {
        err = pull(w, socket);
    }
    zmq_close(socket);
    zmq_ctx_term(w->zmq);
    free(slabs);
    free(busy);
    return err;
}

/* -- two of them ------------------------------------------------------------------------------------- */

static void run_end(work *w, bool sends)
{
    w->err = w->t->ping    ? run_ping(w, sends)
             : w->t->plain ? run_plain(w, sends)
             : sends       ? run_sender(w)
                           : run_receiver(w);
    snprintf(w->err_text, sizeof w->err_text, "%s: %s", sends ? "sender" : "receiver", gw_err_detail());
}

static void *thread_main(void *arg)
{
    prctl(PR_SET_TIMERSLACK, 1);
    run_end(arg, true);
    return NULL;
}

static int run_threads(trial *t)
{
    void *zmq = zmq_ctx_new();
    work sender = {.t = t, .zmq = zmq}, receiver = {.t = t, .zmq = zmq, .cpu_clock = CLOCK_THREAD_CPUTIME_ID};
    sender.cpu_clock = CLOCK_THREAD_CPUTIME_ID;
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, &sender) != 0)
        return gw_fail(GW_ESYSTEM, "no thread");
    run_end(&receiver, false);
    pthread_join(thread, NULL);
    zmq_ctx_term(zmq);
    const work *bad = sender.err ? &sender : &receiver;
    return bad->err ? gw_fail(bad->err, "%s", bad->err_text) : GW_OK;
}

static void put_in_place(const work *w, bool sends)
{
    if (w->t->place == ANYWHERE)
        return;
    const size_t last = (size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1;
    gw_placement here = {0};
    gw_run_conf run = {0};
    CPU_SET(w->t->place == APART && sends ? 0 : last, &run.io_cores);
    gw_run_start_io(&run, w->zmq);
    here.cores = run.io_cores;
    if (w->t->place == APART)
        gw_placement_apply(&here, sends ? "sender" : "receiver");
}

static pid_t fork_end(trial *t, bool sends)
{
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_TIMERSLACK, 1);
    alarm((unsigned)t->seconds + 60);
    work w = {.t = t, .zmq = zmq_ctx_new(), .cpu_clock = CLOCK_PROCESS_CPUTIME_ID};
    zmq_ctx_set(w.zmq, ZMQ_IO_THREADS, t->lanes);
    put_in_place(&w, sends);
    run_end(&w, sends);
    if (w.err)
        fprintf(stderr, "bench_link: %s\n", w.err_text);
    _exit(w.err ? 1 : 0);
}

static int run_processes(trial *t)
{
    const pid_t receiver = fork_end(t, false), sender = fork_end(t, true);
    int a = 0, b = 0;
    waitpid(sender, &a, 0);
    waitpid(receiver, &b, 0);
    return a || b ? gw_fail(GW_EPEER, "an end failed (%x, %x)", (unsigned)a, (unsigned)b) : GW_OK;
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&at, n) != 0 || getsockname(fd, (struct sockaddr *)&at, &n) != 0)
        at.sin_port = htons(5599);
    close(fd);
    return ntohs(at.sin_port);
}

static int by_value(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_us(const trial *t, double q)
{
    return (double)t->latency_ns[(size_t)(q * (double)(t->n_latencies - 1) + 0.5)] / 1e3;
}

static void print_trial(trial *t)
{
    const end *s = &t->sender, *r = &t->receiver;
    printf("{\"transport\": \"%s%s\", \"bytes\": %zu, \"credit\": %d, \"lanes\": %d",
           gw_transport_text(t->transport), t->curve ? "+curve" : "", t->ping ? (size_t)PING_BYTES : t->bytes,
           t->credit, t->lanes);
    if (!t->ping)
        printf(", \"mode\": \"%s\", \"blocks\": %" PRIu64 ", \"seconds\": %.4f, \"blocks_per_s\": %.1f, "
               "\"GB_per_s\": %.4f, \"sender_cpu\": %.3f, \"receiver_cpu\": %.3f, \"copied_bytes\": [%" PRIu64
               ", %" PRIu64 "], \"wrong\": %" PRIu64,
               t->touch ? "bytes" : "descriptors", r->blocks, r->seconds, (double)r->blocks / r->seconds,
               (double)r->blocks / r->seconds * (double)t->bytes / 1e9, s->cpu_s / s->seconds,
               r->cpu_s / r->seconds, s->copied_bytes, r->copied_bytes, r->wrong);
    if (t->n_latencies) {
        qsort(t->latency_ns, t->n_latencies, sizeof t->latency_ns[0], by_value);
        printf(", \"rate_hz\": %.1f, \"latencies\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f, "
               "\"p999_us\": %.1f, \"max_us\": %.1f",
               t->rate_hz, t->n_latencies, quantile_us(t, 0.5), quantile_us(t, 0.99), quantile_us(t, 0.999),
               quantile_us(t, 1));
    }
    printf("}\n");
}

static int run_trial(trial *t)
{
    if (t->transport == GW_TCP)
        snprintf(t->address, sizeof t->address, "tcp://127.0.0.1:%d", free_port());
    else if (t->transport == GW_INPROC)
        snprintf(t->address, sizeof t->address, "inproc://bench");
    else
        snprintf(t->address, sizeof t->address, "ipc://@gwstream-bench-%d", (int)getpid());
    if (t->curve) {
        gw_keys *a = &t->sender_keys, *b = &t->receiver_keys;
        if (zmq_curve_keypair(a->own_public, a->own_secret) ||
            zmq_curve_keypair(b->own_public, b->own_secret))
            return gw_fail(GW_ENOTSUP, "this ZeroMQ has no CURVE");
        memcpy(b->server, a->own_public, sizeof b->server);
    }
    for (size_t i = 1; i < t->bytes / 4; i++)
        t->base_sum += (uint32_t)i * 2654435761u;
    return t->transport == GW_INPROC ? run_threads(t) : run_processes(t);
}

/* -- the command line -------------------------------------------------------------------------------- */

static int read_words(trial *t, int argc, char **argv, const char *what)
{
    t->ping = strcmp(what, "ping") == 0;
    t->plain = strcmp(what, "plain") == 0;
    if (argc < (t->ping ? 1 : 3))
        return gw_fail(GW_EUSAGE, "bench_link %s wants TRANSPORT%s", what, t->ping ? "" : " MODE BYTES");
    int k = GW_INPROC;
    while (k <= GW_TCP && strcmp(gw_transport_text((gw_transport)k), argv[0]) != 0)
        k++;
    if (k > GW_TCP)
        return gw_fail(GW_EUSAGE, "no transport '%s'", argv[0]);
    t->transport = (gw_transport)k;
    if (t->ping)
        return GW_OK;
    t->touch = strcmp(argv[1], "bytes") == 0;
    if (!t->touch && strcmp(argv[1], "descriptors") != 0)
        return gw_fail(GW_EUSAGE, "no mode '%s': descriptors or bytes", argv[1]);
    const size_t step = 4 * (size_t)t->lanes;
    t->bytes = (size_t)strtoull(argv[2], NULL, 10) / step * step;
    if (t->bytes < step || t->bytes > (size_t)1 << 32)
        return gw_fail(GW_EUSAGE, "%s bytes a block?", argv[2]);
    if (t->plain && (!t->touch || (t->transport != GW_IPC && t->transport != GW_TCP)))
        return gw_fail(GW_EUSAGE, "plain is for bytes over ipc or tcp");
    return GW_OK;
}

static int read_options(trial *t, int argc, char **argv)
{
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
                                            {"credit", required_argument, NULL, 'c'},
                                            {"lanes", required_argument, NULL, 'l'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"curve", no_argument, NULL, 'k'},
                                            {"place", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            t->seconds = strtod(optarg, NULL);
        else if (c == 'c')
            t->credit = (int)strtol(optarg, NULL, 10);
        else if (c == 'l')
            t->lanes = (int)strtol(optarg, NULL, 10);
        else if (c == 'r')
            t->rate_hz = strtod(optarg, NULL);
        else if (c == 'k')
            t->curve = true;
        else if (c == 'p' && (strcmp(optarg, "together") == 0 || strcmp(optarg, "apart") == 0))
            t->place = optarg[0] == 't' ? TOGETHER : APART;
        else
            return gw_fail(GW_EUSAGE, "options: --seconds S --credit N --lanes N --rate HZ --curve --place "
                                      "together|apart");
    }
    if (!(t->seconds > 0 && t->seconds < 3600) || t->credit < 1 || t->credit > 1024 || t->lanes < 1 ||
        t->lanes > GW_MAX_LANES || !(t->rate_hz >= 0))
        return gw_fail(GW_EUSAGE, "seconds, credit, lanes or rate out of range");
    if (t->ping && !(t->rate_hz > 0))
        return gw_fail(GW_EUSAGE, "ping wants --rate");
    return GW_OK;
}

static int bench(int argc, char **argv)
{
    trial *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED)
        return gw_fail(GW_ENOMEM, "shared results");
    t->seconds = 1;
    t->credit = 8;
    t->lanes = 1;
    GW_TRY(read_options(t, argc, argv));
    if (optind >= argc)
        return gw_fail(GW_EUSAGE,
                       "bench_link link TRANSPORT MODE BYTES | plain TRANSPORT bytes BYTES | ping TRANSPORT");
    const char *what = argv[optind++];
    if (strcmp(what, "link") != 0 && strcmp(what, "plain") != 0 && strcmp(what, "ping") != 0)
        return gw_fail(GW_EUSAGE, "no measurement '%s': link, plain or ping", what);
    GW_TRY(read_words(t, argc - optind, argv + optind, what));
    GW_TRY(run_trial(t));
    print_trial(t);
    return GW_OK;
}

int main(int argc, char **argv)
{
    const int err = bench(argc, argv);
    if (err != GW_OK)
        fprintf(stderr, "bench_link: %s\n", gw_err_detail());
    return err == GW_OK ? 0 : gw_err_is_input(err) ? 2 : 1;
}
