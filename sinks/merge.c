/* SPDX-License-Identifier: GPL-3.0-or-later
 * Branches' words to one event (merge.h). A cluster keeps the last word of each branch and what was told of
 * it; whatever changes, decide() looks at the whole and says what is due, again and again until nothing is.
 */
#include "sinks/merge.h"

#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLUSTERS = 16, HASH_BYTES = 8 };
static const int64_t silence_ns = 10 * GW_SECOND_NS, update_every_ns = GW_SECOND_NS / 4,
                     told_move_ns = 10000000;

typedef struct word {
    bool heard, open;
    gw_event event;
} word;

typedef struct cluster {
    bool used, told, open; /* open: told, and FINAL not since */
    bool again;            /* an earlier run has told its FIRST */
    bool spoke_first;      /* this run's first word was a FIRST */
    bool alert;            /* as told */
    char id[GW_EVENT_ID_BYTES];
    int best;        /* the branch whose word was told last */
    gw_event peak;   /* that word; before one was told, the first */
    int64_t now_ns;  /* stream time of its latest word */
    int64_t told_ns; /* ... when something was told */
    word *word;      /* [n_branches] */
    uint64_t number; /* in the order of their beginning */
} cluster;

struct gw_merge {
    gw_merge_conf conf;
    cluster cluster[CLUSTERS];
    uint64_t clusters;                      /* so far */
    int64_t reached[2 * GW_MERGE_BRANCHES]; /* branches, then tables */
    gw_event *held;                         /* in the order in which they will count */
    int n_held, max_held;
    bool hold, ended;
    int64_t now_ns; /* stream time */
};

/* ---- ids ---- */

static void make_id(const char *group, int64_t gps_ns, char id[GW_EVENT_ID_BYTES])
{
    char text[256], hex[2 * HASH_BYTES + 1];
    unsigned char digest[crypto_hash_sha256_BYTES];
    const int64_t second = gps_ns / GW_SECOND_NS;
    const int n = snprintf(text, sizeof text, "%" PRId64 " %.200s", second, group);
    crypto_hash_sha256(digest, (const unsigned char *)text, (unsigned long long)n);
    sodium_bin2hex(hex, sizeof hex, digest, HASH_BYTES);
    snprintf(id, GW_EVENT_ID_BYTES, "G%s", hex);
}

bool gw_merge_has_id(const char *group, int64_t first_gps_ns, const char *id)
{
    char own[GW_EVENT_ID_BYTES];
    make_id(group, first_gps_ns, own);
    return strncmp(own, id, sizeof own) == 0;
}

static int n_sources(const gw_merge *m)
{
    return m->conf.n_branches + m->conf.n_tables;
}

/* ---- life ---- */

int gw_merge_new(gw_merge **out, const gw_merge_conf *conf)
{
    *out = NULL;
    if (conf->n_branches < 1 || conf->n_branches > GW_MERGE_BRANCHES || conf->n_tables > GW_MERGE_BRANCHES)
        return gw_fail(GW_EBUG, "%d branches, %d tables", conf->n_branches, conf->n_tables);
    if (sodium_init() < 0)
        return gw_fail(GW_ESYSTEM, "libsodium cannot start");
    gw_merge *m = calloc(1, sizeof *m);
    if (!m)
        return gw_fail(GW_ENOMEM, "%s: %d branches", conf->group, conf->n_branches);
    *out = m;
    m->conf = *conf;
    m->now_ns = INT64_MIN;
    for (int b = 0; b < n_sources(m); b++)
        m->reached[b] = INT64_MIN;
    for (int i = 0; i < CLUSTERS; i++) {
        m->cluster[i].word = calloc((size_t)conf->n_branches, sizeof(word));
        if (!m->cluster[i].word) {
            gw_merge_destroy(out);
            return gw_fail(GW_ENOMEM, "%s: %d branches", conf->group, conf->n_branches);
        }
    }
    return GW_OK;
}

void gw_merge_destroy(gw_merge **p)
{
    gw_merge *m = *p;
    if (!m)
        return;
    for (int i = 0; i < CLUSTERS; i++)
        free(m->cluster[i].word);
    free(m->held);
    free(m);
    *p = NULL;
}

/* ---- which cluster ---- */

/* Names are compared as far as an event can hold them. */
static int find_branch(const gw_merge *m, const char *stream)
{
    for (int b = 0; b < m->conf.n_branches; b++)
        if (strncmp(m->conf.branch[b], stream, sizeof((gw_event *)0)->stream - 1) == 0)
            return b;
    return -1;
}

