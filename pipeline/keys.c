/* SPDX-License-Identifier: GPL-3.0-or-later
 * CURVE keys: their files, a socket's options, and the guard that answers libzmq's question whether a client
 * may come in (ZAP, RFC 27). Called by whoever opens a link and by `gwstream keygen`. The cryptography is
 * libzmq's. Secrets are wiped from the stack; they stay in gw_keys for as long as their owner lives. */
#include "pipeline/keys.h"
#include "pipeline/clock.h"
#include "pipeline/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

enum { KEY_BYTES = 32, PATH_BYTES = 4096, FILE_BYTES = 64 << 10 };

/* -- files ------------------------------------------------------------------------------------------- */

static const char public_banner[] = "#   ZeroMQ CURVE Public Certificate, written by gwstream keygen\n"
                                    "#   Give this file to the other end of the link.\n\n";
static const char secret_banner[] =
    "#   ZeroMQ CURVE **Secret** Certificate, written by gwstream keygen\n"
    "#   DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions.\n\n";

static int file_name(char path[PATH_BYTES], const char *name, const char *suffix)
{
    if (!*name || strlen(name) + strlen(suffix) >= PATH_BYTES)
        return gw_fail(GW_EUSAGE, "'%.64s' is no name for a key", name);
    snprintf(path, PATH_BYTES, "%s%s", name, suffix);
    return GW_OK;
}

static int file_failed(const char *path)
{
    int err = errno == EEXIST                                       ? GW_EBUSY
              : errno == ENOENT || errno == ENOTDIR                 ? GW_EMISSING
              : errno == EACCES || errno == EPERM || errno == EROFS ? GW_EACCESS
                                                                    : GW_EIO;
    return gw_fail(err, "%s: %s%s", path, strerror(errno),
                   err == GW_EBUSY ? "; a key is never overwritten: remove it or choose another name" : "");
}

static int write_certificate(const char *path, mode_t mode, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return file_failed(path);
    const size_t n = strlen(text);
    ssize_t wrote = write(fd, text, n);
    if (wrote >= 0 && (size_t)wrote < n) {
        wrote = -1;
        errno = ENOSPC;
    }
    int err = wrote < 0 || fsync(fd) != 0 ? file_failed(path) : GW_OK;
    close(fd);
    if (err != GW_OK)
        unlink(path);
    return err;
}

int gw_keys_generate(const char *name)
{
    char public_path[PATH_BYTES], secret_path[PATH_BYTES];
    char public_key[GW_KEY_TEXT], secret_key[GW_KEY_TEXT], text[512];
    GW_TRY(file_name(public_path, name, ".key"));
    GW_TRY(file_name(secret_path, name, ".key_secret"));
    if (zmq_curve_keypair(public_key, secret_key) != 0)
        return gw_fail(GW_ENOTSUP, "this libzmq was built without CURVE");
    /* The public file first: it is the one that may stay when the other cannot be made. */
    snprintf(text, sizeof text, "%smetadata\ncurve\n    public-key = \"%s\"\n", public_banner, public_key);
    int err = write_certificate(public_path, 0644, text);
    if (err == GW_OK) {
        snprintf(text, sizeof text, "%smetadata\ncurve\n    public-key = \"%s\"\n    secret-key = \"%s\"\n",
                 secret_banner, public_key, secret_key);
        err = write_certificate(secret_path, 0600, text);
        if (err != GW_OK)
            unlink(public_path);
    }
    explicit_bzero(text, sizeof text);
    explicit_bzero(secret_key, sizeof secret_key);
    return err;
}

/* "    public-key = "..."": the value of `key` on this line, if it is there and is a key. */
static bool line_value(const char *line, const char *key, char value[GW_KEY_TEXT])
{
    line += strspn(line, " \t");
    const size_t n = strlen(key);
    if (strncmp(line, key, n) != 0)
        return false;
    line += n;
    line += strspn(line, " \t");
    if (*line != '=')
        return false;
    line += 1 + strspn(line + 1, " \t\"'");
    uint8_t raw[KEY_BYTES];
    const size_t length = strcspn(line, " \t\r\n\"'");
    if (length != GW_KEY_TEXT - 1)
        return false;
    memcpy(value, line, length);
    value[length] = '\0';
    bool good = zmq_z85_decode(raw, value) != NULL;
    explicit_bzero(raw, sizeof raw);
    return good;
}

/* Finds the keys in a certificate; secret NULL: only the public one is wanted. */
static int read_certificate(const char *path, char public_key[GW_KEY_TEXT], char *secret_key)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return file_failed(path);
    char line[256];
    bool have_public = false, have_secret = false;
    for (size_t bytes = 0; bytes < FILE_BYTES && fgets(line, sizeof line, f); bytes += strlen(line)) {
        have_public |= line_value(line, "public-key", public_key);
        have_secret |= secret_key && line_value(line, "secret-key", secret_key);
    }
    explicit_bzero(line, sizeof line);
    bool failed = ferror(f) != 0;
    fclose(f);
    if (failed)
        return gw_fail(GW_EIO, "%s: cannot be read", path);
    if (!have_public || (secret_key && !have_secret))
        return gw_fail(GW_EFORMAT,
                       "%s: no line '%s-key = \"...\"' with a key of %d Z85 characters: not a ZeroMQ "
                       "certificate (gwstream keygen makes one)",
                       path, have_public ? "secret" : "public", GW_KEY_TEXT - 1);
    return GW_OK;
}

