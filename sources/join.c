/* SPDX-License-Identifier: GPL-3.0-or-later
 * Archived files joined into streams. Called by replay.c; knows no YAML and no layout. */
#include "sources/join.h"

#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Two files may round the same start differently. */
enum { PHASE_TOLERANCE_NS = 1000 };

static const char REMEDY[] = "choose with 'channels'";

static int64_t time_of(const gw_join_stream *s, int64_t sample)
{
    return gw_sample_to_ns(sample, s->spec.rate, s->spec.phase_ns);
}

static double gps(const gw_join_stream *s, int64_t sample)
{
    return (double)time_of(s, sample) * 1e-9;
}

static const gw_archive_channel *lane(const gw_join_segment *g, int i)
{
    return gw_archive_channel_at(g->archive, g->channel[i]);
}

static const char *path(const gw_join_segment *g)
{
    return gw_archive_path(g->archive);
}

/* ---- which channels ---- */

static bool listed(const char *word, char *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i], word))
            return true;
    return false;
}

/* An entry of `channels` is a dataset's path, a group before it, or a channel's name. */
static bool entry_matches(const char *entry, const gw_archive_channel *c)
{
    size_t n = strlen(entry);
    return !strcmp(entry, c->path) || !strcmp(entry, c->name) ||
           (!strncmp(entry, c->path, n) && c->path[n] == '/');
}

static bool wanted(const gw_join_wish *w, const gw_archive_channel *c)
{
    if (w->n_detectors && !listed(c->group, w->detector, w->n_detectors))
        return false;
    bool any = w->n_channels == 0;
    for (int i = 0; i < w->n_channels && !any; i++)
        any = entry_matches(w->channel[i], c);
    return any;
}

/* What there is, for complaints: names of groups or of channels, each once as far as that is cheap. */
static void list_found(const gw_join *j, bool groups, char *text, size_t n)
{
    size_t used = 0;
    text[0] = '\0';
    for (int a = 0; a < j->n_archives; a++) {
        for (int i = 0; i < gw_archive_count(j->archive[a]) && used < n - 1; i++) {
            const gw_archive_channel *c = gw_archive_channel_at(j->archive[a], i);
            const char *word = groups ? c->group : c->path;
            const char *there = strstr(text, word);
            if (there && (there[strlen(word)] == ',' || !there[strlen(word)]))
                continue;
            int more = snprintf(text + used, n - used, "%s%s", used ? ", " : "", word);
            used += more > 0 ? (size_t)more : 0;
        }
    }
}

static int check_wishes(const gw_join *j, const gw_join_wish *w)
{
    char found[256];
    for (int k = 0; k < w->n_detectors + w->n_channels; k++) {
        bool detector = k < w->n_detectors, there = false;
        const char *entry = detector ? w->detector[k] : w->channel[k - w->n_detectors];
        for (int a = 0; a < j->n_archives && !there; a++)
            for (int i = 0; i < gw_archive_count(j->archive[a]) && !there; i++) {
                const gw_archive_channel *c = gw_archive_channel_at(j->archive[a], i);
                there = detector ? !strcmp(entry, c->group) : entry_matches(entry, c);
            }
        if (!there) {
            list_found(j, detector, found, sizeof found);
            return gw_fail(GW_EMISSING, "no file has %s %s; they have %s", detector ? "detector" : "channel",
                           entry, found);
        }
    }
    return GW_OK;
}

/* ---- joining ---- */

/* What "sky.H1_witness" is called beside H1; "" for the detector's own stream and for other programs'. */
static void port_of(const gw_archive_channel *c, char port[GW_NAME_BYTES])
{
    const char *dot = strrchr(c->stream, '.'), *name = dot ? dot + 1 : c->stream;
    const size_t n = strlen(c->detector);
    const bool beside = n && strncmp(name, c->detector, n) == 0 && name[n] == '_';
    snprintf(port, GW_NAME_BYTES, "%s", beside ? name : "");
}

static const char *first_name(const gw_archive_channel *c)
{
    return c->names ? c->names[0] : c->name;
}

/* Whether the last file of the stream has a channel of this name: two states of one channel, whose user must say
 * which he wants. */
static bool has_name(const gw_join_stream *s, const gw_archive_channel *c)
{
    const gw_join_segment *g = &s->segment[s->n_segments - 1];
    for (int i = 0; i < g->n_channels; i++)
        if (strcmp(first_name(gw_archive_channel_at(g->archive, g->channel[i])), first_name(c)) == 0)
            return true;
    return false;
}

/* A detector's channels form one stream, as far as they were not recorded as several, in one file under several
 * names; where one file of another program has them at several rates, one for each rate. */
