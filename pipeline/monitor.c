/* SPDX-License-Identifier: GPL-3.0-or-later
 * The monitor's thread: a few connections, none of which it ever waits for (monitor.h). What is said is
 * written by status.c; mailbox.c carries commands to sinks. */
#include "pipeline/monitor.h"
#include "pipeline/node.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_CLIENTS = 8, READ_MS = 2000, WRITE_MS = 5000, COMMAND_MS = 300 * 1000, LOOK_MS = 20 };

/* -- clients ----------------------------------------------------------------------------------------- */

typedef enum step { ABSENT, READING, WAITING, WRITING } step;

typedef struct client {
    step step;
    int fd; /* -1 while WAITING: he has gone, his command has not */
    int64_t until_ns;
    size_t used; /* of what has been read or written */
    char line[GW_COMMAND_BYTES];
    char *answer;
    size_t answer_bytes;
    gw_node *node; /* that works off his command */
} client;

struct gw_monitor {
    gw_graph *graph;
    int listener, wake;
    pthread_t thread;
    client client[MAX_CLIENTS];
};

static void hang_up(client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    free(c->answer);
    c->answer = NULL;
    c->step = ABSENT;
}

static int64_t in_ms(int ms)
{
    return gw_monotonic_ns() + (int64_t)ms * 1000000;
}

static void answer_with(client *c, char *text, size_t bytes)
{
    if (!text || c->fd < 0) {
        free(text);
        hang_up(c);
        return;
    }
    c->answer = text;
    c->answer_bytes = bytes;
    c->used = 0;
    c->step = WRITING;
    c->until_ns = in_ms(WRITE_MS);
}

static void answer_line(client *c, const char *word, const char *text)
{
    char *line = NULL;
    int n = asprintf(&line, "%s %s\n", word, text);
    answer_with(c, n < 0 ? NULL : line, n < 0 ? 0 : (size_t)n);
}

static void answer_status(gw_monitor *m, client *c)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) {
        hang_up(c);
        return;
    }
    gw_monitor_write(m->graph, f);
    if (fclose(f) != 0) {
        free(text);
        text = NULL;
    }
    answer_with(c, text, bytes);
}

/* "dump NAME SECONDS PATH": the sink gets all but its name. */
static void post_command(gw_monitor *m, client *c)
{
    char name[GW_NAME_BYTES], words[GW_COMMAND_BYTES], known[512] = "", why[640];
    int at = 0;
    if (sscanf(c->line, "dump %63s %n", name, &at) != 1 || !at) {
        answer_line(c, "error", "requests are: status; dump NAME SECONDS PATH");
        return;
    }
    snprintf(words, sizeof words, "dump %s", c->line + at);
    for (int k = 0; k < m->graph->n_nodes; k++) {
        gw_node *n = m->graph->node[k];
        if (n->kind->role != GW_SINK || !n->kind->command)
            continue;
        if (strcmp(n->name, name) == 0) {
            if (!n->here) { /* nobody here would ever answer */
                snprintf(why, sizeof why, "sink '%s' runs on node %s: ask the process of that node", name,
                         n->process->name);
                answer_line(c, "error", why);
                return;
            }
            if (gw_mailbox_post(&n->mail, words) != GW_OK) {
                snprintf(why, sizeof why, "%s: %s", name, gw_err_detail());
                answer_line(c, "error", why);
                return;
            }
            c->node = n;
            c->step = WAITING;
            c->until_ns = in_ms(COMMAND_MS);
            return;
        }
        if (!n->here)
            continue;
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", n->name);
    }
    snprintf(why, sizeof why, "no sink '%s' takes commands here (%s)", name, known[0] ? known : "none does");
    answer_line(c, "error", why);
}

static void collect_answer(client *c)
{
    char text[GW_ANSWER_BYTES];
    int result = GW_OK;
    int err = gw_mailbox_collect(&c->node->mail, &result, text, sizeof text);
    if (err == GW_EAGAIN) {
        if (c->fd >= 0 && gw_monotonic_ns() > c->until_ns) {
            close(c->fd); /* the mailbox stays his until the node has answered */
            c->fd = -1;
        }
        return;
    }
    if (err != GW_OK)
        snprintf(text, sizeof text, "%s: %.800s", c->node->name, gw_err_detail());
    answer_line(c, err == GW_OK && result >= 0 ? "ok" : "error", text);
}

static void read_request(gw_monitor *m, client *c)
{
    const ssize_t n = recv(c->fd, c->line + c->used, sizeof c->line - 1 - c->used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up(c);
        return;
    }
    c->used += (size_t)n;
    c->line[c->used] = '\0';
    char *end = strchr(c->line, '\n');
    if (!end && c->used == sizeof c->line - 1)
        answer_line(c, "error", "the request is too long");
    if (!end)
        return;
    *end = '\0';
    if (strcmp(c->line, "status") == 0)
        answer_status(m, c);
    else
        post_command(m, c);
}

