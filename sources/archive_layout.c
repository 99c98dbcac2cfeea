/* SPDX-License-Identifier: GPL-3.0-or-later
 * Which layout an archived HDF5 file has, and its channels: names, detectors, rates, times. Called by
 * archive.c under the HDF5 lock. Reads no samples; what recordings add is in archive_recorded.c, data quality
 * in archive_quality.c. */
#include "sources/archive_layout.h"
#include "pipeline/hdf5_lock.h"
#include "sources/hdf5_read.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char EXPECTED[] =
    "expected strain/Strain (GWOSC), or one dataset a channel with attributes x0 and dx "
    "(GWpy), t0 and sample_rate, or start_time and delta_t";

/* Per-channel layouts differ in the attributes' names alone. */
static const struct layout {
    const char *start, *step;
    bool step_is_rate;
} layouts[] = {{"x0", "dx", false}, {"t0", "sample_rate", true}, {"start_time", "delta_t", false}};

void gw_archive_channel_free(gw_archive_channel *c)
{
    free(c->path);
    free(c->run);
    free(c->absence);
    free(c->present);
    free(c->names);
}

void gw_archive_list_free(gw_archive_list *list)
{
    for (int i = 0; i < list->n; i++)
        gw_archive_channel_free(&list->channel[i]);
    free(list->channel);
    *list = (gw_archive_list){0};
}

int gw_archive_add(gw_archive_list *list, const char *path, gw_archive_channel **c)
{
    if (list->n == list->room) {
        int room = list->room ? list->room * 2 : 4;
        gw_archive_channel *more = realloc(list->channel, (size_t)room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%d channels", room);
        list->channel = more;
        list->room = room;
    }
    char *copy = strdup(path);
    if (!copy)
        return gw_fail(GW_ENOMEM, "%s", path);
    *c = &list->channel[list->n++];
    **c = (gw_archive_channel){.path = copy, .dtype = GW_F64, .chunk_samples = 1, .n_channels = 1};
    return GW_OK;
}

/* ---- time ---- */

/* The rational number a float64 rate stands for: the first convergent of its continued fraction that is the
 * same to 1e-12, far above a float64's rounding and far below any two rates that somebody might mean. */
static int rational(double hz, gw_rate *r)
{
    double p0 = 0, q0 = 1, p1 = 1, q1 = 0, x = hz;
    for (int i = 0; i < 24; i++) {
        const double whole = floor(x);
        const double p = whole * p1 + p0, q = whole * q1 + q0;
        if (p > 4e9 || q > 1e6)
            break;
        if (p >= 1 && fabs(p / q - hz) <= 1e-12 * hz) {
            *r = (gw_rate){(uint32_t)p, (uint32_t)q};
            return GW_OK;
        }
        p0 = p1, q0 = q1, p1 = p, q1 = q;
        if (x - whole < 1e-13)
            break;
        x = 1 / (x - whole);
    }
    return gw_fail(GW_EFORMAT, "%.17g Hz is no usable sample rate", hz);
}

/* Places n samples from GPS x0 on. A float64 of 1e9 s holds 1.2e-7 s: a start that close to the grid of
 * whole sample numbers lies on it; any other start makes a phase. */
static int place(gw_archive_channel *c, double x0_s, double hz)
{
    if (!isfinite(x0_s) || x0_s < 0 || x0_s > 9e9)
        return gw_fail(GW_EFORMAT, "start at GPS %g s is absurd", x0_s);
    if (!isfinite(hz) || hz < 1e-6 || hz > 1e8)
        return gw_fail(GW_EFORMAT, "sample rate of %g Hz is absurd", hz);
    GW_TRY(rational(hz, &c->rate));
    if ((double)c->n_samples / hz > 9e9 - x0_s)
        return gw_fail(GW_EFORMAT, "%" PRId64 " samples at %g Hz from GPS %.3f do not end", c->n_samples, hz,
                       x0_s);
    const double whole_s = floor(x0_s);
    const int64_t start_ns = (int64_t)whole_s * GW_SECOND_NS + llround((x0_s - whole_s) * 1e9);
    const int64_t half_ns = (int64_t)(0.5e9 / hz);
    const int64_t tolerance_ns = (int64_t)((nextafter(x0_s, INFINITY) - x0_s) * 1e9) + 1;
    int64_t nearest = gw_sample_at_or_before(start_ns + half_ns, c->rate, 0);
    if (llabs(start_ns - gw_sample_to_ns(nearest, c->rate, 0)) <= tolerance_ns) {
        c->sample0 = nearest;
        c->phase_ns = 0;
    } else {
        c->sample0 = gw_sample_at_or_before(start_ns, c->rate, 0);
        c->phase_ns = start_ns - gw_sample_to_ns(c->sample0, c->rate, 0);
    }
    return GW_OK;
}

/* ---- names ---- */

/* "H1", "H1:STRAIN" -> "H1"; anything else -> "". */
static void detector_of(const char *text, char detector[8])
{
    bool is =
        text[0] >= 'A' && text[0] <= 'Z' && text[1] >= '0' && text[1] <= '9' && (!text[2] || text[2] == ':');
    snprintf(detector, 8, "%.2s", is ? text : "");
}

/* "dir/H-H1_LOSC_4_V2-1126259446-32.hdf5" -> "H1". */
static void detector_of_file(const char *path, char detector[8])
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char site[3] = "";
    if (name[0] && name[1] == '-' && name[2] == name[0] && (name[3] && name[4] == '_'))
        memcpy(site, name + 2, 2);
    detector_of(site, detector);
}

