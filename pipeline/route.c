/* SPDX-License-Identifier: GPL-3.0-or-later
 * Which process runs what, and the addresses of the links between them (route.h). */
#include "pipeline/route.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- the processes ----------------------------------------------------------------------------------- */

static bool name_is_good(const char *name)
{
    const size_t n = strlen(name);
    return n > 0 && n < 32 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;
}

/* A host as it stands in "tcp://HOST:port": a name, an IPv4 address, or an IPv6 address in brackets. */
static bool host_is_good(const char *host)
{
    const size_t n = strlen(host);
    return n > 0 && n < 80 && !strpbrk(host, " /@;") && (host[0] == '[' || !strchr(host, ':'));
}

static int read_process(gw_process *p, const char *name, gw_conf *conf)
{
    *p = (gw_process){.name = name, .conf = conf, .host = "", .listen = "", .key = "", .ports = 5700};
    if (!name_is_good(name))
        return gw_conf_fail(conf, "'%s' is no name for a node: letters, digits, '_' and '-', at most 31",
                            name);
    if (gw_conf_kind(conf) != GW_CONF_MAP)
        return gw_conf_fail(conf, "node '%s' wants a map: {} or {host: 10.0.0.2, ports: 5700}", name);
    GW_TRY(gw_conf_get_text(conf, "host", &p->host));
    GW_TRY(gw_conf_get_text(conf, "listen", &p->listen));
    GW_TRY(gw_conf_get_text(conf, "key", &p->key));
    GW_TRY(gw_conf_get_int(conf, "ports", 1, 65535, &p->ports));
    GW_TRY(gw_conf_get_bool(conf, "insecure", &p->insecure));
    for (int i = 0; i < 2; i++) {
        const char *host = i ? p->listen : p->host;
        if (host[0] && !host_is_good(host))
            return gw_conf_fail(conf, "node '%s': '%s' is no host: a name, 10.0.0.2 or [fd00::2]", name,
                                host);
    }
    char what[64];
    snprintf(what, sizeof what, "node %s", name);
    return gw_conf_done(conf, what);
}

int gw_processes_read(gw_processes *p, gw_conf *root)
{
    p->n = 0;
    gw_conf *map = gw_conf_find(root, "nodes");
    if (!map)
        return GW_OK;
    if (gw_conf_kind(map) != GW_CONF_MAP || gw_conf_count(map) == 0)
        return gw_conf_fail(map, "'nodes' wants a map of name: {host: ...}");
    if (gw_conf_count(map) > GW_MAX_PROCESSES)
        return gw_conf_fail(map, "more than %d nodes", GW_MAX_PROCESSES);
    for (int i = 0; i < gw_conf_count(map); i++) {
        GW_TRY(read_process(&p->item[i], gw_conf_key(map, i), gw_conf_item(map, i)));
        p->n++;
    }
    return GW_OK;
}

gw_process *gw_process_find(gw_processes *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->item[i].name, name) == 0)
            return &p->item[i];
    return NULL;
}

static const char *known_names(const gw_processes *p, char *text, size_t n)
{
    text[0] = '\0';
    for (int i = 0; i < p->n; i++) {
        const size_t used = strlen(text);
        snprintf(text + used, n - used, "%s%s", i ? ", " : "", p->item[i].name);
    }
    return text;
}

int gw_process_of(gw_processes *p, gw_conf *part, const char *name, gw_process **out)
{
    *out = NULL;
    char known[256];
    gw_conf *conf = gw_conf_find(part, "node");
    if (!conf && p->n)
        return gw_conf_fail(part, "'%s' wants `node:`, one of the file's nodes (%s)", name,
                            known_names(p, known, sizeof known));
    if (!conf)
        return GW_OK;
    const char *node;
    GW_TRY(gw_conf_text(conf, &node));
    if (!p->n)
        return gw_conf_fail(conf, "'%s' is to run on node '%s', but the file has no `nodes:`", name, node);
    *out = gw_process_find(p, node);
    return *out ? GW_OK
                : gw_conf_fail(conf, "no node '%s' in the file (%s)", node,
                               known_names(p, known, sizeof known));
}

int gw_processes_load_keys(gw_processes *p, const gw_process *own)
{
    if (!own->key[0])
        return GW_OK;
    gw_keys mine = {.own_public = ""};
    GW_TRY(gw_keys_load(&mine, own->key));
    for (int i = 0; i < p->n; i++) {
        gw_process *q = &p->item[i];
        q->keys = mine;
        if (q->key[0])
            GW_TRY(gw_keys_load_public(q->keys.server, q->key));
    }
    return GW_OK;
}

/* -- the links --------------------------------------------------------------------------------------- */

