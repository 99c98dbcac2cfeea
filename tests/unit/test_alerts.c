/* SPDX-License-Identifier: GPL-3.0-or-later
 * The alerts sink, driven by hand: what a subscriber hears, what is printed, what a replay repeats, what a
 * crash's remains become, and what is refused. A plain ZeroMQ SUB socket listens. */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sinks/journal.h"
#include "sinks/publisher.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

extern const gw_kind gw_kind_alerts;
static const gw_kind *const kind = &gw_kind_alerts;

static char dir[] = "/tmp/gw-alerts-XXXXXX", journal[64], lines[64], endpoint[64];

/* The runner's side, as far as this sink asks for it. */
const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "alerts";
}

gw_timebase gw_env_timebase(const gw_env *env)
{
    (void)env;
    return (gw_timebase){0};
}

void gw_env_gauge(gw_env *env, const char *name, double value)
{
    (void)env, (void)name, (void)value;
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(strcpy(dir, "/tmp/gw-alerts-XXXXXX")))
        return -1;
    snprintf(journal, sizeof journal, "%s/j.sqlite", dir);
    snprintf(lines, sizeof lines, "%s/lines.jsonl", dir);
    snprintf(endpoint, sizeof endpoint, "ipc://%s/pub", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* ---- a sink, from its YAML on ---- */

typedef struct sink {
    gw_conf_file *file;
    void *self;
} sink;

static int sink_configure(sink *s, const char *yaml)
{
    s->file = NULL;
    s->self = calloc(1, kind->state_size);
    assert_non_null(s->self);
    assert_int_equal(gw_conf_parse(&s->file, "test.yaml", yaml, strlen(yaml)), 0);
    int err = kind->configure(s->self, gw_conf_root(s->file));
    return err < 0 ? err : gw_conf_done(gw_conf_root(s->file), "sink alerts");
}

static int sink_open(sink *s, const char *more)
{
    char yaml[400];
    snprintf(yaml, sizeof yaml, "journal: %s\npublish: %s\n%s", journal, endpoint, more);
    if (!strstr(more, "print:"))
        snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), "\nprint: %s\n", lines);
    assert_int_equal(sink_configure(s, yaml), 0);
    gw_plan p = {.name = "alerts", .has_events_in = true};
    assert_int_equal(kind->plan(s->self, &p), 0);
    return kind->open(s->self, NULL);
}

static void sink_close(sink *s)
{
    kind->close(s->self);
    free(s->self);
    gw_conf_free(&s->file);
}

static gw_event an_event(gw_phase phase, const char *id)
{
    gw_event e = {.phase = phase,
                  .gps_ns = INT64_C(1400000000439000000),
                  .detectors = "H1,L1",
                  .stream = "search",
                  .statistic = 7.5,
                  .noise_rate_hz = 1e-5,
                  .background_s = 1e5,
                  .model = "m",
                  .pace = 1};
    snprintf(e.id, sizeof e.id, "%s", id);
    if (phase == GW_PHASE_INJECTION)
        snprintf(e.detail, sizeof e.detail, "{\"network_snr\":12}");
    return e;
}

/* What a detector says about one merger, with the truth in between. */
static void tell(sink *s, const char *id)
{
    static const gw_phase said[] = {GW_PHASE_FIRST, GW_PHASE_UPDATE, GW_PHASE_INJECTION, GW_PHASE_UPDATE,
                                    GW_PHASE_FINAL};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        gw_event e = an_event(said[i], id);
        assert_int_equal(kind->event(s->self, &e), 0);
    }
}

static int summarise(gw_journal_summary *sum)
{
    gw_journal *j = NULL;
    GW_TRY(gw_journal_open_read(&j, journal));
    int err = gw_journal_summarise(j, gw_journal_run(j), sum);
    gw_journal_close(&j);
    return err;
}

/* ---- a subscriber ---- */

static void *zmq;

