/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a graph's file leads to before anything runs: nodes, transports, addresses and their safety, credits
 * that cannot stall, slabs and memory. With small kinds of our own; nothing is started. */
#include "pipeline/graph.h"
#include "pipeline/monitor.h"
#include "pipeline/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* -- kinds that only plan ---------------------------------------------------------------------------- */

typedef struct shape {
    int64_t channels, block, delay_ms, hop, keep_ms;
} shape;

static int configure(void *self, gw_conf *c)
{
    shape *s = self;
    *s = (shape){.channels = 1, .block = 100, .hop = 50};
    GW_TRY(gw_conf_get_int(c, "channels", 1, 10000000, &s->channels));
    GW_TRY(gw_conf_get_int(c, "block", 1, 100000, &s->block));
    GW_TRY(gw_conf_get_int(c, "delay_ms", 0, 100000, &s->delay_ms));
    GW_TRY(gw_conf_get_int(c, "hop", 1, 1000, &s->hop));
    return gw_conf_get_int(c, "keep_ms", 0, 100000, &s->keep_ms);
}

static int plan_source(void *self, gw_plan *p)
{
    const shape *s = self;
    p->n_out = 1;
    p->out[0] = (gw_spec){.rate = {1000, 1}, .dtype = GW_F32, .block_samples = (uint32_t)s->block};
    return gw_spec_set_channels(&p->out[0], (uint32_t)s->channels, NULL);
}

static int plan_stage(void *self, gw_plan *p)
{
    const shape *s = self;
    p->n_out = 1;
    GW_TRY(gw_spec_copy(&p->out[0], &p->in[0]));
    p->out[0].name[0] = '\0';
    p->delay_ns = s->delay_ms * 1000000;
    p->keep_ns[0] = s->keep_ms * 1000000;
    return GW_OK;
}

static int plan_join(void *self, gw_plan *p)
{
    const shape *s = self;
    for (int i = 0; i < p->n_in; i++)
        p->hop[i] = (uint32_t)s->hop;
    return plan_stage(self, p);
}

static int plan_sink(void *self, gw_plan *p)
{
    for (int i = 0; i < p->n_in; i++)
        p->keep_ns[i] = ((shape *)self)->keep_ms * 1000000;
    return GW_OK;
}

static int next(void *self, int port, gw_piece *p)
{
    (void)self;
    (void)port;
    (void)p;
    return GW_EEND;
}

static int take(void *self, int port, const gw_view *v)
{
    (void)self;
    (void)port;
    (void)v;
    return GW_OK;
}

static int event(void *self, const gw_event *e)
{
    (void)self;
    (void)e;
    return GW_OK;
}

static int command(void *self, const char *words, char *answer, size_t bytes)
{
    (void)self;
    (void)words;
    (void)answer;
    (void)bytes;
    return GW_OK;
}

#define KIND(word, r, p, ...)                                                                                \
    {                                                                                                        \
        .kind = (word), .role = (r), .state_size = sizeof(shape), .configure = configure, .plan = (p),       \
        __VA_ARGS__                                                                                          \
    }
static const gw_kind source = KIND("source", GW_SOURCE, plan_source, .next = next, .makes_events = true);
static const gw_kind live = KIND("live", GW_SOURCE, plan_source, .next = next);
static const gw_kind late = KIND("late", GW_STAGE, plan_stage, .gap = NULL);
static const gw_kind join = KIND("join", GW_STAGE, plan_join, .makes_events = true);
static const gw_kind sink =
    KIND("sink", GW_SINK, plan_sink, .take = take, .event = event, .command = command, .takes_events = true);
const gw_kind *const gw_kinds[] = {&source, &live, &late, &join, &sink, NULL};

const gw_kind *gw_kind_find(const char *word)
{
    for (int i = 0; gw_kinds[i]; i++)
        if (strcmp(gw_kinds[i]->kind, word) == 0)
            return gw_kinds[i];
    return NULL;
}

/* -- helpers ----------------------------------------------------------------------------------------- */

static gw_graph *parse(const char *yaml)
{
    gw_graph *g = NULL;
    if (gw_graph_parse(&g, "graph.yaml", yaml) != GW_OK)
        fail_msg("%s", gw_err_detail());
    return g;
}

