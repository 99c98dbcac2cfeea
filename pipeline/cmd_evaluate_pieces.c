/* SPDX-License-Identifier: GPL-3.0-or-later
 * Pieces of an evaluation, each a `gwstream run` in a process of its own: what befalls one befalls no other,
 * and all cores have work. NAME.yaml beside what a piece left says that it is finished, and by which graph;
 * while it runs the graph is NAME.run.yaml. So whatever ends an evaluation, the next one goes on from there. */
#include "pipeline/cmd_evaluate.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_JOBS = 256, PATH = GW_EVALUATE_PATH + 80, TICK_NS = 20000000 };

typedef struct job {
    pid_t pid;
    const gw_piece *piece;
} job;

typedef struct work {
    const gw_evaluate *e;
    const gw_piece *piece;
    const char *what;
    int n, next, ready, made; /* pieces: in all, to be looked at, there, of them made now */
    job job[MOST_JOBS];
    int running, most;
    int64_t started_ns, told_ns;
    double made_s; /* of data */
} work;

static void file_of(const gw_evaluate *e, const gw_piece *p, const char *end, char path[PATH])
{
    snprintf(path, PATH, "%s/%s%s", e->folder, p->name, end);
}

/* ---- what is there ---- */

static bool holds(const char *path, const char *text)
{
    const size_t n = strlen(text);
    char *is = malloc(n + 1);
    FILE *f = is ? fopen(path, "r") : NULL;
    const bool same = f && fread(is, 1, n + 1, f) == n && memcmp(is, text, n) == 0;
    if (f)
        fclose(f);
    free(is);
    return same;
}

static int write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (!f)
        return gw_fail(GW_EIO, "%s: cannot be written (%s)", path, strerror(errno));
    const bool put = fputs(text, f) >= 0 && fflush(f) == 0;
    const int why = errno;
    if (fclose(f) != 0 || !put) {
        remove(path);
        return gw_fail(GW_EIO, "%s: cannot be written (%s)", path, strerror(put ? errno : why));
    }
    return GW_OK;
}

/* What an unfinished piece, or one of other settings, has left. */
static void clear(const gw_evaluate *e, const gw_piece *p)
{
    static const char *const left[] = {".yaml",       ".run.yaml",       ".sqlite",      ".sqlite-wal",
                                       ".sqlite-shm", ".sqlite-journal", ".sqlite-lock", ".log"};
    char path[PATH];
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        file_of(e, p, left[i], path);
        remove(path);
    }
    for (int i = 0; i < e->n_searches; i++) {
        gw_piece_archive(e, p, i, path);
        remove(path);
    }
}

/* ---- one process ---- */

static int start(work *w, const gw_piece *p)
{
    char graph[PATH], log[PATH];
    clear(w->e, p);
    file_of(w->e, p, ".run.yaml", graph);
    file_of(w->e, p, ".log", log);
    GW_TRY(write_text(graph, p->yaml));
    const int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out < 0)
        return gw_fail(GW_EIO, "%s: cannot be written (%s)", log, strerror(errno));
    const pid_t parent = getpid(), pid = fork();
    if (pid == 0) { /* out of reach of the terminal's Ctrl-C, and gone when we are */
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
            _exit(127);
        execl("/proc/self/exe", "gwstream", "run", "--quiet", graph, (char *)NULL);
        _exit(127);
    }
    close(out);
    if (pid < 0)
        return gw_fail(GW_ESYSTEM, "cannot start a process (%s)", strerror(errno));
    w->job[w->running++] = (job){pid, p};
    return GW_OK;
}

/* The last line that a piece wrote, which tells why it failed. */
static void last_line(const char *path, char *text, size_t size)
{
    char line[1024];
    text[0] = '\0';
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0])
            snprintf(text, size, "%s", line);
    }
    if (f)
        fclose(f);
}

static int fail_piece(const work *w, const gw_piece *p, int status)
{
    static const char prefix[] = "gwstream run: ";
    char log[PATH], line[1024];
    file_of(w->e, p, ".log", log);
    last_line(log, line, sizeof line);
    if (WIFSIGNALED(status))
        return gw_fail(GW_ESYSTEM, "%s was ended by signal %d (%s)", p->name, WTERMSIG(status),
                       line[0] ? line : "it said nothing");
    const char *why = strncmp(line, prefix, sizeof prefix - 1) == 0 ? line + sizeof prefix - 1 : line;
    return gw_fail(WEXITSTATUS(status) == 2 ? GW_ECONFIG : GW_EIO, "%s: %s", p->name,
                   why[0] ? why : "the run failed and did not say why");
}