int gw_keys_load(gw_keys *k, const char *name)
{
    char path[PATH_BYTES], derived[GW_KEY_TEXT] = "";
    struct stat st;
    GW_TRY(file_name(path, name, ".key_secret"));
    if (stat(path, &st) != 0)
        return file_failed(path);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return gw_fail(GW_EACCESS, "%s: others than its owner may use this file (mode %03o): chmod 600", path,
                       (unsigned)st.st_mode & 0777u);
    GW_TRY(read_certificate(path, k->own_public, k->own_secret));
    if (zmq_curve_public(derived, k->own_secret) != 0 || strcmp(derived, k->own_public) != 0) {
        explicit_bzero(k->own_secret, sizeof k->own_secret);
        return gw_fail(GW_EFORMAT, "%s: the public key does not belong to the secret one", path);
    }
    return GW_OK;
}

int gw_keys_load_public(char text[GW_KEY_TEXT], const char *name)
{
    char path[PATH_BYTES];
    const size_t n = strlen(name);
    const bool whole = n > 4 && strcmp(name + n - 4, ".key") == 0;
    GW_TRY(file_name(path, name, whole ? "" : ".key"));
    return read_certificate(path, text, NULL);
}

/* -- sockets ----------------------------------------------------------------------------------------- */

static int set(void *socket, int option, const void *value, size_t bytes)
{
    if (zmq_setsockopt(socket, option, value, bytes) != 0)
        return gw_fail(GW_ESYSTEM, "CURVE option %d: %s", option, zmq_strerror(zmq_errno()));
    return GW_OK;
}

int gw_keys_apply(const gw_keys *k, void *socket, int listens)
{
    static const char domain[] = "gwstream";
    const int on = 1;
    if (!listens) {
        if (!k->server[0])
            return gw_fail(GW_ECONFIG, "a connecting link with a key needs the listener's public key, too");
        GW_TRY(set(socket, ZMQ_CURVE_SERVERKEY, k->server, GW_KEY_TEXT));
        GW_TRY(set(socket, ZMQ_CURVE_PUBLICKEY, k->own_public, GW_KEY_TEXT));
        return set(socket, ZMQ_CURVE_SECRETKEY, k->own_secret, GW_KEY_TEXT);
    }
    GW_TRY(set(socket, ZMQ_ZAP_DOMAIN, domain, sizeof domain - 1));
    GW_TRY(set(socket, ZMQ_CURVE_SERVER, &on, sizeof on));
    return set(socket, ZMQ_CURVE_SECRETKEY, k->own_secret, GW_KEY_TEXT);
}

/* -- the guard --------------------------------------------------------------------------------------- */

struct gw_guard {
    void *zmq;
    pthread_t thread;
    bool runs;
    int stop; /* eventfd: readable when the thread shall end */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    enum { STARTING, READY, FAILED } state;
    int failure; /* errno of the socket */
    uint8_t (*key)[KEY_BYTES];
    size_t n_keys;
    /* the thread's own */
    int64_t said_ns;
    uint64_t refused; /* since then */
};

enum { REQUEST_FRAMES = 7, FRAME_BYTES = 256 };

typedef struct request {
    int frames;
    size_t bytes[REQUEST_FRAMES];
    char data[REQUEST_FRAMES][FRAME_BYTES]; /* version, id, domain, address, identity, mechanism, key */
} request;

static int read_request(void *socket, request *r)
{
    int more = 1;
    size_t size = sizeof more;
    for (r->frames = 0; more; r->frames++) {
        char rest[FRAME_BYTES];
        const bool known = r->frames < REQUEST_FRAMES;
        int n = zmq_recv(socket, known ? r->data[r->frames] : rest, FRAME_BYTES, 0);
        if (n < 0)
            return GW_ESYSTEM;
        if (known)
            r->bytes[r->frames] = n < FRAME_BYTES ? (size_t)n : FRAME_BYTES - 1;
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    }
    return GW_OK;
}

static bool frame_is(const request *r, int i, const char *text)
{
    return r->bytes[i] == strlen(text) && memcmp(r->data[i], text, r->bytes[i]) == 0;
}

static bool is_allowed(gw_guard *g, const request *r)
{
    bool found = false;
    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < g->n_keys; i++)
        found |= memcmp(g->key[i], r->data[6], KEY_BYTES) == 0;
    pthread_mutex_unlock(&g->lock);
    return found;
}

/* A refused client tries again ten times a second, so it is mentioned now and then. */
static void mention(gw_guard *g, const request *r)
{
    const int64_t now_ns = gw_monotonic_ns();
    g->refused++;
    if (g->said_ns && now_ns - g->said_ns < 10 * GW_SECOND_NS)
        return;
    char text[GW_KEY_TEXT];
    zmq_z85_encode(text, (const uint8_t *)r->data[6], KEY_BYTES);
    gw_log(GW_LOG_WARN, NULL,
           "refused a client at %.*s: its public key %s is not among those allowed (%" PRIu64
           " attempts since the last such line)",
           (int)r->bytes[3], r->data[3], text, g->refused);
    g->said_ns = now_ns;
    g->refused = 0;
}