int gw_route_wish_read(gw_route_wish *w, gw_conf *part)
{
    static const char *const words[] = {"shm", "ipc", "tcp", NULL};
    static const gw_transport transport[] = {GW_SHM, GW_IPC, GW_TCP};
    *w = (gw_route_wish){.conf = part, .transport = -1, .lanes = 1};
    int word = -1;
    GW_TRY(gw_conf_get_choice(part, "link", words, &word));
    if (word >= 0)
        w->transport = (int)transport[word];
    return gw_conf_get_int(part, "lanes", 1, GW_MAX_LANES, &w->lanes);
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static bool same_host(const gw_process *a, const gw_process *b)
{
    return strcmp(a->host, b->host) == 0;
}

/* Nobody who is not meant to may read or write the stream: either the ends know each other by their keys, or
 * the file says that this is not needed. */
static int check_secure(const gw_process *from, const gw_process *to, const char *host, const char *what)
{
    if (!from->key[0] != !to->key[0])
        return gw_conf_fail(
            from->key[0] ? to->conf : from->conf,
            "%s goes from node '%s' to '%s' over tcp, and only one of them has a `key:`; give both "
            "one (gwstream keygen) or neither",
            what, from->name, to->name);
    const char *listen = from->listen[0] ? from->listen : host;
    if (from->key[0] || from->insecure || (is_loopback(listen) && is_loopback(host)))
        return GW_OK;
    return gw_conf_fail(from->conf,
                        "%s leaves node '%s' over tcp at %s without keys: give both nodes a `key:` (gwstream "
                        "keygen), or say `insecure: true` on '%s' where the network is trusted",
                        what, from->name, listen, from->name);
}

static uint64_t fnv1a(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return (h ^ 0xff) * UINT64_C(0x100000001b3); /* "ab", "c" is not "a", "bc" */
}

/* The same in every process of a run, another in every other run of this user: of the file (wherever it was
 * named from), GWSTREAM_RUN and the link. Not of the file's text: then an end that reads an older version
 * would wait for ever where it can be told that the streams differ. */
static uint64_t local_name(const char *file, const char *what)
{
    char *whole = realpath(file, NULL);
    const char *run = getenv("GWSTREAM_RUN");
    uint64_t h = fnv1a(UINT64_C(0xcbf29ce484222325), whole ? whole : file);
    free(whole);
    return fnv1a(fnv1a(h, run ? run : ""), what);
}

int gw_route_decide(gw_route *r, gw_process *from, gw_process *to, const gw_route_wish *w, int number,
                    uint32_t n_channels, const char *file, const char *what)
{
    *r = (gw_route){.transport = GW_INPROC, .lanes = 1, .from = from, .to = to};
    snprintf(r->inproc, sizeof r->inproc, "inproc://link-%d", number);
    if (from == to)
        return GW_OK;
    r->across = true;
    r->transport = w->transport >= 0 ? (gw_transport)w->transport : same_host(from, to) ? GW_SHM : GW_TCP;
    if (r->transport != GW_TCP && !same_host(from, to))
        return gw_conf_fail(w->conf, "%s goes from node '%s' to '%s' on another host: %s cannot, tcp can",
                            what, from->name, to->name, gw_transport_text(r->transport));
    if (r->transport == GW_SHM && w->lanes > 1)
        return gw_conf_fail(
            w->conf, "lanes: %" PRId64 " are for ipc and tcp; shm copies nothing and needs one", w->lanes);
    r->lanes = w->lanes < n_channels ? (int)w->lanes : (int)n_channels;
    if (r->transport != GW_TCP) {
        snprintf(r->address, sizeof r->address, "ipc://@gwstream-%u-%016" PRIx64, (unsigned)getuid(),
                 local_name(file, what));
        memcpy(r->bind, r->address, sizeof r->bind);
        return GW_OK;
    }
    const char *host = from->host[0] ? from->host : "127.0.0.1";
    GW_TRY(check_secure(from, to, host, what));
    const int64_t port = from->ports + from->tcp_lanes;
    from->tcp_lanes += r->lanes;
    if (port + r->lanes - 1 > 65535)
        return gw_conf_fail(from->conf, "node '%s': %d tcp ports from %" PRId64 " on end beyond 65535",
                            from->name, from->tcp_lanes, from->ports);
    snprintf(r->address, sizeof r->address, "tcp://%s:%" PRId64, host, port);
    snprintf(r->bind, sizeof r->bind, "tcp://%s:%" PRId64, from->listen[0] ? from->listen : host, port);
    return GW_OK;
}

void gw_route_conf(const gw_route *r, bool sender, bool together, gw_link_conf *c)
{
    c->listen = sender;
    c->transport = together ? GW_INPROC : r->transport;
    c->address = together ? r->inproc : sender ? r->bind : r->address;
    c->lanes = together ? 1 : r->lanes;
    c->crc = sender && c->transport == GW_TCP;
    c->keys = c->transport == GW_TCP && r->from->key[0] ? &r->from->keys : NULL;
}
