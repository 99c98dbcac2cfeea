/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream top` and `gwstream dump`: the other end of the monitor's socket (monitor.h). Finds the running
 * pipelines of this user, asks one of them, and shows what cmd_top_view.c makes of it: once, or each second
 * on a terminal. */
#include "pipeline/cmd_top.h"
#include "pipeline/cmd.h"
#include "pipeline/mailbox.h"
#include "pipeline/monitor.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

enum { MAX_FOUND = 256, KEPT = 6, TICK_MS = 1000, STATUS_S = 5, DUMP_S = 330 };

/* -- asking ------------------------------------------------------------------------------------------ */

/* One request, one answer, as text to be freed. GW_EPEER: no such pipeline (any more). */
static int ask(int pid, const char *request, int timeout_s, char **answer, size_t *bytes)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const size_t name = gw_monitor_name(to.sun_path, geteuid(), pid);
    const struct timeval limit = {.tv_sec = timeout_s};
    *answer = NULL;
    *bytes = 0;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return gw_fail(GW_ESYSTEM, "socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    FILE *f = open_memstream(answer, bytes);
    ssize_t n = -1;
    if (f && connect(fd, (struct sockaddr *)&to,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name)) == 0) {
        n = send(fd, request, strlen(request), MSG_NOSIGNAL);
        char part[16384];
        while (n > 0 && (n = recv(fd, part, sizeof part, 0)) > 0)
            fwrite(part, 1, (size_t)n, f);
    }
    const int why = errno;
    close(fd);
    if (!f || fclose(f) != 0)
        return gw_fail(GW_ENOMEM, "the answer of pid %d", pid);
    if (n == 0 && *bytes)
        return GW_OK;
    free(*answer);
    *answer = NULL;
    if (n < 0 && why == EAGAIN)
        return gw_fail(GW_EIO, "pid %d does not answer within %d s", pid, timeout_s);
    return gw_fail(GW_EPEER, "no pipeline of yours runs as pid %d", pid);
}

static int read_status(int pid, char **text, gw_conf_file **doc)
{
    size_t bytes;
    GW_TRY(ask(pid, "status\n", STATUS_S, text, &bytes));
    int err = gw_conf_parse(doc, "the status", *text, bytes);
    if (err != GW_OK || gw_conf_kind(gw_conf_root(*doc)) != GW_CONF_MAP) {
        if (err == GW_OK)
            gw_conf_free(doc);
        free(*text);
        *text = NULL;
        return gw_fail(GW_EPEER, "what pid %d answers is no status", pid);
    }
    return GW_OK;
}

/* -- which pipeline ---------------------------------------------------------------------------------- */

/* The listening sockets "@gwstream/<uid>/<pid>" of this user. */
static int find_running(int pid[MAX_FOUND])
{
    FILE *f = fopen("/proc/net/unix", "re");
    char line[512], want[64];
    int n = 0;
    snprintf(want, sizeof want, " @gwstream/%u/", geteuid());
    while (f && n < MAX_FOUND && fgets(line, sizeof line, f)) {
        unsigned flags;
        const char *name = strstr(line, want);
        if (name && sscanf(line, "%*s %*s %*s %x", &flags) == 1 && flags & 0x10000) /* it listens */
            pid[n++] = atoi(name + strlen(want));
    }
    if (f)
        fclose(f);
    return n;
}

/* *pid stays 0 when there are several: then they have been listed. */
static int choose(bool may_list, int *pid)
{
    int found[MAX_FOUND], n = find_running(found);
    if (n == 0)
        return gw_fail(GW_EMISSING, "no pipeline of yours is running on this host");
    if (n == 1) {
        *pid = found[0];
        return GW_OK;
    }
    if (!may_list)
        return gw_fail(GW_EUSAGE, "%d pipelines are running: name one (gwstream top lists them)", n);
    puts("several pipelines are running; gwstream top PID shows one of them");
    for (int i = 0; i < n; i++) {
        char *text;
        gw_conf_file *doc;
        if (read_status(found[i], &text, &doc) != GW_OK)
            continue; /* ended just now */
        const char *graph = "", *node = "";
        double up_ns = 0;
        (void)gw_conf_get_text(gw_conf_root(doc), "graph", &graph);
        (void)gw_conf_get_text(gw_conf_root(doc), "node", &node);
        (void)gw_conf_get_double(gw_conf_root(doc), "uptime_ns", 0, 1e19, &up_ns);
        printf("  %7d  up %.0f s  %s%s%s\n", found[i], up_ns / 1e9, graph, *node ? " node " : "", node);
        gw_conf_free(&doc);
        free(text);
    }
    return GW_OK;
}

/* -- the terminal ------------------------------------------------------------------------------------ */

static struct termios terminal_before;

static void terminal_enter(void)
{
    struct termios t;
    if (tcgetattr(STDIN_FILENO, &terminal_before) == 0) {
        t = terminal_before;
        t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
    }
    fputs("\033[?1049h\033[?25l", stdout); /* the other screen, no cursor */
}

static void terminal_leave(void)
{
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (isatty(STDIN_FILENO))
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

static int rows_of(const char *s)
{
    int rows = 0;
    for (; *s; s++)
        rows += *s == '\n';
    return rows;
}

static void print_rows(const char *s, const char *end, int rows, int columns)
{
    for (; s < end && rows > 0; rows--) {
        const int n = (int)strcspn(s, "\n");
        printf("%.*s\033[K\n", n < columns ? n : columns, s);
        s += n + (s[n] == '\n');
    }
}

/* As much as the window holds; of the losses, which come last, at least half a window. */
static void show(const char *text)
{
    struct winsize w = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || !w.ws_row || !w.ws_col)
        w = (struct winsize){.ws_row = 24, .ws_col = 80};
    const char *end = text + strlen(text), *losses = strstr(text, "\nlosses\n");
    losses = losses ? losses : end;
    const int rows = w.ws_row - 1;
    int below = rows_of(losses);
    below = below < rows / 2 ? below : rows / 2;
    fputs("\033[H", stdout);
    print_rows(text, losses, rows - below, w.ws_col);
    print_rows(losses, end, below, w.ws_col);
    fputs("q leaves\033[K\033[J", stdout);
    fflush(stdout);
}

/* Waits a second. True when the user wants to leave. */
static bool wants_to_leave(int signals)
{
    struct pollfd item[2] = {{.fd = signals, .events = POLLIN},
                             {.fd = isatty(STDIN_FILENO) ? STDIN_FILENO : -1, .events = POLLIN}};
    if (poll(item, 2, TICK_MS) <= 0)
        return false;
    if (item[0].revents) {
        struct signalfd_siginfo s;
        return read(signals, &s, sizeof s) == (ssize_t)sizeof s && s.ssi_signo != SIGWINCH;
    }
    char key;
    return read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q';
}

/* Rates and ages are those of the last seconds: the documents of the last few ticks are kept. */
static int watch(int pid)
{
    char *text[KEPT] = {NULL};
    gw_conf_file *doc[KEPT] = {NULL};
    int n = 0, err;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGWINCH);
    sigprocmask(SIG_BLOCK, &set, NULL);
    const int signals = signalfd(-1, &set, SFD_CLOEXEC);
    terminal_enter();
    do {
        if (n == KEPT) {
            gw_conf_free(&doc[0]);
            free(text[0]);
            memmove(doc, doc + 1, (KEPT - 1) * sizeof doc[0]);
            memmove(text, text + 1, (KEPT - 1) * sizeof text[0]);
            n--;
        }
        err = read_status(pid, &text[n], &doc[n]);
        if (err != GW_OK)
            break;
        n++;
        char *page = NULL;
        size_t bytes;
        FILE *f = open_memstream(&page, &bytes);
        if (f) {
            gw_top_draw(gw_conf_root(doc[n - 1]), n > 1 ? gw_conf_root(doc[0]) : NULL, f);
            if (fclose(f) == 0)
                show(page);
            free(page);
        }
    } while (!wants_to_leave(signals));
    terminal_leave();
    close(signals);
    const bool seen = n > 0;
    while (n > 0) {
        n--;
        gw_conf_free(&doc[n]);
        free(text[n]);
    }
    if (err == GW_EPEER && seen) {
        printf("the pipeline %d has ended\n", pid);
        return GW_OK;
    }
    return err == GW_EPEER ? GW_EMISSING : err;
}

/* -- commands ---------------------------------------------------------------------------------------- */

static int read_pid(const char *text, int *pid)
{
    int64_t value;
    if (gw_parse_int(text, &value) != GW_OK || value < 1 || value > INT32_MAX)
        return gw_fail(GW_EUSAGE, "'%s' is no process id", text);
    *pid = (int)value;
    return GW_OK;
}

static const char top_help[] =
    "usage: gwstream top [--once | --json] [PID]\n\n"
    "Shows a running pipeline of yours, each second anew: what each stage does and waits for, what each "
    "link\n"
    "carries, the age of its blocks, and what was lost. Without PID: the only one that runs, or a list.\n"
    "q or Ctrl-C leaves. Rates and ages are of the last seconds.\n\n"
    "  --once   plain lines, once; rates and ages since the start (also when the output is no terminal)\n"
    "  --json   the counters as one JSON object (docs/operations.md)\n";

int gw_cmd_top(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"once", no_argument, NULL, '1'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    bool once = !isatty(STDOUT_FILENO), json = false;
    int pid = 0;
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(top_help, stdout);
            return GW_OK;
        }
        if (c == '?')
            return gw_fail(GW_EUSAGE, "no option '%s' (gwstream top --help)", argv[optind - 1]);
        once |= c == '1';
        json |= c == 'j';
    }
    if (argc - optind > 1)
        return gw_fail(GW_EUSAGE, "wants at most one process id (gwstream top --help)");
    if (argc > optind)
        GW_TRY(read_pid(argv[optind], &pid));
    else
        GW_TRY(choose(!json, &pid));
    if (!pid)
        return GW_OK;
    if (!once && !json)
        return watch(pid);
    char *text;
    gw_conf_file *doc;
    int err = read_status(pid, &text, &doc);
    if (err != GW_OK)
        return err == GW_EPEER ? GW_EMISSING : err;
    if (json)
        fputs(text, stdout);
    else
        gw_top_draw(gw_conf_root(doc), NULL, stdout);
    gw_conf_free(&doc);
    free(text);
    return GW_OK;
}

static const char dump_help[] =
    "usage: gwstream dump PID NAME SECONDS PATH\n\n"
    "Asks the sink NAME of the running pipeline PID to write its last SECONDS (20 or 20s) to the file PATH "
    "(HDF5).\n"
    "gwstream top lists the running pipelines; sinks of kind ring take this command.\n";

int gw_cmd_dump(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(dump_help, stdout);
        return GW_OK;
    }
    if (argc != 5)
        return gw_fail(GW_EUSAGE, "wants PID NAME SECONDS PATH (gwstream dump --help)");
    int pid = 0;
    double plain;
    gw_rate span;
    GW_TRY(read_pid(argv[1], &pid));
    if (strlen(argv[2]) > 63 || !*argv[2] || strpbrk(argv[2], " \t\n"))
        return gw_fail(GW_EUSAGE, "'%s' is no name of a sink", argv[2]);
    if (gw_parse_double(argv[3], &plain) != GW_OK)
        plain = gw_parse_span(argv[3], &span) == GW_OK ? gw_rate_hz(span) : 0;
    if (!(plain > 0) || plain > 1e7)
        return gw_fail(GW_EUSAGE, "'%s' is no number of seconds", argv[3]);
    if (!*argv[4] || strchr(argv[4], '\n'))
        return gw_fail(GW_EUSAGE, "'%s' is no path", argv[4]);
    /* The pipeline may run in another folder. */
    char here[2048] = "", request[GW_COMMAND_BYTES];
    if (argv[4][0] != '/' && !getcwd(here, sizeof here))
        return gw_fail(GW_ESYSTEM, "the current folder: %s", strerror(errno));
    const int n = snprintf(request, sizeof request, "dump %s %s %s%s%s\n", argv[2], argv[3], here,
                           *here ? "/" : "", argv[4]);
    if (n < 0 || (size_t)n >= sizeof request)
        return gw_fail(GW_EUSAGE, "the path is too long");
    char *answer;
    size_t bytes;
    int err = ask(pid, request, DUMP_S, &answer, &bytes);
    if (err != GW_OK)
        return err == GW_EPEER ? GW_EMISSING : err;
    answer[strcspn(answer, "\n")] = '\0';
    const bool well = strncmp(answer, "ok ", 3) == 0;
    if (well)
        puts(answer + 3);
    else
        err = gw_fail(GW_EIO, "%s", strncmp(answer, "error ", 6) == 0 ? answer + 6 : answer);
    free(answer);
    return err;
}
