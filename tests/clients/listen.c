/* SPDX-License-Identifier: GPL-3.0-or-later
 * The smallest C listener: hears the events of a gwstream on this host and prints a line for each, until it is killed.
 * Needs libzmq, and nothing of gwstream: cc listen.c -lzmq -o listen
 *
 *   listen ENDPOINT [TOPIC]      tcp://127.0.0.1:5556 or ipc://PATH; TOPIC such as event.final, default all
 *
 * What a message is, and why repeats are dropped and gaps noticed: listen.py, which prints the same. A program that
 * does more with an event uses a JSON library; here the members are taken where they first occur, for gwstream
 * writes its own before all others. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { KEPT = 4096, TEXT = 16384 }; /* names of the last so many messages */

/* What follows "name": in the JSON, up to `size` - 1 bytes and without quotes; "" when it is not there. */
static const char *member(const char *json, const char *name, char *to, size_t size)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(json, key);
    size_t n = 0;
    if (at) {
        at += strlen(key);
        if (*at == '"')
            n = strcspn(++at, "\"");
        else
            n = *at == '[' ? strcspn(++at, "]") : strcspn(at, ",}");
    }
    snprintf(to, size, "%.*s", (int)n, at ? at : "");
    return to;
}

static void print_event(const char *json)
{
    char id[32], phase[32], serial[16], gps[32], detectors[64], statistic[32], rate[32], word[8],
        *to = detectors;
    member(json, "detectors", detectors, sizeof detectors);
    for (const char *from = detectors; *from; from++)
        if (*from != '"')
            *to++ = *from;
    *to = '\0';
    printf("%s %s %s gps %.4f %s statistic %.2f noise ", member(json, "id", id, sizeof id),
           member(json, "phase", phase, sizeof phase), member(json, "serial", serial, sizeof serial),
           strtod(member(json, "gps", gps, sizeof gps), NULL), detectors,
           strtod(member(json, "statistic", statistic, sizeof statistic), NULL));
    const double hz = strtod(member(json, "noise_rate_hz", rate, sizeof rate), NULL);
    if (hz > 0)
        printf("1 per %.3g d", 1 / hz / 86400);
    else
        printf("-");
    printf("%s%s\n", strcmp(member(json, "alert", word, sizeof word), "true") == 0 ? " ALERT" : "",
           strcmp(member(json, "injection", word, sizeof word), "true") == 0 ? " injection" : "");
}

/* Have we heard this (id, phase, serial)? Remembers it. */
static int heard_before(const char *json)
{
    static char kept[KEPT][80];
    static unsigned next;
    char id[32], phase[32], serial[16], name[80];
    snprintf(name, sizeof name, "%s %s %s", member(json, "id", id, sizeof id),
             member(json, "phase", phase, sizeof phase), member(json, "serial", serial, sizeof serial));
    for (unsigned i = 0; i < KEPT; i++)
        if (strcmp(kept[i], name) == 0)
            return 1;
    memcpy(kept[next++ % KEPT], name, sizeof name);
    return 0;
}

static void look_for_gap(unsigned long long number)
{
    static unsigned long long last;
    if (last == 0 && number > 1)
        printf("# %llu messages were before this listener\n", number - 1);
    else if (last && number <= last)
        printf("# gwstream has begun anew, %llu messages were missed\n", number - 1);
    else if (last && number > last + 1)
        printf("# %llu messages were missed\n", number - last - 1);
    last = number;
}

/* The next frame as text; whether more of the message follows. */
static int frame(void *socket, char *text)
{
    int more = 0, n = zmq_recv(socket, text, TEXT - 1, 0);
    size_t size = sizeof more;
    if (n < 0) {
        fprintf(stderr, "listen: %s\n", zmq_strerror(zmq_errno()));
        exit(1);
    }
    text[n < TEXT ? n : TEXT - 1] = '\0'; /* what is longer is cut */
    zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size);
    return more;
}

int main(int argc, char **argv)
{
    static char topic[TEXT], json[TEXT], number[TEXT], rest[TEXT];
    const char *wanted = argc == 3 ? argv[2] : "event.";
    const int no_limit = 0; /* of messages that wait here: an event has 2 KiB */
    if (argc != 2 && argc != 3) {
        fputs("usage: listen ENDPOINT [TOPIC]\n", stderr);
        return 2;
    }
    void *zmq = zmq_ctx_new(), *socket = zmq_socket(zmq, ZMQ_SUB);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &no_limit, sizeof no_limit);
    zmq_setsockopt(socket, ZMQ_SUBSCRIBE, wanted, strlen(wanted));
    if (zmq_connect(socket, argv[1]) != 0) { /* gwstream may come later, or go and come again */
        fprintf(stderr, "listen: %s: %s\n", argv[1], zmq_strerror(zmq_errno()));
        return 1;
    }
    for (;;) {
        int more = frame(socket, topic);
        more = more && frame(socket, json);
        more = more && frame(socket, number);
        while (more)
            more = frame(socket, rest);
        if (strcmp(wanted, "event.") == 0)
            look_for_gap(strtoull(number, NULL, 10));
        if (!heard_before(json))
            print_event(json);
        fflush(stdout);
    }
}