static void bad(const char *yaml, const char *say)
{
    gw_graph *g = NULL;
    assert_int_not_equal(gw_graph_parse(&g, "bad.yaml", yaml), GW_OK);
    assert_null(g);
    if (!strstr(gw_err_detail(), say))
        fail_msg("'%s' does not say '%s'", gw_err_detail(), say);
}

static const gw_node *node(const gw_graph *g, const char *name)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (strcmp(g->node[i]->name, name) == 0)
            return g->node[i];
    fail_msg("no node %s", name);
    return NULL;
}

/* -- nodes and addresses ----------------------------------------------------------------------------- */

#define PARTS                                                                                                \
    "sources: {a: {kind: source, node: front, channels: 4}}\n"                                               \
    "stages: {s: {kind: late, from: a, node: back%s}}\n"                                                     \
    "sinks: {k: {kind: sink, from: [s, a], node: back}}\n"

static const char *with(char *text, size_t n, const char *nodes, const char *more)
{
    const size_t used = (size_t)snprintf(text, n, "nodes: {%s}\n", nodes);
    snprintf(text + used, n - used, PARTS, more);
    return text;
}

static void test_transport_follows_from_the_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *nodes, *more;
        gw_transport transport;
        int lanes;
        const char *address, *bind;
    } row[] = {
        {"front: {}, back: {}", "", GW_SHM, 1, "ipc://@gwstream-", NULL},
        {"front: {host: a}, back: {host: a}", "", GW_SHM, 1, "ipc://@gwstream-", NULL},
        {"front: {}, back: {}", ", link: ipc, lanes: 3", GW_IPC, 3, "ipc://@gwstream-", NULL},
        {"front: {}, back: {}", ", link: tcp, lanes: 9", GW_TCP, 4, "tcp://127.0.0.1:5700", NULL},
        {"front: {host: 10.0.0.1, insecure: true}, back: {host: 10.0.0.2}", "", GW_TCP, 1,
         "tcp://10.0.0.1:5700", NULL},
        {"front: {host: 10.0.0.1, listen: 0.0.0.0, ports: 80, insecure: true}, back: {host: b}", ", lanes: 2",
         GW_TCP, 2, "tcp://10.0.0.1:80", "tcp://0.0.0.0:80"},
        {"front: {host: '[fd00::1]', key: x}, back: {host: b, key: y}", "", GW_TCP, 1, "tcp://[fd00::1]:5700",
         NULL},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char yaml[1000];
        gw_graph *g = parse(with(yaml, sizeof yaml, row[i].nodes, row[i].more));
        const gw_route *r = &node(g, "s")->in[0].route;
        assert_true(r->across);
        assert_int_equal(r->transport, row[i].transport);
        assert_int_equal(r->lanes, row[i].lanes);
        assert_memory_equal(r->address, row[i].address, strlen(row[i].address));
        assert_string_equal(r->bind, row[i].bind ? row[i].bind : r->address);
        assert_false(node(g, "k")->in[0].route.across); /* s and k are on the same */
        const gw_route *other = &node(g, "k")->in[1].route;
        assert_true(other->across);
        assert_string_not_equal(other->address, r->address);
        const gw_feed *feed = node(g, "k")->feed_in[0];
        assert_true(feed->route.across);
        assert_string_not_equal(feed->route.address, other->address);
        gw_graph_free(&g);
    }
}

static void test_ports_are_numbered_on(void **state)
{
    (void)state;
    char yaml[1000];
    gw_graph *g =
        parse(with(yaml, sizeof yaml, "front: {host: a, insecure: true}, back: {host: b}", ", lanes: 4"));
    assert_string_equal(node(g, "s")->in[0].route.address, "tcp://a:5700");
    assert_string_equal(node(g, "k")->in[1].route.address, "tcp://a:5704");
    assert_string_equal(node(g, "k")->feed_in[0]->route.address, "tcp://a:5705");
    gw_graph_free(&g);
    bad(with(yaml, sizeof yaml, "front: {host: a, insecure: true, ports: 65534}, back: {host: b}",
             ", lanes: 4"),
        "65535");
}

