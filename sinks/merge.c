/* SPDX-License-Identifier: GPL-3.0-or-later
 * Branches' words to one event (merge.h). A cluster keeps the last word of each branch and what was told of
 * it; whatever changes, decide() looks at the whole and says what is due, again and again until nothing is.
 */
#include "sinks/merge.h"
#include "sinks/live_rate.h"
#include "sinks/merge_detail.h"

#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLUSTERS = 16, HASH_BYTES = 8, MOST_TABLES = 16 /* that wait where no word comes */ };
static const int64_t silence_ns = 10 * GW_SECOND_NS, update_every_ns = GW_SECOND_NS / 4,
                     told_move_ns = 10000000, lost_ns = 3 * GW_SECOND_NS / 4, remember_ns = 60 * GW_SECOND_NS;

/* From where the one before it ends. */
typedef struct stretch {
    int64_t until_ns;
    bool searched;
} stretch;

/* Of one branch: neighbours differ, the last one still grows. */
typedef struct history {
    stretch *s;
    int n, max;
} history;

typedef struct word {
    bool heard, open;
    bool live; /* its rate is that of a live background */
    gw_event event;
} word;

typedef struct cluster {
    bool used, told, open;                            /* open: told, and FINAL not since */
    bool again;                                       /* an earlier run has told its FIRST */
    bool spoke_first;                                 /* this run's first word was a FIRST */
    bool alert;                                       /* as told */
    int trials;                                       /* as told */
    char detectors[sizeof((gw_event *)0)->detectors]; /* as told */
    char id[GW_EVENT_ID_BYTES];
    int best;        /* the branch whose word was told last */
    bool fewer;      /* a branch has withdrawn its word since */
    int withdrew;    /* ... this one */
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
    history past[GW_MERGE_BRANCHES];
    gw_event *held; /* in the order in which they will count */
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
    m->hold = true; /* as long as nobody has said at what pace */
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
    for (int b = 0; b < GW_MERGE_BRANCHES; b++)
        free(m->past[b].s);
    free(m->held);
    free(m);
    *p = NULL;
}

/* ---- who searches ---- */

static int add_stretch(const gw_merge *m, history *h, int64_t until_ns, bool searched)
{
    stretch *last = h->n ? &h->s[h->n - 1] : NULL;
    if (last && last->searched == searched) {
        last->until_ns = until_ns;
        return GW_OK;
    }
    int old = 0; /* long past for all, also for those who are behind */
    while (old < h->n && m->now_ns > INT64_MIN + remember_ns && h->s[old].until_ns < m->now_ns - remember_ns)
        old++;
    h->n -= old;
    if (old)
        memmove(h->s, h->s + old, (size_t)h->n * sizeof *h->s);
    if (h->n == h->max) {
        const int max = h->max ? 2 * h->max : 16;
        stretch *s = realloc(h->s, (size_t)max * sizeof *s);
        if (!s)
            return gw_fail(GW_ENOMEM, "%s: %d stretches of one branch", m->conf.group, max);
        h->s = s;
        h->max = max;
    }
    h->s[h->n++] = (stretch){until_ns, searched};
    return GW_OK;
}

static bool has_searched(const history *h, int64_t from_ns, int64_t to_ns)
{
    int64_t start_ns = INT64_MIN;
    for (int i = 0; i < h->n && start_ns < to_ns; i++) {
        if (h->s[i].searched && h->s[i].until_ns > from_ns)
            return true;
        start_ns = h->s[i].until_ns;
    }
    return false;
}

