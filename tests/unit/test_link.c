/* SPDX-License-Identifier: GPL-3.0-or-later
 * Blocks, pools and links: the header's checks, slabs that come home, and the credit / EOS / BYE contract
 * over every transport, with two threads that might as well be two processes. */
#include "pipeline/link.h"
#include "pipeline/wire.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static gw_header good_header(void)
{
    gw_header h = {
        .dtype = GW_F32, .n_samples = 4, .n_channels = 2, .payload_bytes = 32, .sample0 = 7, .seq = 1};
    gw_header_seal(&h);
    return h;
}

static void test_header(void **state)
{
    (void)state;
    gw_header h = good_header(), out;
    assert_int_equal(gw_header_read(&h, sizeof h, &out), GW_OK);
    assert_memory_equal(&h, &out, sizeof h);
    assert_int_equal(gw_header_read(&h, sizeof h - 1, &out), GW_EFORMAT);
    for (size_t i = 0; i < sizeof h; i++) { /* no single changed byte passes */
        gw_header bad = h;
        ((unsigned char *)&bad)[i] ^= 0x10;
        assert_int_equal(gw_header_read(&bad, sizeof bad, &out), GW_EFORMAT);
    }
    h.payload_bytes = 31;
    gw_header_seal(&h);
    assert_int_equal(gw_header_read(&h, sizeof h, &out), GW_EFORMAT);
    gw_header gap = {.flags = GW_FLAG_GAP, .gap_samples = 5};
    gw_header_seal(&gap);
    assert_int_equal(gw_header_read(&gap, sizeof gap, &out), GW_OK);
    gap.gap_samples = 0;
    gw_header_seal(&gap);
    assert_int_equal(gw_header_read(&gap, sizeof gap, &out), GW_EFORMAT);
    assert_int_equal(gw_crc32c(0, "123456789", 9), 0xe3069283); /* the published check value of CRC-32C */
}

static void test_pool(void **state)
{
    (void)state;
    gw_pool *p;
    gw_block *b[3], *none;
    assert_int_equal(gw_pool_new(&p, "test", 3, 100, GW_SPACE_HOST), GW_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gw_pool_take(p, &b[i]), GW_OK);
        assert_int_equal((uintptr_t)b[i]->data % 128, 0);
        memset(b[i]->data, i, 100);
    }
    assert_int_equal(gw_pool_take(p, &none), GW_EAGAIN);
    gw_block_ref(b[1]);
    gw_block *again = b[1];
    gw_block_unref(&b[1]);
    assert_null(b[1]);
    assert_int_equal(gw_pool_free_slabs(p), 0);
    gw_block_unref(&again);
    assert_int_equal(gw_pool_free_slabs(p), 1);
    gw_block_unref(&b[0]);
    gw_block_unref(&b[2]);
    assert_int_equal(gw_pool_free_slabs(p), 3);
    gw_pool_destroy(&p);
    assert_null(p);
}

static void test_shared_pool(void **state)
{
    (void)state;
    gw_pool *p;
    gw_block *b;
    assert_int_equal(gw_pool_new(&p, "test", 3, 100, GW_SPACE_SHARED), GW_OK);
    assert_true(gw_pool_fd(p) >= 0);
    assert_int_equal(gw_pool_take(p, &b), GW_OK);
    memset(b->data, 7, 100);
    char seen[100];
    assert_int_equal(pread(gw_pool_fd(p), seen, 100, (off_t)gw_pool_offset(p, b)), 100);
    assert_memory_equal(seen, b->data, 100);
    assert_int_not_equal(ftruncate(gw_pool_fd(p), 1), 0); /* sealed: nobody can take the memory away */
    gw_block_unref(&b);
    gw_pool_destroy(&p);
}

/* -- two ends ---------------------------------------------------------------------------------------- */

enum { CHANNELS = 19, SAMPLES = 10 };