void gw_archive_set_group(gw_archive_channel *c)
{
    const char *colon = strchr(c->name, ':');
    if (c->detector[0])
        memcpy(c->group, c->detector, sizeof c->detector);
    else if (c->stream[0])
        memcpy(c->group, c->stream, sizeof c->group);
    else
        snprintf(c->group, sizeof c->group, "%.*s", colon ? (int)(colon - c->name) : 0, c->name);
}

/* ---- shape of a dataset ---- */

static int describe_dataset(hid_t dataset, gw_archive_channel *c)
{
    if (!gw_hdf5_is_number(dataset))
        return gw_fail(GW_EFORMAT, "does not hold numbers");
    GW_TRY(gw_hdf5_length(dataset, &c->n_samples));
    if (c->n_samples == 0)
        return gw_fail(GW_EFORMAT, "holds no samples");
    c->n_data = c->n_samples;
    hid_t create = H5Dget_create_plist(dataset);
    hsize_t chunk = 1;
    if (create >= 0 && H5Pget_layout(create) == H5D_CHUNKED && H5Pget_chunk(create, 1, &chunk) == 1 &&
        chunk > 0)
        c->chunk_samples = (int64_t)chunk;
    if (create >= 0)
        H5Pclose(create);
    return GW_OK;
}

/* ---- GWOSC ---- */

static int gwosc_strain(hid_t file, hid_t strain, const char *path, gw_archive_channel *c)
{
    double start_s = 0, step_s = 0;
    int64_t points = 0;
    bool found;
    GW_TRY(describe_dataset(strain, c));
    GW_TRY(gw_hdf5_attr_double(strain, "Xstart", &start_s, NULL));
    GW_TRY(gw_hdf5_attr_double(strain, "Xspacing", &step_s, NULL));
    GW_TRY(gw_hdf5_attr_int(strain, "Npoints", &points, &found));
    if (found && points != c->n_samples)
        return gw_fail(GW_EFORMAT, "holds %" PRId64 " samples, its attribute Npoints says %" PRId64,
                       c->n_samples, points);
    GW_TRY(place(c, start_s, 1 / step_s));
    char name[64] = "";
    int count;
    hid_t detector = gw_hdf5_open_dataset(file, "meta/Detector");
    int err = detector < 0 ? GW_OK : gw_hdf5_texts(detector, name, sizeof name, 1, &count);
    if (detector >= 0)
        H5Oclose(detector);
    if (err < 0)
        return gw_fail_at(err, "meta/Detector");
    detector_of(name, c->detector);
    if (!c->detector[0])
        detector_of_file(path, c->detector);
    if (!c->detector[0])
        return gw_fail(GW_EFORMAT, "neither meta/Detector ('%s') nor the file's name says which detector",
                       name);
    snprintf(c->name, sizeof c->name, "%s:STRAIN", c->detector);
    snprintf(c->unit, sizeof c->unit, "strain");
    gw_archive_set_group(c);
    return gw_archive_gwosc_quality(file, start_s, c);
}

/* ---- one dataset a channel ---- */

struct walk {
    gw_archive_list *list;
    bool recording; /* the file is one of ours: it may be that nothing has come yet */
    int err, others;
    char seen[160]; /* names of other datasets, for the complaint */
};

/* MLGWSC-1: "H1/1253977219" is a stretch of H1's strain. The dataset's name is a number. */
static bool is_stretch(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] && !slash[1 + strspn(slash + 1, "0123456789.")];
}

static int stretch_of_detector(const char *path, gw_archive_channel *c)
{
    detector_of(strchr(path, '/') - path == 2 ? (const char[]){path[0], path[1], '\0'} : "", c->detector);
    if (!c->detector[0])
        return gw_fail(GW_EFORMAT, "its name is a time, so its group should be a detector (H1, L1, V1)");
    snprintf(c->name, sizeof c->name, "%s:STRAIN", c->detector);
    snprintf(c->unit, sizeof c->unit, "strain");
    c->stretch = true;
    return GW_OK;
}