/* The same, or behind the branches a table's place. */
static int find_source(const gw_merge *m, const char *stream)
{
    const int b = find_branch(m, stream);
    for (int t = 0; b < 0 && t < m->conf.n_tables; t++)
        if (strncmp(m->conf.table_of[t], stream, sizeof((gw_event *)0)->stream - 1) == 0)
            return m->conf.n_branches + t;
    return b;
}

bool gw_merge_has_branch(const gw_merge *m, const char *stream)
{
    return find_branch(m, stream) >= 0;
}

static int64_t distance(int64_t a, int64_t b)
{
    int64_t d;
    if (__builtin_sub_overflow(a, b, &d) || d == INT64_MIN)
        return INT64_MAX;
    return d < 0 ? -d : d;
}

static cluster *find_cluster(gw_merge *m, int b, const gw_event *e)
{
    cluster *near = NULL, *same = NULL;
    int64_t least = m->conf.refractory_ns;
    for (int i = 0; i < CLUSTERS; i++) {
        cluster *c = &m->cluster[i];
        if (!c->used)
            continue;
        const int64_t d = distance(c->peak.gps_ns, e->gps_ns);
        const word *w = &c->word[b];
        if (d < least || (d == least && !near)) {
            near = c;
            least = d;
        }
        if (w->heard && strncmp(w->event.id, e->id, sizeof e->id) == 0)
            same = c;
    }
    return near ? near : same;
}

static int new_cluster(gw_merge *m, const gw_event *e, cluster **out)
{
    cluster *c = &m->cluster[0]; /* the oldest, or a free one */
    for (int i = 1; i < CLUSTERS && c->used; i++)
        if (!m->cluster[i].used || m->cluster[i].number < c->number)
            c = &m->cluster[i];
    word *words = c->word;
    memset(words, 0, (size_t)m->conf.n_branches * sizeof *words);
    *c = (cluster){.used = true, .word = words, .number = m->clusters++, .peak = *e, .best = -1};
    c->spoke_first = e->phase == GW_PHASE_FIRST;
    make_id(m->conf.group, e->gps_ns, c->id);
    if (m->conf.known) {
        const int found = m->conf.known(m->conf.user, e->gps_ns, m->conf.refractory_ns, c->id);
        GW_TRY(found);
        c->again = found == 1;
    }
    *out = c;
    return GW_OK;
}

/* ---- what to say ---- */

static bool of_one_model(const gw_event *a, const gw_event *b)
{
    return strncmp(a->model_hash, b->model_hash, sizeof a->model_hash) == 0;
}

static bool is_better(const gw_event *a, const gw_event *b)
{
    const double ra = isnan(a->noise_rate_hz) ? INFINITY : a->noise_rate_hz,
                 rb = isnan(b->noise_rate_hz) ? INFINITY : b->noise_rate_hz;
    if (ra < 0.99 * rb || rb < 0.99 * ra)
        return ra < rb;
    return of_one_model(a, b) && a->statistic > b->statistic + 0.01;
}

/* Whether this is worth telling before the event is final. */
static bool is_news(const gw_event *a, const gw_event *told)
{
    return a->noise_rate_hz < 0.5 * told->noise_rate_hz ||
           (of_one_model(a, told) && a->statistic > told->statistic + 1) ||
           distance(a->gps_ns, told->gps_ns) > told_move_ns;
}

/* The branch with the best word now; the one that was told keeps its place where none is better. -1: none. */
static int best_branch(const gw_merge *m, const cluster *c)
{
    int best = c->best >= 0 && c->word[c->best].heard ? c->best : -1;
    for (int b = 0; b < m->conf.n_branches; b++)
        if (c->word[b].heard && (best < 0 || is_better(&c->word[b].event, &c->word[best].event)))
            best = b;
    return best;
}

static bool is_open(const gw_merge *m, const cluster *c)
{
    for (int b = 0; b < m->conf.n_branches; b++) {
        const word *w = &c->word[b];
        const bool silent = (m->ended && !m->n_held) || (m->now_ns > w->event.told_ns &&
                                                         distance(m->now_ns, w->event.told_ns) > silence_ns);
        if (w->heard && w->open && !silent)
            return true;
    }
    return false;
}

static bool is_alert(const gw_merge *m, const cluster *c)
{
    for (int b = 0; b < m->conf.n_branches; b++)
        if (c->word[b].heard && c->word[b].event.alert)
            return true;
    return false;
}