static int stream_for(gw_join *j, const gw_archive *a, const gw_archive_channel *c, gw_join_stream **out)
{
    gw_join_stream *other = NULL, *renamed = NULL;
    bool split = false;
    char port[GW_NAME_BYTES];
    port_of(c, port);
    for (int i = 0; i < j->n_streams; i++) {
        gw_join_stream *s = *out = &j->stream[i];
        if (strcmp(s->spec.name, c->group) != 0 || strcmp(s->port, port) != 0)
            continue;
        const bool same_file = s->n_segments && s->segment[s->n_segments - 1].archive == a;
        const bool same_name = strcmp(s->recorded, c->stream) == 0;
        if (same_name && gw_rate_equal(s->spec.rate, c->rate))
            return GW_OK;
        if (!same_name && !same_file)
            renamed = s; /* a recording of another run, whose stages have other names */
        if (same_file && !same_name && !has_name(s, c))
            continue;
        split = split || (same_file && !c->stream[0] && !c->stretch);
        other = s;
    }
    if (renamed && gw_rate_equal(renamed->spec.rate, c->rate)) {
        *out = renamed;
        return GW_OK;
    }
    if (other && !split) { /* will be found not to fit */
        *out = other;
        return GW_OK;
    }
    gw_join_stream *more = realloc(j->stream, (size_t)(j->n_streams + 1) * sizeof *more);
    if (!more)
        return gw_fail(GW_ENOMEM, "%d streams", j->n_streams + 1);
    j->stream = more;
    *out = &j->stream[j->n_streams++];
    **out = (gw_join_stream){0};
    memcpy((*out)->port, port, sizeof port);
    memcpy((*out)->recorded, c->stream, sizeof(*out)->recorded);
    gw_spec *s = &(*out)->spec;
    memcpy(s->name, c->group, sizeof s->name);
    memcpy(s->detector, c->detector, sizeof s->detector);
    memcpy(s->whitening, c->whitening, sizeof s->whitening);
    memcpy(s->cleaning, c->cleaning, sizeof s->cleaning);
    s->rate = c->rate;
    s->phase_ns = c->phase_ns;
    s->dtype = c->dtype;
    s->block_samples = c->block_samples;
    return GW_OK;
}

/* What stands further from the detector: cleaned, or whitened. */
static bool is_made(const gw_join_stream *s)
{
    return s->spec.cleaning[0] || s->spec.whitening[0];
}

/* Of streams with one name: the detector's own keeps it, beside it is "H1_witness"; of several stages what is as
 * it was measured, beside it is "H1_clean"; of several rates the highest, the other is "H1_16Hz". */
static void name_apart(gw_join *j)
{
    for (int i = j->n_streams; i-- > 0;)
        for (int k = 0; k < j->n_streams && j->stream[i].port[0]; k++)
            if (i != k && strcmp(j->stream[i].spec.detector, j->stream[k].spec.detector) == 0)
                snprintf(j->stream[i].spec.name, sizeof j->stream[i].spec.name, "%s", j->stream[i].port);
    for (int i = 0; i < j->n_streams; i++)
        for (int k = 0; k < j->n_streams; k++) {
            gw_spec *a = &j->stream[i].spec, *b = &j->stream[k].spec;
            const char *recorded = j->stream[k].recorded, *dot = strrchr(recorded, '.');
            const size_t n = strlen(b->name);
            if (i == k || strcmp(a->name, b->name) != 0)
                continue;
            if (dot && strcmp(j->stream[i].recorded, recorded) != 0) {
                const bool made_a = is_made(&j->stream[i]), made_b = is_made(&j->stream[k]);
                if (made_b > made_a || (made_b == made_a && k > i))
                    snprintf(b->name + n, sizeof b->name - n, "_%.*s", (int)(dot - recorded), recorded);
            } else if (gw_rate_hz(b->rate) < gw_rate_hz(a->rate)) {
                snprintf(b->name + n, sizeof b->name - n, "_%gHz", gw_rate_hz(b->rate));
            }
        }
}