typedef struct ends {
    gw_transport transport;
    bool receiver_listens;
    int lanes;
    void *zmq;
    gw_spec send, receive;
    gw_on_full on_full;
    int credit, blocks, slow_us, leave_after, hold;
    bool in_step, absent;
    gw_pool *pool, *gaps;
    int sender_err;
    uint64_t dropped;
    gw_link_counts sent, got;
    gw_timebase time;
    /* seen by the receiver */
    atomic_int taken;
    int gaps_seen, receiver_err;
    int64_t end;
    bool tiles;
} ends;

static int wait_items(zmq_pollitem_t *item, int n)
{
    return zmq_poll(item, n, 20);
}

static int wait_sender(gw_sender *s)
{
    zmq_pollitem_t item[GW_MAX_LANES + 2];
    return wait_items(item, gw_sender_poll(s, item, GW_MAX_LANES + 2));
}

static int wait_receiver(gw_receiver *r)
{
    zmq_pollitem_t item[GW_MAX_LANES + 2];
    return wait_items(item, gw_receiver_poll(r, item, GW_MAX_LANES + 2));
}

static gw_link_conf conf_of(ends *e, bool sender)
{
    static const char *const address[] = {"inproc://test", "ipc://@gwstream-test", "ipc://@gwstream-test",
                                          "tcp://127.0.0.1:47811"};
    static _Thread_local char unique[64];
    snprintf(unique, sizeof unique, e->transport == GW_SHM || e->transport == GW_IPC ? "%s-%d" : "%s",
             address[e->transport], (int)getpid());
    return (gw_link_conf){.zmq = e->zmq,
                          .transport = e->transport,
                          .address = unique,
                          .listen = sender != e->receiver_listens,
                          .lanes = e->lanes,
                          .spec = sender ? &e->send : &e->receive,
                          .session = sender ? 1000 : 2000,
                          .credit = e->credit,
                          .on_full = e->on_full,
                          .pool = e->pool,
                          .gaps = e->gaps,
                          .crc = e->transport == GW_TCP,
                          .timebase = &e->time,
                          .counts = sender ? &e->sent : &e->got};
}

static void fill(ends *e, gw_block *b, int i)
{
    b->hdr = (gw_header){.dtype = GW_F32,
                         .n_samples = SAMPLES,
                         .n_channels = CHANNELS,
                         .payload_bytes = 4 * SAMPLES * CHANNELS,
                         .run_id = 1000,
                         .sample0 = SAMPLES * i,
                         .seq = (uint64_t)i};
    for (int k = 0; k < SAMPLES * CHANNELS; k++)
        ((float *)b->data)[k] = (float)(i * 1000 + k);
    if (e->absent && i % 3 == 0) {
        b->hdr.presence_offset = (uint32_t)b->hdr.payload_bytes;
        b->hdr.presence_bytes = (CHANNELS + 7) / 8;
        uint8_t *tail = (uint8_t *)b->data + b->hdr.presence_offset;
        memset(tail, 0xff, b->hdr.presence_bytes);
        tail[i % CHANNELS / 8] &= (uint8_t) ~(1u << i % CHANNELS % 8);
    }
    gw_block_seal(b);
}

static bool is_right(ends *e, const gw_block *b)
{
    const int i = (int)(b->hdr.sample0 / SAMPLES);
    bool right = b->hdr.n_channels == CHANNELS && b->hdr.n_samples == SAMPLES;
    for (int k = 0; k < SAMPLES * CHANNELS; k++)
        right &= ((const float *)b->data)[k] == (float)(i * 1000 + k);
    const uint8_t *bits = gw_block_presence(b);
    right &= (bits != NULL) == (e->absent && i % 3 == 0);
    for (uint32_t c = 0; bits && c < CHANNELS; c++)
        right &= gw_present(bits, c) == (c != (uint32_t)(i % CHANNELS));
    return right;
}

