/* SPDX-License-Identifier: GPL-3.0-or-later
 * A Kafka broker on the loopback for tests: librdkafka's mock cluster, which any client can talk to. Makes
 * topics as they are asked for. Prints its address, then obeys lines on stdin until it is closed:
 *
 *   down | up            the broker goes away and comes back, with all that it holds
 *   slow MS              each answer takes so long
 *   refuse N             the next N messages to it are refused (NOT_ENOUGH_REPLICAS)
 *   forbid TOPIC         TOPIC_AUTHORIZATION_FAILED from now on;  allow TOPIC
 *
 * It answers each line with the line itself. No gwstream in it. */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRODUCE = 0 }; /* number of the request in Kafka's protocol */

static void obey(rd_kafka_mock_cluster_t *m, const char *line)
{
    char topic[256];
    int n;
    if (strcmp(line, "down") == 0)
        rd_kafka_mock_broker_set_down(m, 1);
    else if (strcmp(line, "up") == 0)
        rd_kafka_mock_broker_set_up(m, 1);
    else if (sscanf(line, "slow %d", &n) == 1)
        rd_kafka_mock_broker_set_rtt(m, 1, n);
    else if (sscanf(line, "refuse %d", &n) == 1)
        while (n-- > 0)
            rd_kafka_mock_push_request_errors(m, PRODUCE, 1, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
    else if (sscanf(line, "forbid %255s", topic) == 1)
        rd_kafka_mock_topic_set_error(m, topic, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    else if (sscanf(line, "allow %255s", topic) == 1)
        rd_kafka_mock_topic_set_error(m, topic, RD_KAFKA_RESP_ERR_NO_ERROR);
}

int main(void)
{
    char why[256], line[300];
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, NULL, why, sizeof why); /* whose threads it uses */
    rd_kafka_mock_cluster_t *m = rk ? rd_kafka_mock_cluster_new(rk, 1) : NULL;
    if (!m) {
        fprintf(stderr, "mock_broker: %s\n", rk ? "no cluster" : why);
        return 1;
    }
    printf("%s\n", rd_kafka_mock_cluster_bootstraps(m));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        obey(m, line);
        printf("%s\n", line);
        fflush(stdout);
    }
    rd_kafka_mock_cluster_destroy(m);
    rd_kafka_destroy(rk);
    return 0;
}