/* Appends, and says whether it fitted; what did not fit leaves no trace. */
static bool add(char *text, size_t size, size_t *used, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static bool add(char *text, size_t size, size_t *used, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text + *used, size - *used, fmt, args);
    va_end(args);
    const bool fits = n >= 0 && (size_t)n < size - *used;
    if (fits)
        *used += (size_t)n;
    else
        text[*used] = '\0';
    return fits;
}

/* A name as it may stand in JSON. */
static const char *plain(const char *name, size_t n, char text[64])
{
    size_t i = 0;
    for (; i < n && i < 63 && name[i]; i++)
        text[i] = name[i] == '"' || name[i] == '\\' || name[i] < 0x20 || name[i] > 0x7e ? '?' : name[i];
    text[i] = '\0';
    return text;
}

/* The members of a word's detail, without the braces: "" if there are none. */
static int members(const gw_event *e, const char **text)
{
    const size_t n = strnlen(e->detail, sizeof e->detail);
    const bool object = n > 2 && n < sizeof e->detail && e->detail[0] == '{' && e->detail[n - 1] == '}';
    *text = object ? e->detail + 1 : "";
    return object ? (int)n - 2 : 0;
}

static bool add_branch(const gw_merge *m, const word *w, int b, const char *comma, char *text, size_t size,
                       size_t *used, bool whole)
{
    char name[64], model[64], hash[64], value[2][40];
    const gw_event *e = &w->event;
    const char *own = "";
    const int n_own = whole ? members(e, &own) : 0;
    const double number[2] = {e->statistic, e->noise_rate_hz};
    for (int i = 0; i < 2; i++)
        snprintf(value[i], sizeof value[i], isfinite(number[i]) ? "%.9g" : "null", number[i]);
    const uint64_t gps = (uint64_t)(e->gps_ns < 0 ? 0 : e->gps_ns), second = (uint64_t)GW_SECOND_NS;
    return add(text, size, used,
               "%s{\"stream\":\"%s\",\"phase\":\"%s\",\"gps\":%" PRIu64 ".%09" PRIu64
               ",\"statistic\":%s,\"noise_rate_hz\":%s,\"model\":\"%s\",\"sha256\":\"%s\"%s%.*s}",
               comma, plain(m->conf.branch[b], 63, name), gw_phase_text(e->phase), gps / second, gps % second,
               value[0], value[1], plain(e->model, sizeof e->model, model),
               plain(e->model_hash, sizeof e->model_hash, hash), n_own ? "," : "", n_own, own);
}

/* Detail of the event: the best word's, the trials, and each branch's word, as many as there is room for. */
static void write_detail(const gw_merge *m, const cluster *c, const gw_event *best, gw_event *out)
{
    const size_t size = sizeof out->detail - 2; /* the end fits always */
    const char *own, *comma = "";
    const int n_own = members(best, &own);
    size_t used = 0;
    if (!add(out->detail, size, &used, "{%.*s%s\"trials\":%d,\"branches\":[", n_own, own, n_own ? "," : "",
             m->conf.n_branches))
        add(out->detail, size, &used, "{\"trials\":%d,\"branches\":[", m->conf.n_branches);
    for (int b = 0; b < m->conf.n_branches; b++) {
        const word *w = &c->word[b];
        if (w->heard && (add_branch(m, w, b, comma, out->detail, size, &used, true) ||
                         add_branch(m, w, b, comma, out->detail, size, &used, false)))
            comma = ",";
    }
    memcpy(out->detail + used, "]}", 3);
}

static int tell(const gw_merge *m, cluster *c, gw_phase phase, int best, gw_event *e)
{
    if (best >= 0) {
        c->peak = c->word[best].event;
        c->best = best;
    }
    c->told = true;
    c->told_ns = c->now_ns;
    c->open = phase == GW_PHASE_FIRST || phase == GW_PHASE_UPDATE;
    *e = c->peak;
    memcpy(e->id, c->id, sizeof e->id);
    e->phase = phase;
    e->noise_rate_hz *= m->conf.n_branches;
    e->alert = c->alert = is_alert(m, c);
    for (int b = 0; b < m->conf.n_branches; b++)
        e->injection |= c->word[b].heard && c->word[b].event.injection;
    write_detail(m, c, &c->peak, e);
    return 1;
}

