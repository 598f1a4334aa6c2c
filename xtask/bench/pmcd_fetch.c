/* How fast a pmcd answers Debian's libpcp.
 *
 *   pmcd_fetch HOST SECONDS METRIC...   fetches the metrics in a loop, then prints the fetches per second and the median and the
 *                                       99th percentile of their times in microseconds
 *   pmcd_fetch --blind PORT             a server that sends the same answer to whatever is fetched, without looking: as fast as
 *                                       any server can be for this client
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Of libpcp's interface what is used. */
extern int pmNewContext(int type, const char *name);
extern int pmLookupName(int count, const char **names, unsigned *pmids);
extern int pmFetch(int count, unsigned *pmids, void **result);
extern void pmFreeResult(void *result);
extern const char *pmErrStr(int code);

enum { HOST_CONTEXT = 1, MOST = 1 << 22, WARM_UP = 200 };

static int earlier(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int failed(const char *what, int code)
{
    fprintf(stderr, "%s: %s\n", what, pmErrStr(code));
    return 1;
}

static int send_words(int socket, unsigned *words, int count)
{
    for (int n = 0; n < count; n++)
        words[n] = htonl(words[n]);
    return send(socket, words, 4 * count, 0) == 4 * count;
}

/* One metric of domain 29 without instances, whose value is 1. */
static int blind(int port)
{
    static unsigned char seen[65536];
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    unsigned pmid = 29u << 22, none = -1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 5)) {
        perror("blind");
        return 1;
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        unsigned greeting[] = { 20, 0x7000, 0, 0, 0x02010e00 };
        send_words(client, greeting, 5);
        for (ssize_t got; (got = recv(client, seen, sizeof seen, 0)) > 0;) {
            for (ssize_t at = 0; at + 12 <= got;) {
                unsigned head[2];
                memcpy(head, seen + at, 8);
                if (ntohl(head[1]) == 0x700e) {
                    unsigned names[] = { 24, 0x700d, 0, 1, 1, pmid };
                    send_words(client, names, 6);
                } else if (ntohl(head[1]) == 0x7014) {
                    unsigned result[] = { 52, 0x7015, 0, 1, 0, 0, 0, 0, pmid, 1, 0, none, 1 };
                    send_words(client, result, 13);
                } else if (ntohl(head[1]) == 0x7003) {
                    unsigned result[] = { 44, 0x7001, 0, 0, 0, 1, pmid, 1, 0, none, 1 };
                    send_words(client, result, 11);
                }
                at += ntohl(head[0]) < 12 ? 12 : ntohl(head[0]);
            }
        }
        close(client);
    }
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "--blind"))
        return blind(atoi(words[2]));
    if (count < 4)
        return 2;
    int metrics = count - 3, status;
    unsigned *pmids = calloc(metrics, sizeof *pmids);
    double *took = malloc(MOST * sizeof *took), limit = atof(words[2]) * 1e6;
    void *result;
    if ((status = pmNewContext(HOST_CONTEXT, words[1])) < 0)
        return failed(words[1], status);
    if ((status = pmLookupName(metrics, (const char **)words + 3, pmids)) != metrics)
        return failed("names", status);
    double start = 0, before = 0;
    long fetches = -WARM_UP;
    while (fetches < MOST && before - start < limit) {
        if (fetches == 0)
            start = before = now();
        if ((status = pmFetch(metrics, pmids, &result)) < 0)
            return failed("fetch", status);
        pmFreeResult(result);
        if (fetches >= 0) {
            double after = now();
            took[fetches] = after - before;
            before = after;
        }
        fetches++;
    }
    qsort(took, fetches, sizeof *took, earlier);
    printf("%.0f %.1f %.1f\n", fetches / (before - start) * 1e6, took[fetches / 2], took[fetches * 99 / 100]);
    return 0;
}