static int count_trials(const gw_merge *m, const cluster *c, int64_t told_ns)
{
    int64_t first_ns = INT64_MIN;
    for (int b = 0; b < m->conf.n_branches; b++) {
        const history *h = &m->past[b];
        if (h->n && h->s[h->n - 1].until_ns > first_ns)
            first_ns = h->s[h->n - 1].until_ns;
    }
    const int64_t at_ns = told_ns < first_ns ? told_ns : first_ns;
    const int64_t from_ns = at_ns < INT64_MIN + lost_ns ? INT64_MIN : at_ns - lost_ns;
    int trials = 0;
    for (int b = 0; b < m->conf.n_branches; b++)
        trials += c->word[b].heard || has_searched(&m->past[b], from_ns, at_ns);
    return trials;
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
        const bool mine = w->heard && strncmp(w->event.id, e->id, sizeof e->id) == 0;
        const bool other = w->heard && !mine && c->best == b; /* two by the branch's own judgement */
        if (!other && (d < least || (d == least && !near))) {
            near = c;
            least = d;
        }
        if (mine)
            same = c;
    }
    return near ? near : same;
}

/* Whether it is one of this run's, from which the word at hand has been told apart. */
static bool has_id(const gw_merge *m, const char *id)
{
    for (int i = 0; i < CLUSTERS; i++)
        if (m->cluster[i].used && m->cluster[i].told && strncmp(m->cluster[i].id, id, GW_EVENT_ID_BYTES) == 0)
            return true;
    return false;
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
        char id[GW_EVENT_ID_BYTES];
        const int found = m->conf.known(m->conf.user, e->gps_ns, m->conf.refractory_ns, id);
        GW_TRY(found);
        c->again = found == 1 && !has_id(m, id);
        if (c->again)
            memcpy(c->id, id, sizeof c->id);
    }
    *out = c;
    return GW_OK;
}

/* ---- what to say ---- */

static bool of_one_model(const gw_event *a, const gw_event *b)
{
    return strncmp(a->model_hash, b->model_hash, sizeof a->model_hash) == 0;
}

static double rate_of(const gw_event *e)
{
    return isnan(e->noise_rate_hz) ? INFINITY : e->noise_rate_hz;
}

/* But for the time that was slid, say. */
static bool of_one_rate(const gw_event *a, const gw_event *b)
{
    return !(rate_of(a) < 0.99 * rate_of(b)) && !(rate_of(b) < 0.99 * rate_of(a));
}