static int channel_dataset(hid_t dataset, const char *path, const struct layout *l, gw_archive_list *list)
{
    gw_archive_channel *c;
    double start_s = 0, step = 0;
    bool found;
    GW_TRY(gw_archive_add(list, path, &c));
    GW_TRY(describe_dataset(dataset, c));
    GW_TRY(gw_hdf5_attr_double(dataset, l->start, &start_s, NULL));
    GW_TRY(gw_hdf5_attr_double(dataset, l->step, &step, NULL));
    GW_TRY(place(c, start_s, l->step_is_rate ? step : 1 / step));
    const char *slash = strrchr(path, '/');
    snprintf(c->name, sizeof c->name, "%s", slash ? slash + 1 : path);
    detector_of(c->name, c->detector);
    static const char *const also[] = {"channel", "name"};
    for (int i = 0; i < 2 && !c->detector[0]; i++) {
        char text[GW_NAME_BYTES];
        GW_TRY(gw_hdf5_attr_text(dataset, also[i], text, sizeof text, &found));
        detector_of(text, c->detector);
    }
    GW_TRY(gw_hdf5_attr_text(dataset, "unit", c->unit, sizeof c->unit, &found));
    if (!c->detector[0] && is_stretch(path))
        GW_TRY(stretch_of_detector(path, c));
    gw_archive_set_group(c);
    return gw_archive_all_good(c);
}

static int look_at_dataset(hid_t dataset, const char *path, struct walk *w)
{
    char xunit[16];
    bool found;
    int64_t n;
    if (w->recording && gw_hdf5_length(dataset, &n) == GW_OK && n == 0)
        return GW_OK;
    GW_TRY(gw_hdf5_attr_text(dataset, "xunit", xunit, sizeof xunit, &found));
    bool in_time = !found || !strcmp(xunit, "s") || !strcmp(xunit, "second"); /* a spectrum has Hz */
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts && in_time; i++)
        if (H5Aexists(dataset, layouts[i].start) > 0 && H5Aexists(dataset, layouts[i].step) > 0)
            return channel_dataset(dataset, path, &layouts[i], w->list);
    if (is_stretch(path) && H5Aexists(dataset, "start_time") > 0)
        return gw_fail(GW_EFORMAT, "attribute delta_t is missing");
    if (is_stretch(path) && H5Aexists(dataset, "delta_t") > 0)
        return gw_fail(GW_EFORMAT, "attribute start_time is missing");
    size_t used = strlen(w->seen);
    if (w->others++ < 4)
        snprintf(w->seen + used, sizeof w->seen - used, "%s%s", used ? ", " : "", path);
    return GW_OK;
}

static herr_t visit(hid_t root, const char *name, const H5O_info_t *info, void *walk)
{
    struct walk *w = walk;
    if (info->type != H5O_TYPE_DATASET || !strncmp(name, "gwstream/", 9))
        return 0;
    hid_t dataset = H5Dopen2(root, name, H5P_DEFAULT);
    w->err = dataset < 0 ? gw_fail(GW_EFORMAT, "%s", gw_hdf5_reason()) : look_at_dataset(dataset, name, w);
    if (dataset >= 0)
        H5Dclose(dataset);
    if (w->err < 0)
        gw_fail_at(w->err, "%s", name);
    return w->err < 0 ? -1 : 0;
}

static int per_channel(hid_t file, gw_archive_list *list)
{
    struct walk w = {.list = list, .recording = H5Lexists(file, "gwstream", H5P_DEFAULT) > 0};
    if (H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, visit, &w, H5O_INFO_BASIC) < 0 && w.err == GW_OK)
        return gw_fail(GW_EFORMAT, "%s", gw_hdf5_reason());
    GW_TRY(w.err);
    if (list->n || w.recording)
        return GW_OK;
    if (w.others)
        return gw_fail(GW_EFORMAT, "holds no strain: found %s%s; %s", w.seen, w.others > 4 ? ", ..." : "",
                       EXPECTED);
    return gw_fail(GW_EFORMAT, "holds no dataset; %s", EXPECTED);
}

int gw_archive_layout(hid_t file, const char *path, gw_archive_list *list)
{
    if (H5Lexists(file, "strain", H5P_DEFAULT) > 0 && H5Lexists(file, "strain/Strain", H5P_DEFAULT) > 0) {
        hid_t strain = gw_hdf5_open_dataset(file, "strain/Strain");
        if (strain < 0)
            return gw_fail(GW_EFORMAT, "strain/Strain: is not a dataset");
        gw_archive_channel *c;
        int err = gw_archive_add(list, "strain/Strain", &c);
        if (err == GW_OK)
            err = gwosc_strain(file, strain, path, c);
        H5Oclose(strain);
        return err < 0 ? gw_fail_at(err, "strain/Strain") : GW_OK;
    }
    GW_TRY(per_channel(file, list));
    return gw_archive_recorded(file, list);
}