static void *sender_thread(void *arg)
{
    ends *e = arg;
    gw_sender *s = NULL;
    const gw_link_conf c = conf_of(e, true);
    int err = gw_sender_open(&s, &c);
    for (int i = 0; i < e->blocks && err == GW_OK; i++) {
        gw_block *b = NULL;
        while (err == GW_OK && (!gw_sender_ready(s) || gw_pool_take(e->pool, &b) == GW_EAGAIN)) {
            wait_sender(s);
            err = gw_sender_pump(s);
        }
        if (err != GW_OK)
            break;
        fill(e, b, i);
        err = gw_sender_give(s, b);
        if (err == GW_OK && !e->in_step)
            err = gw_sender_pump(s);
        for (int ms = 0; e->in_step && e->taken < i - 2 && ms < 5000; ms++)
            usleep(1000); /* the receiver keeps up, and nobody but give() reads its credits */
    }
    while (err == GW_OK && (err = gw_sender_finish(s)) == GW_EAGAIN) {
        wait_sender(s);
        err = GW_OK;
        if (gw_sender_finish(s) == GW_OK)
            break;
    }
    e->dropped = s ? gw_sender_dropped(s) : 0;
    e->sender_err = err;
    if (err != GW_OK && err != GW_EPEER && err != GW_EMISMATCH)
        print_error("%s\n", gw_err_detail());
    gw_sender_close(&s);
    return NULL;
}

static void *receiver_thread(void *arg)
{
    ends *e = arg;
    gw_receiver *r = NULL;
    const gw_link_conf c = conf_of(e, false);
    gw_block *held[8] = {NULL};
    int err = gw_receiver_open(&r, &c);
    e->tiles = true;
    for (;;) {
        gw_block *b;
        err = err == GW_OK ? gw_receiver_take(r, &b) : err;
        if (err == GW_EAGAIN) {
            wait_receiver(r);
            err = GW_OK;
            continue;
        }
        if (err != GW_OK)
            break;
        e->tiles &= b->hdr.sample0 == e->end;
        bool gap = b->hdr.flags & GW_FLAG_GAP;
        e->gaps_seen += gap;
        e->taken += !gap;
        e->end = b->hdr.sample0 + (int64_t)(gap ? b->hdr.gap_samples : b->hdr.n_samples);
        if (!gap)
            e->tiles &= is_right(e, b);
        if (e->slow_us)
            usleep((useconds_t)e->slow_us);
        if (e->hold) { /* keep the last few beyond done */
            gw_block **place = &held[e->taken % e->hold];
            if (*place)
                e->tiles &= is_right(e, *place);
            gw_block_unref(place);
            gw_block_ref(b);
            *place = b;
        }
        err = gw_receiver_done(r, &b);
        if (e->leave_after && e->taken == e->leave_after)
            break;
    }
    for (int i = 0; i < 8; i++)
        gw_block_unref(&held[i]);
    e->receiver_err = err;
    if (err != GW_EEND && err != GW_EMISMATCH && err != GW_OK)
        print_error("%s\n", gw_err_detail());
    gw_receiver_close(&r);
    return NULL;
}

static void run_ends(ends *e)
{
    const int slabs = 2 * e->credit + 3 + e->hold;
    e->zmq = zmq_ctx_new();
    assert_int_equal(gw_pool_new(&e->pool, "test", slabs, gw_spec_slab_bytes(&e->send),
                                 e->transport == GW_SHM ? GW_SPACE_SHARED : GW_SPACE_HOST),
                     GW_OK);
    assert_int_equal(gw_pool_new(&e->gaps, "gaps", e->credit + 2, 0, GW_SPACE_HOST), GW_OK);
    pthread_t a, b;
    pthread_create(&a, NULL, receiver_thread, e);
    pthread_create(&b, NULL, sender_thread, e);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    zmq_ctx_term(e->zmq);
    assert_int_equal(gw_pool_free_slabs(e->pool), slabs); /* every slab came home */
    assert_int_equal(gw_pool_free_slabs(e->gaps), e->credit + 2);
    gw_pool_destroy(&e->pool);
    gw_pool_destroy(&e->gaps);
}