/* A run that somebody ended early exits 0 all the same: count what it left. */
static int check(const work *w, const gw_piece *p)
{
    char path[GW_EVALUATE_PATH + 80];
    gw_signals s = {0};
    gw_eval_search *list = calloc(GW_EVAL_SEARCHES, sizeof *list);
    int err = list ? GW_OK : gw_fail(GW_ENOMEM, "%s", p->name);
    if (err == GW_OK && p->injections)
        err = gw_piece_read(w->e, p, &s);
    for (int i = 0; err == GW_OK && !p->injections && i < w->e->n_searches; i++) {
        gw_piece_archive(w->e, p, i, path);
        err = gw_evaluate_archive(w->e, i, path, list);
        if (err == GW_OK && list[i].noise.distinct_s < 0.5 * p->seconds)
            err = gw_fail(GW_EFORMAT, "%s: %.0f s of %.0f s of noise were searched", p->name,
                          list[i].noise.distinct_s, p->seconds);
    }
    free(s.s);
    for (int i = 0; list && i < GW_EVAL_SEARCHES; i++)
        gw_eval_background_free(&list[i].noise);
    free(list);
    return err;
}

static int finished(work *w, const gw_piece *p, int status)
{
    char run[PATH], done[PATH], rest[PATH];
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail_piece(w, p, status);
    GW_TRY(check(w, p));
    file_of(w->e, p, ".run.yaml", run);
    file_of(w->e, p, ".yaml", done);
    file_of(w->e, p, ".log", rest);
    remove(rest);
    file_of(w->e, p, ".sqlite-lock", rest);
    remove(rest);
    if (rename(run, done) != 0)
        return gw_fail(GW_EIO, "%s: cannot be written (%s)", done, strerror(errno));
    w->ready++;
    w->made++;
    w->made_s += p->seconds;
    return GW_OK;
}

/* Whatever has ended since the last look. */
static int collect(work *w)
{
    for (int i = 0; i < w->running; i++) {
        int status;
        if (waitpid(w->job[i].pid, &status, WNOHANG) != w->job[i].pid)
            continue;
        const gw_piece *p = w->job[i].piece;
        w->job[i--] = w->job[--w->running];
        GW_TRY(finished(w, p, status));
    }
    return GW_OK;
}

static void end_all(work *w)
{
    for (int i = 0; i < w->running; i++)
        kill(w->job[i].pid, SIGKILL);
    for (int i = 0; i < w->running; i++) {
        while (waitpid(w->job[i].pid, NULL, 0) < 0 && errno == EINTR)
            ;
        clear(w->e, w->job[i].piece);
    }
    w->running = 0;
}

/* ---- all of them ---- */

static void show(work *w, bool last)
{
    const bool terminal = isatty(STDERR_FILENO);
    const int64_t now = gw_monotonic_ns();
    if (w->e->quiet || (!last && now - w->told_ns < (terminal ? GW_SECOND_NS / 5 : 30 * GW_SECOND_NS)))
        return;
    w->told_ns = now;
    const double wall_s = (double)(now - w->started_ns) / 1e9;
    fprintf(stderr, "%s%s: %d of %d", terminal ? "\r\033[K" : "", w->what, w->ready, w->n);
    if (w->made)
        fprintf(stderr, ", %.0fx real time, %.1f min left", w->made_s / wall_s,
                wall_s / w->made * (w->n - w->ready) / 60);
    if (!terminal || last)
        fputs("\n", stderr);
    fflush(stderr);
}

static int start_more(work *w)
{
    char done[PATH];
    while (w->running < w->most && w->next < w->n) {
        const gw_piece *p = &w->piece[w->next++];
        file_of(w->e, p, ".yaml", done);
        if (holds(done, p->yaml))
            w->ready++;
        else
            GW_TRY(start(w, p));
    }
    return GW_OK;
}

int gw_pieces_run(const gw_evaluate *e, const gw_piece *p, int n, const char *what)
{
    work w = {.e = e, .piece = p, .n = n, .what = what, .started_ns = gw_monotonic_ns()};
    w.most = e->jobs < MOST_JOBS ? (int)e->jobs : MOST_JOBS;
    w.told_ns = w.started_ns;
    sigset_t stops, before;
    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &stops, &before);
    int err = start_more(&w);
    while (err == GW_OK && w.running) {
        const struct timespec tick = {.tv_nsec = TICK_NS};
        if (sigtimedwait(&stops, NULL, &tick) > 0) {
            err = gw_fail(GW_ECANCELED,
                          "stopped with %d of %d pieces (%s); the same command goes on from there", w.ready,
                          n, what);
            break;
        }
        err = collect(&w);
        if (err == GW_OK)
            err = start_more(&w);
        show(&w, false);
    }
    end_all(&w);
    if (w.made)
        show(&w, true);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}