static void write_answer(client *c)
{
    const ssize_t n =
        send(c->fd, c->answer + c->used, c->answer_bytes - c->used, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->used += n > 0 ? (size_t)n : 0;
    if (n <= 0 || c->used == c->answer_bytes)
        hang_up(c);
}

static void welcome(gw_monitor *m)
{
    const int fd = accept4(m->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct ucred who;
    socklen_t bytes = sizeof who;
    const bool ours = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && who.uid == geteuid();
    for (int k = 0; ours && k < MAX_CLIENTS; k++)
        if (m->client[k].step == ABSENT) {
            m->client[k] = (client){.step = READING, .fd = fd, .until_ns = in_ms(READ_MS)};
            return;
        }
    close(fd);
}

/* -- the thread -------------------------------------------------------------------------------------- */

static void serve(gw_monitor *m, client *c, short happened)
{
    const bool late = c->step != ABSENT && c->step != WAITING && gw_monotonic_ns() > c->until_ns;
    if (late) { /* also who sends or takes a byte now and then */
        hang_up(c);
    } else if (c->step == WAITING) {
        if (c->fd >= 0 && happened & (POLLHUP | POLLERR)) {
            close(c->fd);
            c->fd = -1;
        }
        collect_answer(c);
    } else if (c->step == READING && happened) {
        read_request(m, c);
    } else if (c->step == WRITING && happened) {
        write_answer(c);
    }
}

static void *monitor_thread(void *arg)
{
    gw_monitor *m = arg;
    pthread_setname_np(pthread_self(), "monitor");
    for (;;) {
        struct pollfd item[2 + MAX_CLIENTS] = {{.fd = m->wake, .events = POLLIN},
                                               {.fd = -1, .events = POLLIN}};
        int timeout_ms = -1;
        for (int k = 0; k < MAX_CLIENTS; k++) {
            const client *c = &m->client[k];
            if (c->step == ABSENT)
                item[1].fd = m->listener; /* somebody may still come */
            else if (c->step == WAITING)
                timeout_ms = LOOK_MS;
            else if (timeout_ms < 0)
                timeout_ms = 200; /* deadlines */
            item[2 + k] = (struct pollfd){.fd = c->step == ABSENT ? -1 : c->fd,
                                          .events = c->step == READING   ? POLLIN
                                                    : c->step == WRITING ? POLLOUT
                                                                         : 0};
        }
        if (poll(item, 2 + MAX_CLIENTS, timeout_ms) < 0 && errno != EINTR)
            return NULL;
        if (item[0].revents)
            return NULL;
        for (int k = 0; k < MAX_CLIENTS; k++)
            serve(m, &m->client[k], item[2 + k].revents);
        if (item[1].revents)
            welcome(m);
    }
}

size_t gw_monitor_name(char path[64], unsigned uid, int pid)
{
    path[0] = '\0';
    return 1 + (size_t)snprintf(path + 1, 63, "gwstream/%u/%d", uid, pid);
}

static int open_listener(gw_monitor *m)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const size_t bytes = gw_monitor_name(at.sun_path, geteuid(), getpid());
    m->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (m->listener < 0 || m->wake < 0 ||
        bind(m->listener, (struct sockaddr *)&at,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes)) != 0 ||
        listen(m->listener, MAX_CLIENTS) != 0)
        return gw_fail(GW_ESYSTEM, "the socket @%s for 'gwstream top': %s", at.sun_path + 1, strerror(errno));
    return GW_OK;
}

int gw_monitor_start(gw_monitor **out, gw_graph *g)
{
    *out = NULL;
    gw_monitor *m = calloc(1, sizeof *m);
    if (!m)
        return gw_fail(GW_ENOMEM, "monitor");
    m->graph = g;
    int err = open_listener(m);
    if (err == GW_OK) {
        const int no = pthread_create(&m->thread, NULL, monitor_thread, m);
        if (no)
            err = gw_fail(GW_ESYSTEM, "monitor: %s", strerror(no));
    }
    if (err == GW_OK) {
        *out = m;
        return GW_OK;
    }
    if (m->listener >= 0)
        close(m->listener);
    if (m->wake >= 0)
        close(m->wake);
    free(m);
    return err;
}

void gw_monitor_stop(gw_monitor **mm)
{
    gw_monitor *m = *mm;
    if (!m)
        return;
    *mm = NULL;
    const uint64_t one = 1;
    (void)!write(m->wake, &one, sizeof one);
    pthread_join(m->thread, NULL);
    for (int k = 0; k < MAX_CLIENTS; k++)
        if (m->client[k].step != ABSENT)
            hang_up(&m->client[k]);
    close(m->listener);
    close(m->wake);
    free(m);
}