static void test_names_are_of_the_run(void **state)
{
    (void)state;
    char yaml[1000], first[GW_ADDRESS_BYTES];
    with(yaml, sizeof yaml, "front: {}, back: {}", "");
    gw_graph *g = parse(yaml);
    snprintf(first, sizeof first, "%s", node(g, "s")->in[0].route.address);
    gw_graph_free(&g);
    g = parse(yaml); /* another process, the same file */
    assert_string_equal(node(g, "s")->in[0].route.address, first);
    gw_graph_free(&g);
    setenv("GWSTREAM_RUN", "two", 1);
    g = parse(yaml);
    assert_string_not_equal(node(g, "s")->in[0].route.address, first);
    gw_graph_free(&g);
    unsetenv("GWSTREAM_RUN");
    assert_int_equal(gw_graph_parse(&g, "other.yaml", yaml), GW_OK);
    assert_string_not_equal(node(g, "s")->in[0].route.address, first);
    gw_graph_free(&g);
}

static void test_bad_nodes(void **state)
{
    (void)state;
    char yaml[1000];
    static const char *const row[][3] = {
        {"front: {host: a}, back: {host: b}", "", "insecure: true"},
        {"front: {listen: 0.0.0.0}, back: {}", ", link: tcp", "insecure: true"},
        {"front: {host: a, key: x}, back: {host: b}", "", "only one of them"},
        {"front: {host: a}, back: {host: b}", ", link: shm", "another host"},
        {"front: {}, back: {}", ", link: shm, lanes: 2", "lanes"},
        {"front: {}, back: {}", ", link: udp", "udp"},
        {"front: {}, back: {}, side: {}", "", "'side' has no parts"},
        {"front: {}", "", "no node 'back'"},
        {"front: {}, back: []", "", "wants a map"},
        {"front: {}, 'b ck': {}", "", "no name"},
        {"front: {ports: 0}, back: {}", "", "ports"},
        {"front: {host: 'a b'}, back: {}", "", "no host"},
        {"front: {hots: a}, back: {}", "", "hots"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        bad(with(yaml, sizeof yaml, row[i][0], row[i][1]), row[i][2]);
    bad("nodes: {a: {}}\nsources: {x: {kind: source}}\nsinks: {k: {kind: sink, from: x, node: a}}\n",
        "wants `node:`");
    bad("sources: {x: {kind: source, node: a}}\nsinks: {k: {kind: sink, from: x}}\n", "no `nodes:`");
}

static void test_choice(void **state)
{
    (void)state;
    char yaml[1000];
    gw_graph *g = parse(with(yaml, sizeof yaml, "front: {}, back: {}", ""));
    assert_int_equal(g->n_here, 3);
    assert_int_equal(gw_graph_choose(g, "middle"), GW_EUSAGE);
    assert_non_null(strstr(gw_err_detail(), "front, back"));
    assert_int_equal(gw_graph_choose(g, "back"), GW_OK);
    assert_int_equal(g->n_here, 2);
    assert_false(g->source_here || node(g, "a")->here);
    gw_graph_free(&g);
    g = parse("sources: {x: {kind: source}}\nsinks: {k: {kind: sink, from: x}}\n");
    assert_int_equal(gw_graph_choose(g, "back"), GW_EUSAGE);
    gw_graph_free(&g);
}

/* -- credits and memory ------------------------------------------------------------------------------ */

#define FORK                                                                                                 \
    "sources: {a: {kind: source}}\nstages: {slow: {kind: late, from: a, delay_ms: 2000}, j: {kind: join, "

static void test_credits_are_enough(void **state)
{
    (void)state;
    gw_graph *g = parse(FORK "from: [slow, a]}}\nsinks: {k: {kind: sink, from: j}}\n");
    const gw_node *j = node(g, "j");
    assert_int_equal(j->in[0].credit, 8);
    assert_in_range(j->in[1].credit, 20, 26); /* 2 s are 20 blocks */
    assert_in_range(node(g, "a")->out[0].slabs, 8 + j->in[1].credit, 8 + j->in[1].credit + 3);
    gw_graph_free(&g);
    bad(FORK "from: [slow, a], credit: 8}}\nsinks: {k: {kind: sink, from: j}}\n", "credit: 2");
    assert_non_null(strstr(gw_err_detail(), "j waits for slow"));
    assert_non_null(strstr(gw_err_detail(), "bad.yaml:2:"));
    g = parse(FORK "from: [slow, a], credit: 30}}\nsinks: {k: {kind: sink, from: j}}\n");
    gw_graph_free(&g);
    g = parse(FORK "from: [slow, a], credit: 8, on_full: drop}}\nsinks: {k: {kind: sink, from: j}}\n");
    assert_int_equal(node(g, "j")->in[1].credit, 8); /* it drops rather than stalls */
    assert_int_equal(node(g, "j")->in[1].on_full, GW_DROP);
    gw_graph_free(&g);
    g = parse(
        "sources: {a: {kind: source}}\nstages: {s: {kind: late, from: a, delay_ms: 9000, credit: 1}}\n"
        "sinks: {k: {kind: sink, from: [s, a], credit: 1}}\n"); /* a sink waits for nobody in particular */
    gw_graph_free(&g);
}

static void test_what_a_sink_keeps(void **state)
{
    (void)state;
    gw_graph *g = parse("sources: {a: {kind: source}}\n"
                        "sinks: {k: {kind: sink, from: a, keep_ms: 2050}, l: {kind: sink, from: a}}\n");
    assert_int_equal(node(g, "k")->in[0].keep, 22); /* 20.5 blocks, and one that is being filled */
    assert_int_equal(node(g, "k")->in[0].credit, 8);
    assert_int_equal(node(g, "a")->out[0].slabs, 3 + 8 + 22 + 8);
    assert_true(gw_node_memory(node(g, "a")) >= 41 * 400);
    gw_graph_free(&g);
    g = parse("nodes: {p: {}, q: {}}\nsources: {a: {kind: source, node: p}}\n"
              "sinks: {k: {kind: sink, from: a, keep_ms: 2050, node: q}}\n");
    assert_int_equal(node(g, "k")->in[0].credit, 8 + 22); /* between processes they count as in flight */
    gw_graph_free(&g);
}

/* What a stage collects is in slabs of its producer. Once it has all, it lacks none of it any more: the proof
 * counts on that much less room. */
static void test_what_a_stage_keeps(void **state)
{
    (void)state;
    gw_graph *g = parse("sources: {a: {kind: source}}\n"
                        "stages: {s: {kind: late, from: a, delay_ms: 1000, keep_ms: 900}}\n"
                        "sinks: {k: {kind: sink, from: s}}\n");
    assert_int_equal(node(g, "s")->in[0].keep, 10); /* 9 blocks, and the one that is being filled */
    assert_int_equal(node(g, "s")->in[0].credit, 8);
    assert_int_equal(node(g, "a")->out[0].slabs, 3 + 8 + 10);
    gw_graph_free(&g);
    /* j waits for s, which collects a second; its other input must queue up as long, however much s lets go.
     */
    const char *const joined = "sources: {a: {kind: source}}\n"
                               "stages: {s: {kind: late, from: a, delay_ms: 1000, keep_ms: %d},\n"
                               "         j: {kind: join, from: [s, a]}}\n"
                               "sinks: {k: {kind: sink, from: j}}\n";
    int credit[2];
    for (int keeps = 0; keeps < 2; keeps++) {
        char yaml[512];
        snprintf(yaml, sizeof yaml, joined, keeps ? 900 : 0);
        g = parse(yaml);
        credit[keeps] = node(g, "j")->in[1].credit;
        gw_graph_free(&g);
    }
    assert_true(credit[0] > 8 && credit[1] >= credit[0]);
    g = parse("nodes: {p: {}, q: {}}\nsources: {a: {kind: source, node: p}}\n"
              "stages: {s: {kind: late, from: a, delay_ms: 1000, keep_ms: 900, node: q}}\n"
              "sinks: {k: {kind: sink, from: s, node: q}}\n");
    assert_int_equal(node(g, "s")->in[0].credit, 8 + 10);
    gw_graph_free(&g);
}

/* Queue, credit, and over a wire that resends what is worked off but still on its way. */
static void test_slabs_of_a_link_that_drops(void **state)
{
    (void)state;
    static const struct {
        const char *link;
        int slabs;
    } row[] = {{"on_full: drop, node: p", 2 * 8},
               {"on_full: drop, node: q", 2 * 8},
               {"on_full: drop, node: q, link: ipc", 3 * 8},
               {"on_full: drop, node: q, link: tcp", 3 * 8},
               {"on_full: wait, node: q, link: tcp", 8}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char yaml[500];
        snprintf(yaml, sizeof yaml,
                 "nodes: {p: {}, q: {}}\nsources: {a: {kind: source, node: p}}\n"
                 "sinks: {k: {kind: sink, from: a, credit: 8, %s}, l: {kind: sink, from: a, node: q}}\n",
                 row[i].link);
        gw_graph *g = parse(yaml);
        assert_int_equal(node(g, "a")->out[0].slabs, 3 + row[i].slabs + 8);
        gw_graph_free(&g);
    }
}

static void test_live_data_have_patience(void **state)
{
    (void)state;
#define TWO(kind, more)                                                                                      \
    "sources: {a: {kind: " kind "}, b: {kind: " kind "}}\nstages: {j: {kind: join, from: [a, b]" more "}}\n" \
    "sinks: {k: {kind: sink, from: j}}\n"
    static const struct {
        const char *yaml;
        int64_t patience_ns;
    } row[] = {{TWO("source", ""), 0},
               {TWO("source", ", patience: 250ms"), 250000000},
               {TWO("live", ""), 500000000},
               {TWO("live", ", patience: 2s"), 2 * GW_SECOND_NS}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        gw_graph *g = parse(row[i].yaml);
        assert_int_equal(node(g, "j")->patience_ns, row[i].patience_ns);
        assert_int_equal(node(g, "j")->in[0].ahead > 0, row[i].patience_ns > 0);
        gw_graph_free(&g);
    }
    gw_graph *g = parse(TWO("live", "")); /* nobody may hold up what comes from outside */
    assert_int_equal(node(g, "k")->in[0].on_full, GW_DROP);
    gw_graph_free(&g);
}

/* -- what fails, and what is asked of the wrong one --------------------------------------------------- */

static void test_an_input_that_fails_to_open_leaves_nothing(void **state)
{
    (void)state;
    gw_graph *g = parse("sources: {a: {kind: source}}\nstages: {j: {kind: join, from: a}}\n"
                        "sinks: {k: {kind: sink, from: j}}\n");
    gw_node *j = (gw_node *)node(g, "j");
    assert_int_not_equal(gw_node_open_links(j), GW_OK); /* the graph was not started: there is no context */
    assert_null(j->in[0].link);
    assert_non_null(j->in[0].buffer);
    gw_node_close_links(j);
    assert_null(j->in[0].buffer);
    assert_null(j->in[0].presence);
    gw_graph_free(&g);
}

/* One request to our own monitor; the answer to its end. */
static const char *ask(const char *line, char *text, size_t n)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const size_t bytes = gw_monitor_name(at.sun_path, geteuid(), getpid());
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = 2}; /* a command is waited for much longer */
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(
        connect(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes)), 0);
    assert_int_equal(send(fd, line, strlen(line), 0), strlen(line));
    size_t used = 0;
    for (ssize_t got = 1; got > 0; used += got > 0 ? (size_t)got : 0)
        got = recv(fd, text + used, n - 1 - used, 0);
    text[used] = '\0';
    close(fd);
    return text;
}