static gw_spec spec_of(const char *name)
{
    gw_spec s = {.rate = {16, 1}, .dtype = GW_F32, .n_channels = CHANNELS, .block_samples = SAMPLES};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

static void test_nothing_lost(void **state)
{
    (void)state;
    for (int i = 0; i < 64; i++) {
        ends e = {.transport = (gw_transport)(i % 4),
                  .receiver_listens = i % 4 >= GW_IPC && i & 8,
                  .lanes = i % 4 >= GW_IPC && i & 16 ? 3 : 1,
                  .absent = i & 32,
                  .send = spec_of("a"),
                  .receive = spec_of("a"),
                  .credit = 1 + i / 4 % 8,
                  .blocks = 200,
                  .time = {.pace = 2, .anchor_wall_ns = 5, .anchor_data_ns = -7}};
        run_ends(&e);
        assert_int_equal(e.sender_err, GW_OK);
        assert_int_equal(e.receiver_err, GW_EEND);
        assert_int_equal(e.taken, 200);
        assert_true(e.tiles);
        assert_int_equal(e.sent.blocks, 200);
        assert_int_equal(e.got.blocks, 200);
        assert_int_equal(e.got.resent + e.got.duplicates + e.got.malformed, 0);
        if (e.transport <= GW_SHM)
            assert_int_equal(e.got.copied_bytes, 0);
        else
            assert_true(e.got.copied_bytes >= (e.lanes > 1 ? 2 : 1) * e.got.bytes);
    }
}

static void test_held_blocks_keep_their_samples(void **state)
{
    (void)state;
    for (int t = GW_INPROC; t <= GW_TCP; t++) {
        ends e = {.transport = (gw_transport)t,
                  .send = spec_of("a"),
                  .receive = spec_of("a"),
                  .credit = 10,
                  .blocks = 500,
                  .hold = 5};
        run_ends(&e);
        assert_int_equal(e.receiver_err, GW_EEND);
        assert_int_equal(e.taken, 500);
        assert_true(e.tiles);
    }
}

static void test_drop_leaves_gaps(void **state)
{
    (void)state;
    for (int t = GW_INPROC; t <= GW_TCP; t++) {
        ends e = {.transport = (gw_transport)t,
                  .send = spec_of("a"),
                  .receive = spec_of("a"),
                  .credit = 3,
                  .blocks = 300,
                  .on_full = GW_DROP,
                  .slow_us = 500};
        run_ends(&e);
        assert_int_equal(e.receiver_err, GW_EEND);
        assert_true(e.tiles);
        assert_true(e.gaps_seen > 0 && e.dropped > 0);
        assert_int_equal((uint64_t)e.taken + e.dropped, 300);
        assert_int_equal(e.end, 3000); /* the newest blocks arrive: the oldest were dropped */
        assert_int_equal(e.sent.dropped_samples, e.dropped * SAMPLES);
    }
}

static void test_drop_without_need_does_not_happen(void **state)
{
    (void)state;
    ends e = {.send = spec_of("a"),
              .receive = spec_of("a"),
              .credit = 8,
              .blocks = 200,
              .on_full = GW_DROP,
              .in_step = true};
    run_ends(&e);
    assert_int_equal(e.receiver_err, GW_EEND);
    assert_true(e.tiles);
    assert_int_equal(e.taken, 200);
    assert_int_equal(e.dropped, 0);
}

static void test_wire_refuses_another_stream(void **state)
{
    (void)state;
    for (int t = GW_SHM; t <= GW_TCP; t++) {
        for (int listens = 0; listens < (t == GW_SHM ? 1 : 2); listens++) {
            ends e = {.transport = (gw_transport)t,
                      .receiver_listens = listens,
                      .send = spec_of("a"),
                      .receive = spec_of("a"),
                      .credit = 4,
                      .blocks = 10};
            e.receive.rate.num = 32;
            run_ends(&e);
            assert_int_equal(e.sender_err, GW_EMISMATCH);
            assert_int_equal(e.receiver_err, GW_EMISMATCH);
            assert_int_equal(e.taken, 0);
        }
    }
}

static void test_other_stream_is_refused(void **state)
{
    (void)state;
    ends e = {.send = spec_of("a"), .receive = spec_of("a"), .credit = 4, .blocks = 10};
    e.receive.rate.num = 32;
    e.leave_after = 1; /* never reached */
    e.zmq = zmq_ctx_new();
    gw_sender *s;
    gw_receiver *r;
    gw_link_conf c = {.zmq = e.zmq, .address = "inproc://x", .listen = true, .spec = &e.send, .credit = 4};
    assert_int_equal(gw_sender_open(&s, &c), GW_OK);
    c.spec = &e.receive;
    c.listen = false;
    assert_int_equal(gw_receiver_open(&r, &c), GW_OK);
    wait_sender(s);
    assert_int_equal(gw_sender_pump(s), GW_EMISMATCH);
    gw_receiver_close(&r);
    gw_sender_close(&s);
    zmq_ctx_term(e.zmq);
}

static void test_receiver_leaves(void **state)
{
    (void)state;
    ends e = {.send = spec_of("a"), .receive = spec_of("a"), .credit = 4, .blocks = 1000, .leave_after = 5};
    run_ends(&e);
    assert_int_equal(e.sender_err, GW_EPEER);
}

/* Gives what it may, and lets the receiver take for a while; returns how many blocks were right and in order.
 */
static int move_blocks(ends *e, gw_sender *s, gw_receiver *r, int *sent, int ms)
{
    int taken = 0;
    uint64_t session = 0; /* a new one may begin elsewhere */
    for (int i = 0; i < ms; i++) {
        gw_block *b;
        assert_int_equal(gw_sender_pump(s), GW_OK);
        while (gw_sender_ready(s) && gw_pool_take(e->pool, &b) == GW_OK) {
            fill(e, b, (*sent)++);
            assert_int_equal(gw_sender_give(s, b), GW_OK);
        }
        while (r && gw_receiver_take(r, &b) == GW_OK) {
            assert_true(is_right(e, b));
            assert_true(gw_receiver_session(r) != session || b->hdr.sample0 == e->end);
            session = gw_receiver_session(r);
            e->end = b->hdr.sample0 + SAMPLES;
            taken++;
            assert_int_equal(gw_receiver_done(r, &b), GW_OK);
        }
        usleep(1000);
    }
    return taken;
}

/* A receiver that was silent and was replaced comes back after its successor has left. */
static void test_displaced_receiver_comes_back(void **state)
{
    (void)state;
    for (int lanes = 1; lanes <= 3; lanes += 2) {
        ends e = {
            .transport = GW_IPC, .lanes = lanes, .send = spec_of("a"), .receive = spec_of("a"), .credit = 4};
        e.zmq = zmq_ctx_new();
        assert_int_equal(gw_pool_new(&e.pool, "test", 8, gw_spec_slab_bytes(&e.send), GW_SPACE_HOST), GW_OK);
        gw_sender *s;
        gw_receiver *first, *second;
        int sent = 0;
        gw_link_conf c = conf_of(&e, true);
        assert_int_equal(gw_sender_open(&s, &c), GW_OK);
        c = conf_of(&e, false);
        assert_int_equal(gw_receiver_open(&first, &c), GW_OK);
        assert_true(move_blocks(&e, s, first, &sent, 100) > 20);
        const uint64_t before = gw_receiver_session(first);
        assert_int_equal(move_blocks(&e, s, NULL, &sent, 1200), 0); /* it is silent */
        c.session = 3000;
        c.counts = NULL;
        assert_int_equal(gw_receiver_open(&second, &c), GW_OK);
        assert_true(move_blocks(&e, s, second, &sent, 700) > 20);
        gw_receiver_close(&second);
        assert_true(move_blocks(&e, s, first, &sent, 1500) > 20);
        assert_true(gw_receiver_session(first) > before);
        gw_receiver_close(&first);
        gw_sender_close(&s);
        zmq_ctx_term(e.zmq);
        assert_int_equal(gw_pool_free_slabs(e.pool), 8);
        gw_pool_destroy(&e.pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_shared_pool),
        cmocka_unit_test(test_nothing_lost),
        cmocka_unit_test(test_held_blocks_keep_their_samples),
        cmocka_unit_test(test_wire_refuses_another_stream),
        cmocka_unit_test(test_drop_leaves_gaps),
        cmocka_unit_test(test_drop_without_need_does_not_happen),
        cmocka_unit_test(test_other_stream_is_refused),
        cmocka_unit_test(test_receiver_leaves),
        cmocka_unit_test(test_displaced_receiver_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