static void *subscribe(const char *to)
{
    int timeout_ms = 300;
    zmq = zmq_ctx_new();
    void *s = zmq_socket(zmq, ZMQ_SUB);
    zmq_setsockopt(s, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    assert_int_equal(zmq_setsockopt(s, ZMQ_SUBSCRIBE, "event.", 6), 0);
    assert_int_equal(zmq_connect(s, to), 0);
    return s;
}

static void unsubscribe(void *s)
{
    zmq_close(s);
    zmq_ctx_term(zmq);
}

/* Topic and text, or false when nothing comes; the third frame counts the messages. */
static bool hear(void *s, char *topic, char *json)
{
    int n = zmq_recv(s, topic, 31, 0), more = 0;
    size_t size = sizeof more;
    if (n < 0)
        return false;
    topic[n] = '\0';
    assert_int_equal(zmq_getsockopt(s, ZMQ_RCVMORE, &more, &size), 0);
    assert_int_equal(more, 1);
    n = zmq_recv(s, json, GW_JOURNAL_JSON_BYTES - 1, 0);
    assert_true(n > 0);
    json[n] = '\0';
    char number[24] = "";
    zmq_getsockopt(s, ZMQ_RCVMORE, &more, &size);
    assert_int_equal(more, 1);
    assert_true(zmq_recv(s, number, sizeof number - 1, 0) > 0);
    assert_true(strtol(number, NULL, 10) > 0);
    zmq_getsockopt(s, ZMQ_RCVMORE, &more, &size);
    assert_int_equal(more, 0);
    return true;
}

/* Line k of the printed file, without what depends on the wall clock. */
static const char *printed(int k)
{
    static char line[GW_JOURNAL_JSON_BYTES];
    FILE *f = fopen(lines, "r");
    assert_non_null(f);
    line[0] = '\0';
    for (int i = 0; i <= k; i++)
        if (!fgets(line, sizeof line, f))
            line[0] = '\0';
    fclose(f);
    char *wall = strstr(line, ",\"wall\":");
    if (wall)
        *wall = '\0';
    return line;
}

static void subscribers_hear_what_is_journaled(void **state)
{
    (void)state;
    sink s;
    char topic[32], json[GW_JOURNAL_JSON_BYTES];
    assert_int_equal(sink_open(&s, ""), 0);
    void *sub = subscribe(endpoint);
    usleep(200000); /* it takes a moment to arrive */
    tell(&s, "Gaa");
    static const char *const want[] = {"event.first", "event.update", "event.update", "event.final"};
    for (int i = 0; i < 4; i++) {
        assert_true(hear(sub, topic, json));
        assert_string_equal(topic, want[i]);
        *strstr(json, ",\"wall\":") = '\0';
        assert_string_equal(json, printed(i));
        assert_non_null(strstr(json, i == 2 ? "\"serial\":2," : "\"serial\":1,"));
    }
    assert_false(hear(sub, topic, json)); /* the truth stays at home */
    assert_string_equal(printed(4), "");
    assert_int_equal(kind->drain(s.self, NULL), 0);
    sink_close(&s);
    unsubscribe(sub);

    gw_journal_summary sum;
    assert_int_equal(summarise(&sum), 0);
    assert_int_equal(sum.events * 100 + sum.injections * 10 + sum.found, 111);
}

static void a_replay_prints_but_does_not_publish_again(void **state)
{
    (void)state;
    sink s;
    char topic[32], json[GW_JOURNAL_JSON_BYTES], line[4][GW_JOURNAL_JSON_BYTES];
    assert_int_equal(sink_open(&s, ""), 0);
    tell(&s, "Gaa");
    sink_close(&s);
    for (int i = 0; i < 4; i++)
        strcpy(line[i], printed(i));
    assert_int_equal(unlink(lines), 0);

    assert_int_equal(sink_open(&s, "print_injections: true"), 0);
    void *sub = subscribe(endpoint);
    usleep(200000);
    tell(&s, "Gaa");
    assert_false(hear(sub, topic, json));
    for (int i = 0; i < 4; i++)
        assert_string_equal(printed(i < 2 ? i : i + 1), line[i]);
    assert_non_null(strstr(printed(2), "\"type\":\"injection\"")); /* asked for this time */
    tell(&s, "Gbb"); /* and something new is published as ever */
    assert_true(hear(sub, topic, json));
    assert_non_null(strstr(json, "Gbb"));
    sink_close(&s);
    unsubscribe(sub);
}

/* Another recording with a merger in the same second: it is not the first one said again. */
static void another_event_under_the_same_id_is_published(void **state)
{
    (void)state;
    sink s;
    char topic[32], json[GW_JOURNAL_JSON_BYTES];
    assert_int_equal(sink_open(&s, ""), 0);
    tell(&s, "Gaa");
    sink_close(&s);
    assert_int_equal(sink_open(&s, ""), 0);
    void *sub = subscribe(endpoint);
    usleep(200000);
    gw_event e = an_event(GW_PHASE_FIRST, "Gaa");
    e.statistic = 17.5;
    assert_int_equal(kind->event(s.self, &e), 0);
    assert_true(hear(sub, topic, json));
    assert_non_null(strstr(json, "\"serial\":2,"));
    assert_non_null(strstr(json, "\"statistic\":17.5,"));
    sink_close(&s);
    unsubscribe(sub);
}

static char seen[64];

static void note(bool before)
{
    strcat(seen, before ? "clear " : "redraw");
}

static void the_progress_line_makes_room_on_a_terminal(void **state)
{
    (void)state;
    int master = posix_openpt(O_RDWR | O_NOCTTY), fd = -1;
    if (master < 0) {
        print_message("skipped: this machine has no pseudo terminals\n");
        skip();
    }
    assert_true(grantpt(master) == 0 && unlockpt(master) == 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0);
    assert_int_equal(gw_lines_open(lines, &fd), 0);
    gw_log_set_hook(note);
    seen[0] = '\0';
    int err = gw_lines_write(fd, lines, "{}", 2);
    assert_string_equal(seen, ""); /* a file has no progress line */
    err += gw_lines_write(terminal, "stdout", "{}", 2);
    gw_log_set_hook(NULL);
    assert_int_equal(err, 0);
    assert_string_equal(seen, "clear redraw");
    gw_log_lock(); /* it was given back */
    gw_log_unlock();
    gw_lines_close(&fd);
    close(terminal);
    close(master);
}

/* Committed by a run on such data, and nothing more. */
static void crash_with_a_word(const char *origin)
{
    gw_journal *j = NULL;
    gw_event e = an_event(GW_PHASE_FIRST, "Gaa");
    int serial;
    bool published;
    assert_int_equal(gw_journal_open(&j, journal), 0);
    assert_int_equal(gw_journal_set_origin(j, origin), 0);
    assert_int_equal(gw_journal_put(j, &e, &serial, &published), 0);
    gw_journal_close(&j);
}

static void what_a_crash_left_is_published_again(void **state)
{
    (void)state;
    crash_with_a_word("live");

    sink s;
    char topic[32], json[GW_JOURNAL_JSON_BYTES];
    void *sub = subscribe(endpoint); /* waits for its publisher to come back */
    int timeout_ms = 3000;
    zmq_setsockopt(sub, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    assert_int_equal(sink_open(&s, ""), 0);
    assert_true(hear(sub, topic, json));
    assert_string_equal(topic, "event.first");
    assert_non_null(strstr(json, "\"recovered\":true}}"));
    tell(&s, "Gaa"); /* the detector finds it once more: only the rest is new */
    assert_true(hear(sub, topic, json));
    assert_string_equal(topic, "event.update");
    assert_null(strstr(json, "recovered"));
    sink_close(&s);
    unsubscribe(sub);
    gw_journal_summary sum;
    assert_int_equal(summarise(&sum), 0);
    assert_int_equal(sum.recovered, 1);
}

/* A replay that fell over left a word behind; the journal's next run is live. */
static void what_a_replay_left_is_not_told_by_a_live_run(void **state)
{
    (void)state;
    crash_with_a_word("replay");

    sink s;
    char topic[32], json[GW_JOURNAL_JSON_BYTES];
    assert_int_equal(sink_open(&s, ""), 0); /* live */
    void *sub = subscribe(endpoint);
    usleep(200000);
    tell(&s, "Gbb");
    assert_true(hear(sub, topic, json));
    assert_non_null(strstr(json, "Gbb"));
    assert_null(strstr(json, "recovered"));
    for (int i = 0; i < 4; i++)
        assert_null(strstr(printed(i), "Gaa"));
    sink_close(&s);
    unsubscribe(sub);
    gw_journal_summary sum;
    assert_int_equal(summarise(&sum), 0);
    assert_int_equal(sum.recovered, 0);
}

static void replayed_data_stay_on_this_host_unless_let_out(void **state)
{
    (void)state;
    static const struct {
        gw_origin origin;
        const char *publish;
        bool let_out;
        int err;
        const char *says;
    } cases[] = {
        {GW_ARCHIVED, "tcp://0.0.0.0:5556\nbeyond_host: true", false, GW_ECONFIG, "a recording"},
        {GW_SIMULATED, "tcp://0.0.0.0:5556\nbeyond_host: true", false, GW_ECONFIG, "simulated"},
        {GW_SIMULATED, "tcp://0.0.0.0:5556\nbeyond_host: true", true, 0, ""},
        {GW_LIVE, "tcp://0.0.0.0:5556\nbeyond_host: true", false, 0, ""},
        {GW_SIMULATED, "tcp://127.0.0.1:5556\nbeyond_host: true", false, 0, ""},
        {GW_ARCHIVED, "ipc:///tmp/gw\nbeyond_host: true", false, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sink s;
        char yaml[128];
        snprintf(yaml, sizeof yaml, "publish: %s\n", cases[i].publish);
        assert_int_equal(sink_configure(&s, yaml), 0);
        gw_plan p = {
            .name = "alerts", .has_events_in = true, .origin = cases[i].origin, .publish = cases[i].let_out};
        gw_err_clear();
        const int err = kind->plan(s.self, &p);
        if (err != cases[i].err || !strstr(gw_err_detail(), cases[i].says) ||
            (err && !strstr(gw_err_detail(), "gwstream run --publish")))
            fail_msg("case %zu: got %s '%s'", i, gw_err_name(err), gw_err_detail());
        sink_close(&s);
    }
}

static void taken_ports_and_paths_are_said(void **state)
{
    (void)state;
    sink s;
    char bound[64];
    size_t size = sizeof bound;
    void *context = zmq_ctx_new(), *other = zmq_socket(context, ZMQ_PUB);
    assert_int_equal(zmq_bind(other, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(other, ZMQ_LAST_ENDPOINT, bound, &size);
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            strcpy(endpoint, bound);
        } else {
            snprintf(endpoint, sizeof endpoint, "ipc://%s/theirs", dir);
            assert_int_equal(zmq_bind(other, endpoint), 0);
        }
        assert_int_equal(sink_open(&s, ""), GW_EBUSY);
        assert_non_null(strstr(gw_err_detail(), endpoint));
        assert_non_null(strstr(gw_err_detail(), "in use by another program"));
        sink_close(&s);
    }
    zmq_close(other);
    zmq_ctx_term(context);
}

static void lines_that_cannot_be_printed_are_not_lost(void **state)
{
    (void)state;
    sink s;
    assert_int_equal(sink_open(&s, "print: /dev/full"), 0);
    tell(&s, "Gaa");
    assert_int_equal(kind->drain(s.self, NULL), GW_EIO);
    assert_non_null(strstr(gw_err_detail(), "4 lines could not be written"));
    sink_close(&s);
    assert_int_equal(sink_open(&s, "print: /dev/full"), 0);
    gw_event one = an_event(GW_PHASE_FIRST, "Gaa");
    assert_int_equal(kind->event(s.self, &one), 0);
    assert_int_equal(kind->drain(s.self, NULL), GW_EIO);
    assert_non_null(strstr(gw_err_detail(), "1 line could not be written"));
    sink_close(&s);
    gw_journal_summary sum;
    assert_int_equal(summarise(&sum), 0);
    assert_int_equal(sum.events, 1);

    snprintf(lines, sizeof lines, "%s/none/lines", dir);
    assert_int_equal(sink_open(&s, ""), GW_EMISSING);
    assert_non_null(strstr(gw_err_detail(), lines));
    sink_close(&s);
}

static void bad_configuration_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        int err;
        const char *says;
    } bad[] = {
        {"publish: tcp://0.0.0.0:5556", GW_ECONFIG, "beyond_host: true"},
        {"publish: \"tcp://*:5556\"", GW_ECONFIG, "beyond_host: true"},
        {"publish: tcp://127.0.0.1.example.org:5556", GW_ECONFIG, "beyond_host: true"},
        {"publish: tcp://0.0.0.0:5556\nbeyond_host: true", 0, ""},
        {"publish: tcp://127.0.0.2:5556", 0, ""},
        {"publish: \"tcp://[::1]:5556\"", 0, ""},
        {"publish: none", 0, ""},
        {"publish: tcp://127.0.0.1", GW_ECONFIG, "neither tcp"},
        {"publish: tcp://127.0.0.1:99999", GW_ECONFIG, "1 to 65535"},
        {"publish: tcp://127.0.0.1:+1", GW_ECONFIG, "1 to 65535"},
        {"publish: tcp://:5556", GW_ECONFIG, "wants an address"},
        {"publish: \"tcp:\"", GW_ECONFIG, "neither tcp"},
        {"publish: http://127.0.0.1:80", GW_ECONFIG, "neither tcp"},
        {"publish: ipc://", GW_ECONFIG, "1 to 107"},
        {"journal: \"\"", GW_ECONFIG, "journal"},
        {"print: \"\"", GW_ECONFIG, "print"},
        {"beyond_host: yes", GW_ECONFIG, "beyond_host"},
        {"jounral: x", GW_ECONFIG, "jounral"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sink s;
        gw_err_clear();
        int err = sink_configure(&s, bad[i].yaml);
        if (err != bad[i].err || !strstr(gw_err_detail(), bad[i].says))
            fail_msg("%s: got %s '%s'", bad[i].yaml, gw_err_name(err), gw_err_detail());
        sink_close(&s);
    }
    sink s;
    gw_plan p = {.name = "alerts", .has_events_in = false};
    assert_int_equal(sink_configure(&s, "print: none"), 0);
    assert_int_equal(kind->plan(s.self, &p), GW_ECONFIG);
    sink_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(subscribers_hear_what_is_journaled, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_replay_prints_but_does_not_publish_again, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(another_event_under_the_same_id_is_published, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_progress_line_makes_room_on_a_terminal, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_a_crash_left_is_published_again, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_a_replay_left_is_not_told_by_a_live_run, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(replayed_data_stay_on_this_host_unless_let_out, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(taken_ports_and_paths_are_said, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(lines_that_cannot_be_printed_are_not_lost, make_dir, remove_dir),
        cmocka_unit_test(bad_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