static void test_a_command_for_another_process(void **state)
{
    (void)state;
    gw_graph *g = parse("nodes: {p: {}, q: {}}\nsources: {a: {kind: source, node: p}}\n"
                        "sinks: {k: {kind: sink, from: a, node: q}, l: {kind: sink, from: a, node: p}}\n");
    assert_int_equal(gw_graph_choose(g, "p"), GW_OK);
    gw_monitor *m;
    assert_int_equal(gw_monitor_start(&m, g), GW_OK);
    char text[1000];
    assert_string_equal(ask("dump k 1 /tmp/x\n", text, sizeof text),
                        "error sink 'k' runs on node q: ask the process of that node\n");
    assert_string_equal(ask("dump none 1 /tmp/x\n", text, sizeof text),
                        "error no sink 'none' takes commands here (l)\n");
    gw_monitor_stop(&m);
    gw_graph_free(&g);
}

static void test_blocks_are_not_too_long(void **state)
{
    (void)state;
    bad("sources: {a: {kind: source, channels: 20000, block: 100000}}\nsinks: {k: {kind: sink, from: a}}\n",
        "shorter");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transport_follows_from_the_hosts),
        cmocka_unit_test(test_ports_are_numbered_on),
        cmocka_unit_test(test_names_are_of_the_run),
        cmocka_unit_test(test_bad_nodes),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_credits_are_enough),
        cmocka_unit_test(test_what_a_sink_keeps),
        cmocka_unit_test(test_what_a_stage_keeps),
        cmocka_unit_test(test_slabs_of_a_link_that_drops),
        cmocka_unit_test(test_live_data_have_patience),
        cmocka_unit_test(test_blocks_are_not_too_long),
        cmocka_unit_test(test_an_input_that_fails_to_open_leaves_nothing),
        cmocka_unit_test(test_a_command_for_another_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