/* What is due of this cluster, if anything. */
static int decide(const gw_merge *m, cluster *c, gw_event *e)
{
    if (!c->used)
        return 0;
    const int best = best_branch(m, c);
    if (best < 0) {
        const bool told = c->told;
        c->used = false;
        return told ? tell(m, c, GW_PHASE_RETRACTED, -1, e) : 0;
    }
    const gw_event *w = &c->word[best].event;
    if (!c->told && !(c->again && !c->spoke_first))
        return tell(m, c, GW_PHASE_FIRST, best, e);
    if (!c->told || !c->word[c->best].heard)
        return tell(m, c, GW_PHASE_UPDATE, best, e);
    if (!c->open)
        return is_better(w, &c->peak) ? tell(m, c, GW_PHASE_UPDATE, best, e) : 0;
    if (!is_open(m, c))
        return tell(m, c, GW_PHASE_FINAL, best, e);
    if ((!c->alert && is_alert(m, c)) ||
        (distance(c->now_ns, c->told_ns) >= update_every_ns && is_news(w, &c->peak)))
        return tell(m, c, GW_PHASE_UPDATE, best, e);
    return 0;
}

/* ---- the order of words ---- */

static bool comes_before(const gw_merge *m, const gw_event *a, const gw_event *b)
{
    if (a->told_ns != b->told_ns)
        return a->told_ns < b->told_ns;
    return find_source(m, a->stream) < find_source(m, b->stream);
}

int gw_merge_take(gw_merge *m, const gw_event *e)
{
    const int b = find_source(m, e->stream);
    if (b < 0)
        return gw_fail(GW_EBUG, "%s: an event of %s, which is no branch of it", m->conf.group, e->stream);
    if (m->n_held == m->max_held) {
        const int max = m->max_held ? 2 * m->max_held : 16;
        gw_event *held = realloc(m->held, (size_t)max * sizeof *held);
        if (!held)
            return gw_fail(GW_ENOMEM, "%s: %d events held", m->conf.group, max);
        m->held = held;
        m->max_held = max;
    }
    m->hold = !(fabs(e->pace - 1) < 1e-9);
    int i = m->n_held++;
    for (; m->hold && i > 0 && comes_before(m, e, &m->held[i - 1]); i--)
        m->held[i] = m->held[i - 1];
    m->held[i] = *e;
    /* its next word may be of the same instant */
    if (e->told_ns > INT64_MIN && e->told_ns - 1 > m->reached[b])
        m->reached[b] = e->told_ns - 1;
    return GW_OK;
}

void gw_merge_reached(gw_merge *m, const char *stream, int64_t told_ns)
{
    const int b = find_source(m, stream);
    if (b >= 0 && told_ns > m->reached[b])
        m->reached[b] = told_ns;
}

void gw_merge_end(gw_merge *m)
{
    m->ended = true;
}

/* What all branches are past; where nothing is held, what the first is past. */
static int64_t horizon(const gw_merge *m)
{
    int64_t ns = m->reached[0];
    for (int b = 1; b < (m->hold ? n_sources(m) : m->conf.n_branches); b++)
        if (m->hold ? m->reached[b] < ns : m->reached[b] > ns)
            ns = m->reached[b];
    return ns;
}

static int take_next(gw_merge *m)
{
    gw_event e = m->held[0];
    memmove(m->held, m->held + 1, (size_t)--m->n_held * sizeof *m->held);
    if (e.phase == GW_PHASE_BACKGROUND)
        return m->conf.table(m->conf.user, &e);
    if (m->conf.rate)
        m->conf.rate(m->conf.user, &e);
    const int b = find_branch(m, e.stream);
    cluster *c = find_cluster(m, b, &e);
    if (!c && e.phase == GW_PHASE_RETRACTED) /* of what nobody has heard of */
        return GW_OK;
    if (!c)
        GW_TRY(new_cluster(m, &e, &c));
    c->now_ns = e.told_ns;
    c->word[b] = (word){.event = e,
                        .heard = e.phase != GW_PHASE_RETRACTED,
                        .open = e.phase == GW_PHASE_FIRST || e.phase == GW_PHASE_UPDATE};
    return GW_OK;
}

int gw_merge_next(gw_merge *m, gw_event *e)
{
    const int64_t limit = horizon(m);
    for (;;) {
        for (int i = 0; i < CLUSTERS; i++)
            if (decide(m, &m->cluster[i], e))
                return 1;
        const bool due = m->n_held && (!m->hold || m->ended || m->held[0].told_ns <= limit);
        const int64_t now_ns = due ? m->held[0].told_ns : limit;
        if (now_ns > m->now_ns) {
            m->now_ns = now_ns; /* and once more round: someone may have been silent too long */
        } else if (due) {
            GW_TRY(take_next(m));
        } else {
            return 0;
        }
    }
}