static bool is_better(const gw_event *a, const gw_event *b)
{
    if (of_one_model(a, b) && of_one_rate(a, b))
        return a->statistic > b->statistic + 0.01;
    return rate_of(a) < rate_of(b);
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

/* By a live background it is the rate of the search as a whole that counts, once so much was slid that it could be one
 * a day; before, and by a card, the branch's threshold. */
static bool says_alert(const gw_merge *m, const cluster *c, const word *w)
{
    const int trials = count_trials(m, c, w->event.told_ns);
    const bool decides = w->live && trials <= GW_ALERT_HZ * w->event.background_s;
    return w->event.alert && (!decides || trials * w->event.noise_rate_hz <= GW_ALERT_HZ);
}

static bool is_alert(const gw_merge *m, const cluster *c)
{
    for (int b = 0; b < m->conf.n_branches; b++)
        if (c->word[b].heard && says_alert(m, c, &c->word[b]))
            return true;
    return false;
}

/* Each branch's word, NULL where it has none. */
static void list_words(const gw_merge *m, const cluster *c, const gw_event *word[GW_MERGE_BRANCHES])
{
    for (int b = 0; b < m->conf.n_branches; b++)
        word[b] = c->word[b].heard ? &c->word[b].event : NULL;
}

static int tell(const gw_merge *m, cluster *c, gw_phase phase, int best, gw_event *e)
{
    const gw_event *word[GW_MERGE_BRANCHES] = {NULL};
    list_words(m, c, word);
    if (best >= 0) {
        c->peak = *word[best];
        c->best = best;
        c->trials = count_trials(m, c, c->peak.told_ns);
        gw_merge_detectors(word, m->conf.n_branches, c->detectors);
    }
    c->told = true;
    c->fewer = false;
    c->told_ns = c->now_ns;
    c->open = phase == GW_PHASE_FIRST || phase == GW_PHASE_UPDATE;
    c->alert |= is_alert(m, c); /* who has heard of it hears the rest */
    *e = c->peak;
    memcpy(e->id, c->id, sizeof e->id);
    memcpy(e->detectors, c->detectors, sizeof e->detectors);
    e->phase = phase;
    e->noise_rate_hz *= c->trials;
    e->alert = c->alert;
    for (int b = 0; b < m->conf.n_branches; b++)
        if (word[b]) {
            e->injection |= word[b]->injection;
            e->archived |= word[b]->archived;
            e->dq &= word[b]->dq;
        }
    gw_merge_detail(e->detail, best >= 0 ? &c->peak : &c->word[c->withdrew].event, word, m->conf.n_branches,
                    c->trials);
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
    if (!c->told || c->fewer)
        return tell(m, c, GW_PHASE_UPDATE, best, e);
    if (!c->open)
        return is_better(w, &c->peak) && (of_one_model(w, &c->peak) || !of_one_rate(w, &c->peak))
                   ? tell(m, c, GW_PHASE_UPDATE, best, e)
                   : 0;
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
    if (find_source(m, e->stream) < 0)
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
    return GW_OK;
}

int gw_merge_reached(gw_merge *m, const char *stream, int64_t told_ns, bool searched)
{
    const int b = find_source(m, stream);
    if (b < 0)
        return GW_OK;
    if (told_ns > m->reached[b])
        m->reached[b] = told_ns;
    if (b >= m->conf.n_branches)
        return GW_OK;
    history *h = &m->past[b];
    return h->n && told_ns <= h->s[h->n - 1].until_ns ? GW_OK : add_stretch(m, h, told_ns, searched);
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

/* Which of what is held counts next; -1: none yet. Where words do not wait, a table does all the same, for the first
 * word that is told after it: it comes before the stream time from which it is to be used. */
static int find_due(const gw_merge *m, int64_t limit)
{
    if (m->hold)
        return m->n_held && (m->ended || m->held[0].told_ns <= limit) ? 0 : -1;
    int table = -1, word = -1;
    for (int i = 0; i < m->n_held && word < 0; i++)
        word = m->held[i].phase == GW_PHASE_BACKGROUND ? -1 : i;
    for (int i = 0; i < m->n_held; i++)
        if (m->held[i].phase == GW_PHASE_BACKGROUND &&
            (table < 0 || comes_before(m, &m->held[i], &m->held[table])))
            table = i;
    if (table >= 0 &&
        (word >= 0 ? comes_before(m, &m->held[table], &m->held[word]) : m->n_held > MOST_TABLES))
        return table;
    return word >= 0 || !m->ended ? word : table;
}

static int take_next(gw_merge *m, int at)
{
    gw_event e = m->held[at];
    memmove(m->held + at, m->held + at + 1, (size_t)(--m->n_held - at) * sizeof *m->held);
    if (e.phase == GW_PHASE_BACKGROUND)
        return m->conf.table(m->conf.user, &e);
    const bool live = m->conf.rate && m->conf.rate(m->conf.user, &e);
    const int b = find_branch(m, e.stream);
    cluster *c = find_cluster(m, b, &e);
    if (!c && e.phase == GW_PHASE_RETRACTED) /* of what nobody has heard of */
        return GW_OK;
    if (!c)
        GW_TRY(new_cluster(m, &e, &c));
    if (e.phase == GW_PHASE_RETRACTED && c->word[b].heard) {
        c->fewer = true;
        c->withdrew = b;
    }
    c->now_ns = e.told_ns;
    c->word[b] = (word){.event = e,
                        .live = live,
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
        const int due = find_due(m, limit);
        const int64_t now_ns = due >= 0 ? m->held[due].told_ns : limit;
        if (now_ns > m->now_ns) {
            m->now_ns = now_ns; /* and once more round: someone may have been silent too long */
        } else if (due >= 0) {
            GW_TRY(take_next(m, due));
        } else {
            return 0;
        }
    }
}