static int answer(gw_guard *g, void *socket)
{
    request r = {.frames = 0};
    GW_TRY(read_request(socket, &r));
    const bool asked = r.frames == REQUEST_FRAMES && frame_is(&r, 0, "1.0") && frame_is(&r, 5, "CURVE") &&
                       r.bytes[6] == KEY_BYTES;
    const bool yes = asked && is_allowed(g, &r);
    if (asked && !yes)
        mention(g, &r);
    char user[GW_KEY_TEXT] = "";
    if (yes)
        zmq_z85_encode(user, (const uint8_t *)r.data[6], KEY_BYTES);
    const size_t id_bytes = r.frames > 1 ? r.bytes[1] : 0;
    bool sent = zmq_send(socket, "1.0", 3, ZMQ_SNDMORE) >= 0 &&
                zmq_send(socket, r.data[1], id_bytes, ZMQ_SNDMORE) >= 0 &&
                zmq_send(socket, yes ? "200" : "400", 3, ZMQ_SNDMORE) >= 0 &&
                zmq_send(socket, yes ? "OK" : "No", 2, ZMQ_SNDMORE) >= 0 &&
                zmq_send(socket, user, strlen(user), ZMQ_SNDMORE) >= 0 && zmq_send(socket, "", 0, 0) >= 0;
    return sent ? GW_OK : GW_ESYSTEM;
}

static void report(gw_guard *g, bool well)
{
    pthread_mutex_lock(&g->lock);
    g->failure = zmq_errno();
    g->state = well ? READY : FAILED;
    pthread_cond_signal(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static void *guard_thread(void *arg)
{
    gw_guard *g = arg;
    pthread_setname_np(pthread_self(), "guard");
    const int none = 0;
    void *socket = zmq_socket(g->zmq, ZMQ_REP);
    bool well = socket && zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none) == 0 &&
                zmq_bind(socket, "inproc://zeromq.zap.01") == 0;
    report(g, well);
    zmq_pollitem_t item[2] = {{.socket = socket, .events = ZMQ_POLLIN},
                              {.fd = g->stop, .events = ZMQ_POLLIN}};
    while (well) {
        if (zmq_poll(item, 2, -1) < 0) {
            well = zmq_errno() == EINTR; /* or the context was terminated */
            continue;
        }
        if (item[1].revents)
            break;
        if (item[0].revents & ZMQ_POLLIN)
            well = answer(g, socket) == GW_OK;
    }
    if (socket)
        zmq_close(socket);
    return NULL;
}

int gw_guard_new(gw_guard **out, void *zmq)
{
    *out = NULL;
    gw_guard *g = calloc(1, sizeof *g);
    if (!g)
        return gw_fail(GW_ENOMEM, "guard");
    g->zmq = zmq;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    g->stop = eventfd(0, EFD_CLOEXEC);
    int failure = g->stop < 0 ? errno : pthread_create(&g->thread, NULL, guard_thread, g);
    g->runs = failure == 0;
    if (g->runs) {
        pthread_mutex_lock(&g->lock);
        while (g->state == STARTING)
            pthread_cond_wait(&g->changed, &g->lock);
        failure = g->state == FAILED ? g->failure : 0;
        pthread_mutex_unlock(&g->lock);
    }
    if (failure) {
        gw_guard_destroy(&g);
        return gw_fail(failure == EADDRINUSE ? GW_EBUSY : GW_ESYSTEM, "guard of encrypted links: %s%s",
                       zmq_strerror(failure), failure == EADDRINUSE ? " (one is enough for a context)" : "");
    }
    *out = g;
    return GW_OK;
}

int gw_guard_allow(gw_guard *g, const char public_key[GW_KEY_TEXT])
{
    uint8_t raw[KEY_BYTES];
    if (strlen(public_key) != GW_KEY_TEXT - 1 || !zmq_z85_decode(raw, public_key))
        return gw_fail(GW_EFORMAT, "'%.48s' is no public key", public_key);
    pthread_mutex_lock(&g->lock);
    void *list = realloc(g->key, (g->n_keys + 1) * sizeof *g->key);
    if (list) {
        g->key = list;
        memcpy(g->key[g->n_keys++], raw, sizeof raw);
    }
    pthread_mutex_unlock(&g->lock);
    return list ? GW_OK : gw_fail(GW_ENOMEM, "guard: %zu keys", g->n_keys + 1);
}

void gw_guard_destroy(gw_guard **gg)
{
    gw_guard *g = *gg;
    if (!g)
        return;
    *gg = NULL;
    if (g->runs) {
        const uint64_t one = 1;
        (void)!write(g->stop, &one, sizeof one);
        pthread_join(g->thread, NULL);
    }
    if (g->stop >= 0)
        close(g->stop);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    free(g->key);
    free(g);
}