static int segment_for(gw_join_stream *s, gw_archive *a, bool stretch, gw_join_segment **out)
{
    if (!stretch && s->n_segments && s->segment[s->n_segments - 1].archive == a) {
        *out = &s->segment[s->n_segments - 1];
        return GW_OK;
    }
    if (s->n_segments == s->room) {
        int room = s->room ? s->room * 2 : 1;
        gw_join_segment *more = realloc(s->segment, (size_t)room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%d stretches of %s", room, s->spec.name);
        s->segment = more;
        s->room = room;
    }
    *out = &s->segment[s->n_segments++];
    **out = (gw_join_segment){.archive = a};
    return GW_OK;
}

static int add_channel(gw_join *j, gw_archive *a, int i)
{
    const gw_archive_channel *c = gw_archive_channel_at(a, i);
    gw_join_stream *s = NULL;
    gw_join_segment *g = NULL;
    GW_TRY(stream_for(j, a, c, &s));
    GW_TRY(segment_for(s, a, c->stretch, &g));
    int *more = realloc(g->channel, (size_t)(g->n_channels + 1) * sizeof *more);
    if (!more)
        return gw_fail(GW_ENOMEM, "%d channels of %s", g->n_channels + 1, s->spec.name);
    g->channel = more;
    g->channel[g->n_channels++] = i;
    const gw_archive_channel *first = lane(g, 0);
    if ((g->n_channels > 1 && (c->names || first->names)) || c->sample0 != first->sample0 ||
        c->n_samples != first->n_samples || strcmp(c->stream, first->stream) != 0 ||
        !gw_rate_equal(c->rate, first->rate) || c->dtype != first->dtype ||
        strcmp(c->whitening, first->whitening) != 0)
        return gw_fail(GW_EMISMATCH,
                       "%s: %s (%.10g Hz, %" PRId64 " samples) and %s (%.10g Hz, %" PRId64
                       " samples) cannot be one stream %s: %s",
                       gw_archive_path(a), first->path, gw_rate_hz(first->rate), first->n_samples, c->path,
                       gw_rate_hz(c->rate), c->n_samples, s->spec.name, REMEDY);
    g->origin = g->start = c->sample0;
    g->end = c->sample0 + c->n_samples;
    return GW_OK;
}

/* Every file of a stream must hold the same thing as the first. */
static int check_segment(const gw_join_stream *s, const gw_join_segment *g)
{
    const gw_join_segment *f = &s->segment[0];
    const gw_archive_channel *a = lane(f, 0), *b = lane(g, 0);
    const char *name = s->spec.name;
    if (!gw_rate_equal(a->rate, b->rate))
        return gw_fail(GW_EMISMATCH, "%s has %s at %.10g Hz, %s at %.10g Hz: replay one rate at a time",
                       path(f), name, gw_rate_hz(a->rate), path(g), gw_rate_hz(b->rate));
    if (llabs(a->phase_ns - b->phase_ns) > PHASE_TOLERANCE_NS)
        return gw_fail(GW_EMISMATCH,
                       "%s and %s: the samples of %s do not lie on one grid (%" PRId64 " ns apart)", path(f),
                       path(g), name, b->phase_ns - a->phase_ns);
    if (a->dtype != b->dtype || strcmp(a->whitening, b->whitening) != 0)
        return gw_fail(GW_EMISMATCH,
                       "%s and %s hold %s in two states (raw and whitened, or whitened in two ways)", path(f),
                       path(g), name);
    for (int i = 0; i < f->n_channels || i < g->n_channels; i++) {
        if (i >= f->n_channels || i >= g->n_channels || strcmp(lane(f, i)->name, lane(g, i)->name) != 0)
            return gw_fail(GW_EMISMATCH, "%s and %s do not hold the same channels of %s (%s, %s): %s",
                           path(f), path(g), name, i < f->n_channels ? lane(f, i)->name : "none",
                           i < g->n_channels ? lane(g, i)->name : "none", REMEDY);
        const gw_archive_channel *x = lane(f, i), *y = lane(g, i);
        if (!x->names != !y->names || x->n_channels != y->n_channels ||
            (x->names && memcmp(x->names, y->names, x->n_channels * sizeof *x->names) != 0))
            return gw_fail(GW_EMISMATCH,
                           "%s and %s do not hold the same channels of %s (%" PRIu32 ", %" PRIu32 ")",
                           path(f), path(g), name, x->n_channels, y->n_channels);
    }
    return GW_OK;
}

static int by_start(const void *x, const void *y)
{
    const gw_join_segment *a = x, *b = y;
    return a->start < b->start ? -1 : a->start > b->start;
}

static int finish_spec(gw_join_stream *s)
{
    const gw_join_segment *g = &s->segment[0];
    const gw_archive_channel *wide = lane(g, 0)->names ? lane(g, 0) : NULL;
    const uint32_t n = wide ? wide->n_channels : (uint32_t)g->n_channels;
    const char **name = malloc(n * sizeof *name);
    if (!name)
        return gw_fail(GW_ENOMEM, "%" PRIu32 " channels of %s", n, s->spec.name);
    memcpy(s->spec.unit, lane(g, 0)->unit, sizeof s->spec.unit);
    for (uint32_t i = 0; wide && i < n; i++)
        name[i] = wide->names[i];
    for (int i = 0; !wide && i < g->n_channels; i++) {
        name[i] = lane(g, i)->name;
        if (strcmp(lane(g, i)->unit, s->spec.unit) != 0)
            s->spec.unit[0] = '\0'; /* a stream of witnesses has no one unit */
    }
    /* Files written by others seldom say so, but a detector's only channel is its strain. */
    if (!s->spec.unit[0] && g->n_channels == 1 && s->spec.detector[0] && s->spec.dtype == GW_F64)
        snprintf(s->spec.unit, sizeof s->spec.unit, "strain");
    int err = gw_spec_set_channels(&s->spec, n, name);
    free(name);
    return err;
}

static int finish_stream(gw_join_stream *s)
{
    for (int i = 1; i < s->n_segments; i++)
        GW_TRY(check_segment(s, &s->segment[i]));
    GW_TRY(finish_spec(s));
    qsort(s->segment, (size_t)s->n_segments, sizeof *s->segment, by_start);
    for (int i = 1; i < s->n_segments; i++) {
        gw_join_segment *a = &s->segment[i - 1], *b = &s->segment[i];
        const gw_archive_run *first = lane(b, 0)->run;
        if (a->end > b->start && first->gap != GW_GAP_NONE && a->end - b->origin <= first->end)
            b->start = a->end; /* a recorder that ran out of room states as lost what the disk did take */
        if (a->end > b->start)
            return gw_fail(GW_ECONFIG, "%s and %s overlap: both hold %s from GPS %.6f to %.6f; %s", path(a),
                           lane(b, 0)->stretch && a->archive == b->archive ? lane(b, 0)->path : path(b),
                           s->spec.name, gps(s, b->start), gps(s, a->end < b->end ? a->end : b->end),
                           a->archive == b->archive ? "the file contradicts itself" : "give one of them");
    }
    return GW_OK;
}

/* ---- the span ---- */

static int shift_streams(gw_join *j, const gw_join_wish *w)
{
    for (int k = 0; k < w->n_shifts; k++) {
        bool there = false;
        for (int i = 0; i < j->n_streams; i++) {
            gw_join_stream *s = &j->stream[i];
            if (strcmp(s->spec.name, w->shift[k].stream) != 0)
                continue;
            there = true;
            const int64_t half_ns = (int64_t)(0.5e9 / gw_rate_hz(s->spec.rate));
            s->shift = gw_sample_at_or_before(w->shift[k].ns + half_ns, s->spec.rate, 0);
            for (int g = 0; g < s->n_segments; g++) {
                s->segment[g].origin += s->shift;
                s->segment[g].start += s->shift;
                s->segment[g].end += s->shift;
            }
        }
        if (!there)
            return gw_fail(GW_ECONFIG, "offset: there is no stream %s", w->shift[k].stream);
    }
    return GW_OK;
}

/* From the first sample of any file to the last, shifted streams cut to what the unshifted span shares with
 * all of them. */
static int find_span(gw_join *j, const gw_join_wish *w)
{
    int64_t latest_ns = 0;
    j->start_ns = INT64_MAX;
    j->end_ns = INT64_MIN;
    for (int i = 0; i < j->n_streams; i++) {
        const gw_join_stream *s = &j->stream[i];
        int64_t start = time_of(s, s->segment[0].start - s->shift);
        int64_t end = time_of(s, s->segment[s->n_segments - 1].end - s->shift);
        int64_t shift_ns = gw_sample_to_ns(s->shift, s->spec.rate, 0);
        j->start_ns = start < j->start_ns ? start : j->start_ns;
        j->end_ns = end > j->end_ns ? end : j->end_ns;
        latest_ns = shift_ns > latest_ns ? shift_ns : latest_ns;
    }
    const double from_s = (double)j->start_ns * 1e-9, to_s = (double)j->end_ns * 1e-9;
    j->start_ns += latest_ns;
    if (w->start_ns > j->start_ns)
        j->start_ns = w->start_ns;
    if (w->end_ns < j->end_ns)
        j->end_ns = w->end_ns;
    if (j->start_ns >= j->end_ns)
        return gw_fail(GW_ECONFIG, "start, end and offset leave nothing: the files span GPS %.3f to %.3f",
                       from_s, to_s);
    for (int i = 0; i < j->n_streams; i++) {
        /* A sample's time was rounded to a nanosecond, perhaps upwards: one nanosecond less finds it again.
         */
        gw_join_stream *s = &j->stream[i];
        s->start = gw_sample_at_or_after(j->start_ns - 1, s->spec.rate, s->spec.phase_ns);
        s->end = gw_sample_at_or_after(j->end_ns - 1, s->spec.rate, s->spec.phase_ns);
    }
    return GW_OK;
}

static int by_name(const void *x, const void *y)
{
    return strcmp(((const gw_join_stream *)x)->spec.name, ((const gw_join_stream *)y)->spec.name);
}

static int open_archive(gw_join *j, const char *path)
{
    gw_archive **more = realloc(j->archive, (size_t)(j->n_archives + 1) * sizeof *more);
    if (!more)
        return gw_fail(GW_ENOMEM, "%d files", j->n_archives + 1);
    j->archive = more;
    GW_TRY(gw_archive_open(&j->archive[j->n_archives], path));
    j->n_archives++;
    return GW_OK;
}

/* Opens what a pattern stands for. */
static int open_matching(gw_join *j, const char *entry, const char *pattern)
{
    glob_t found = {0};
    int err = GW_OK, status = glob(pattern, GLOB_BRACE, NULL, &found);
    if (status == GLOB_NOSPACE)
        err = gw_fail(GW_ENOMEM, "%s", pattern);
    else if (status != 0)
        err = gw_fail(GW_EMISSING, "%s: no such file (nothing matches %s)", entry, pattern);
    for (size_t i = 0; err == GW_OK && i < found.gl_pathc; i++)
        err = open_archive(j, found.gl_pathv[i]);
    globfree(&found);
    return err;
}

/* A file's own name counts before it is taken for a pattern. */
static int open_entry(gw_join *j, const char *entry)
{
    char pattern[PATH_MAX];
    struct stat st;
    const bool there = stat(entry, &st) == 0;
    if (there && S_ISDIR(st.st_mode)) {
        if (snprintf(pattern, sizeof pattern, "%s/*.{hdf5,hdf,h5}", entry) >= (int)sizeof pattern)
            return gw_fail(GW_ERANGE, "%s: the name is too long", entry);
        return open_matching(j, entry, pattern);
    }
    return there || !strpbrk(entry, "*?[") ? open_archive(j, entry) : open_matching(j, entry, entry);
}

int gw_join_files(gw_join *j, char *const *file, int n_files)
{
    *j = (gw_join){0};
    for (int i = 0; i < n_files; i++)
        GW_TRY(open_entry(j, file[i]));
    return GW_OK;
}

static int borrow(gw_join *j, gw_archive *const *archive, int n)
{
    *j = (gw_join){.lent = true, .archive = malloc(((size_t)n + 1) * sizeof(gw_archive *))};
    if (!j->archive)
        return gw_fail(GW_ENOMEM, "%d files", n);
    memcpy(j->archive, archive, (size_t)n * sizeof *archive);
    j->n_archives = n;
    return GW_OK;
}

int gw_join_open(gw_join *j, const gw_join_wish *w)
{
    GW_TRY(w->lent ? borrow(j, w->lent, w->n_lent) : gw_join_files(j, w->file, w->n_files));
    GW_TRY(check_wishes(j, w));
    for (int a = 0; a < j->n_archives; a++)
        for (int i = 0; i < gw_archive_count(j->archive[a]); i++)
            if (wanted(w, gw_archive_channel_at(j->archive[a], i)))
                GW_TRY(add_channel(j, j->archive[a], i));
    if (j->n_streams == 0 && w->n_detectors + w->n_channels == 0)
        return gw_fail(GW_EFORMAT, "%s: nothing was recorded", w->file[0]);
    if (j->n_streams == 0)
        return gw_fail(GW_ECONFIG, "'detectors' and 'channels' together leave nothing");
    name_apart(j);
    for (int i = 0; i < j->n_streams; i++)
        GW_TRY(finish_stream(&j->stream[i]));
    qsort(j->stream, (size_t)j->n_streams, sizeof *j->stream, by_name);
    GW_TRY(shift_streams(j, w));
    return find_span(j, w);
}

void gw_join_close(gw_join *j)
{
    for (int i = 0; i < j->n_streams; i++) {
        gw_join_stream *s = &j->stream[i];
        for (int g = 0; g < s->n_segments; g++)
            free(s->segment[g].channel);
        free(s->segment);
        gw_spec_free(&s->spec);
    }
    for (int i = 0; i < j->n_archives && !j->lent; i++)
        gw_archive_close(&j->archive[i]);
    free(j->stream);
    free(j->archive);
    *j = (gw_join){0};
}

int gw_join_segment_at(const gw_join_stream *s, int64_t sample)
{
    int lo = 0, hi = s->n_segments;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (s->segment[mid].end > sample)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}
