/* Hosts of an emulated network: namespaces that a switch in user space joins by lines (see lab.py, which drives this).
 *
 *   switch HOSTS SEED            make the hosts, say where they are, and carry their packets until standard input ends
 *   switch enter PATH COMMAND... run a command on a host; PATH is that of its namespace
 *
 * A host is a network namespace without a name, with one Ethernet device, eth0, on a line to the switch. Nothing of
 * it is in the file system, so that labs do not meet, and the kernel takes all of it away when this process ends,
 * however it ends. Before it ends by itself it kills whatever still runs on its hosts.
 *
 * Commands, a line each, each answered by a line; hosts count from 0:
 *
 *   line HOST UP DOWN DELAY JITTER LOSS QUEUE PLUGGED LAN
 *        UP, DOWN  bytes/s of IP packets, 0 for no limit: a packet takes up the line for its size by the rate
 *        DELAY     seconds one way between host and switch; two hosts are their two delays apart
 *        JITTER    seconds; a packet comes up to so much sooner or later, those of a pair of hosts in order
 *        LOSS      share of packets, from 0 to 1, that are lost in each direction
 *        QUEUE     seconds of packets that wait in each direction before more are dropped
 *        PLUGGED   0 or 1; where it is 0 everything from and to the host vanishes without a word
 *        LAN       multicast and broadcast go to all hosts with the same number
 *   address IP HOST              packets to this address go to the host; -1: to nobody
 *   stats                        a JSON object of what was carried and dropped
 *
 * One thread: it waits for packets, for commands, and for the time of the first packet on its way (a heap).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HOSTS = 128, MAX_ROUTES = 1024, MAX_FRAME = 2048, MAX_COMMAND = 512, MAX_READ = 64, ETHERNET = 14 };
#define NS_PER_S 1000000000LL
#define EARLY_NS 20000 /* packets leave so much too early, and save a wake-up */

typedef int64_t ns_t; /* of the monotonic clock */

struct line {
    double up, down, loss;
    ns_t delay, jitter, queue;
    int plugged, lan;
};

struct host {
    int device, namespace;
    struct line line;
    ns_t up_free, down_free; /* when the last packet has left each direction */
    uint64_t sent, sent_bytes, received, received_bytes;
    uint64_t lost, full, unplugged, nowhere; /* dropped: by chance, by a queue, by a plug, for want of a receiver */
};

struct packet {
    int from, to, length;
    unsigned char frame[];
};

enum stage { ON_THE_WAY, ON_THE_LAST_LINE };

struct event {
    ns_t at;
    uint64_t number; /* events of the same time keep their order */
    enum stage stage;
    struct packet *packet;
};

struct route {
    unsigned char ip[16]; /* IPv4 as ::ffff:a.b.c.d */
    int host;
};

static struct host hosts[MAX_HOSTS];
static struct route routes[MAX_ROUTES];
static ns_t last_arrival[MAX_HOSTS][MAX_HOSTS];
static struct event *heap;
static int host_count, route_count, heap_count, heap_room;
static uint64_t event_number, dice[2];
static ns_t latest; /* the worst lateness of a packet */

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static ns_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

/* xorshift128+: from 0 to 1, 1 excluded */
static double draw(void) {
    uint64_t a = dice[0], b = dice[1];
    dice[0] = b;
    a ^= a << 23;
    dice[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return (double)((dice[1] + b) >> 11) * (1.0 / 9007199254740992.0);
}

/* ---- Packets on their way ---- */

static int is_before(const struct event *a, const struct event *b) {
    return a->at < b->at || (a->at == b->at && a->number < b->number);
}

static void push(ns_t at, enum stage stage, struct packet *packet) {
    if (heap_count == heap_room) {
        heap_room = heap_room ? heap_room * 2 : 4096;
        heap = realloc(heap, (size_t)heap_room * sizeof *heap);
        if (!heap) die("packets on their way");
    }
    const struct event event = {at, event_number++, stage, packet};
    int i = heap_count++;
    for (; i && is_before(&event, &heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = event;
}

static struct event pop(void) {
    const struct event first = heap[0], last = heap[--heap_count];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= heap_count) break;
        if (child + 1 < heap_count && is_before(&heap[child + 1], &heap[child])) child++;
        if (is_before(&last, &heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return first;
}

static void deliver(struct packet *packet) {
    struct host *to = &hosts[packet->to];
    if (!to->line.plugged) {
        to->unplugged++;
    } else if (write(to->device, packet->frame, (size_t)packet->length) < 0) {
        to->nowhere++; /* its device is down */
    } else {
        to->received++;
        to->received_bytes += (uint64_t)(packet->length - ETHERNET);
    }
    free(packet);
}

/* When a packet that reaches a line at `at` has left it, or -1 where too many wait before it */
static ns_t leaves(ns_t at, const struct packet *packet, double rate, ns_t queue, ns_t *is_free) {
    if (rate <= 0) return at;
    const ns_t begins = *is_free > at ? *is_free : at;
    if (begins - at > queue) return -1;
    return *is_free = begins + (ns_t)((packet->length - ETHERNET) / rate * NS_PER_S);
}

static void take_last_line(struct packet *packet, ns_t at, ns_t now) {
    struct host *to = &hosts[packet->to];
    const ns_t left = leaves(at, packet, to->line.down, to->line.queue, &to->down_free);
    if (left < 0) {
        to->full++;
        free(packet);
    } else if (left <= now + EARLY_NS) {
        deliver(packet);
    } else {
        push(left, ON_THE_LAST_LINE, packet);
    }
}

/* When a packet that left its sender's line at `at` comes to its receiver's */
static ns_t arrival(const struct packet *packet, ns_t at) {
    const struct line *from = &hosts[packet->from].line, *to = &hosts[packet->to].line;
    ns_t *last = &last_arrival[packet->from][packet->to];
    ns_t arrives = at + from->delay + to->delay + (ns_t)((draw() * 2 - 1) * (double)(from->jitter + to->jitter));
    if (arrives < at) arrives = at;
    if (arrives < *last) arrives = *last;
    return *last = arrives;
}

static void send_on(int from_host, int to_host, const unsigned char *frame, int length, ns_t now) {
    struct host *from = &hosts[from_host], *to = &hosts[to_host];
    if (!to->line.plugged) {
        to->unplugged++;
        return;
    }
    if (draw() < from->line.loss || draw() < to->line.loss) {
        from->lost++;
        return;
    }
    struct packet *packet = malloc(sizeof *packet + (size_t)length);
    if (!packet) die("a packet");
    packet->from = from_host, packet->to = to_host, packet->length = length;
    memcpy(packet->frame, frame, (size_t)length);
    if (!(frame[0] & 1)) packet->frame[5] = (unsigned char)to_host; /* who is meant; the sender does not ask (no ARP) */
    const ns_t left = leaves(now, packet, from->line.up, from->line.queue, &from->up_free);
    if (left < 0) {
        from->full++;
        free(packet);
        return;
    }
    const ns_t arrives = arrival(packet, left);
    if (arrives <= now + EARLY_NS) take_last_line(packet, arrives, now);
    else push(arrives, ON_THE_WAY, packet);
}

static int is_for_many(const unsigned char *ip) {
    static const unsigned char prefix[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(ip, prefix, sizeof prefix)) return ip[0] == 0xff;
    return ip[12] >= 224;
}

static struct route *route_to(const unsigned char *ip) {
    for (int i = 0; i < route_count; i++)
        if (!memcmp(routes[i].ip, ip, sizeof routes[i].ip)) return &routes[i];
    return NULL;
}

/* The receiver's address as 16 bytes; -1 for what is no IP packet */
static int receiver(const unsigned char *frame, int length, unsigned char *ip) {
    const int kind = frame[12] << 8 | frame[13];
    if (kind == 0x0800 && length >= ETHERNET + 20) {
        memset(ip, 0, 10);
        memset(ip + 10, 0xff, 2);
        memcpy(ip + 12, frame + ETHERNET + 16, 4);
        return 0;
    }
    if (kind == 0x86dd && length >= ETHERNET + 40) {
        memcpy(ip, frame + ETHERNET + 24, 16);
        return 0;
    }
    return -1;
}

static void carry(int from, const unsigned char *frame, int length, ns_t now) {
    struct host *sender = &hosts[from];
    unsigned char ip[16];
    if (receiver(frame, length, ip)) return;
    sender->sent++;
    sender->sent_bytes += (uint64_t)(length - ETHERNET);
    if (!sender->line.plugged) {
        sender->unplugged++;
        return;
    }
    if (is_for_many(ip)) {
        for (int to = 0; to < host_count; to++)
            if (to != from && hosts[to].line.lan == sender->line.lan) send_on(from, to, frame, length, now);
        return;
    }
    const struct route *route = route_to(ip);
    if (route && route->host >= 0) send_on(from, route->host, frame, length, now);
    else sender->nowhere++;
}

/* ---- Hosts ---- */

static void make_host(struct host *host, int here) {
    if (unshare(CLONE_NEWNET)) die("a network namespace");
    host->namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    host->device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (host->device < 0) die("/dev/net/tun");
    struct ifreq request = {.ifr_name = "eth0", .ifr_flags = IFF_TAP | IFF_NO_PI};
    if (ioctl(host->device, TUNSETIFF, &request)) die("eth0");
    host->line.plugged = 1;
    if (setns(here, CLONE_NEWNET)) die("the way back");
}

static int runs_on_a_host(const char *process) {
    char path[300];
    struct stat theirs, ours;
    snprintf(path, sizeof path, "/proc/%s/ns/net", process);
    if (stat(path, &theirs)) return 0;
    for (int i = 0; i < host_count; i++)
        if (!fstat(hosts[i].namespace, &ours) && ours.st_ino == theirs.st_ino) return 1;
    return 0;
}

/* Kill what runs on the hosts; true if there was anything: it may have started something else meanwhile */
static int kill_all(void) {
    DIR *processes = opendir("/proc");
    int killed = 0;
    if (!processes) return 0;
    for (struct dirent *entry; (entry = readdir(processes));) {
        const int process = atoi(entry->d_name);
        if (process > 0 && runs_on_a_host(entry->d_name) && !kill(process, SIGKILL)) killed = 1;
    }
    closedir(processes);
    return killed;
}

static int enter(char **words) {
    const int namespace = open(words[0], O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET)) die(words[0]);
    /* what /sys says of networks is that of who mounted it; where it cannot be mounted anew, it stays the machine's */
    if (!unshare(CLONE_NEWNS) && !mount("", "/", "none", MS_SLAVE | MS_REC, NULL) && !umount2("/sys", MNT_DETACH))
        mount("sysfs", "/sys", "sysfs", 0, NULL);
    execvp(words[1], words + 1);
    die(words[1]);
    return 1;
}

/* ---- Commands ---- */

static const char *set_line(const char *words) {
    struct line line;
    double delay, jitter, queue;
    int host;
    if (sscanf(words, "%d %lf %lf %lf %lf %lf %lf %d %d", &host, &line.up, &line.down, &delay, &jitter, &line.loss,
               &queue, &line.plugged, &line.lan) != 9 || host < 0 || host >= host_count)
        return "error: not a line";
    line.delay = (ns_t)(delay * NS_PER_S), line.jitter = (ns_t)(jitter * NS_PER_S), line.queue = (ns_t)(queue * NS_PER_S);
    hosts[host].line = line;
    hosts[host].up_free = hosts[host].down_free = 0;
    return "ok";
}

static const char *set_address(const char *words) {
    char text[64];
    unsigned char ip[16] = {[10] = 0xff, [11] = 0xff};
    int host;
    if (sscanf(words, "%63s %d", text, &host) != 2 || host >= host_count) return "error: not an address";
    if (inet_pton(AF_INET, text, ip + 12) != 1 && inet_pton(AF_INET6, text, ip) != 1) return "error: not an address";
    struct route *route = route_to(ip);
    if (!route) {
        if (route_count == MAX_ROUTES) return "error: too many addresses";
        route = &routes[route_count++];
        memcpy(route->ip, ip, sizeof ip);
    }
    route->host = host;
    return "ok";
}

static void say_stats(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    const double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                       (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"cpu_s\": %.3f, \"latest_s\": %.6f, \"hosts\": [", cpu, (double)latest / NS_PER_S);
    for (int i = 0; i < host_count; i++) {
        const struct host *host = &hosts[i];
        const uint64_t counts[] = {host->sent, host->sent_bytes, host->received, host->received_bytes,
                                   host->lost, host->full,       host->unplugged, host->nowhere};
        printf("%s[", i ? ", " : "");
        for (int k = 0; k < 8; k++) printf("%s%llu", k ? ", " : "", (unsigned long long)counts[k]);
        printf("]");
    }
    printf("]}\n");
}

static void obey(char *command) {
    if (!strncmp(command, "line ", 5)) puts(set_line(command + 5));
    else if (!strncmp(command, "address ", 8)) puts(set_address(command + 8));
    else if (!strcmp(command, "stats")) say_stats();
    else puts("error: not a command");
    fflush(stdout);
}

/* Obey the commands that have come; false at the end of standard input */
static int take_commands(void) {
    static char text[MAX_COMMAND];
    static size_t length;
    const ssize_t more = read(0, text + length, sizeof text - length);
    if (more <= 0) return 0;
    length += (size_t)more;
    for (char *end; (end = memchr(text, '\n', length));) {
        *end = 0;
        obey(text);
        length -= (size_t)(end + 1 - text);
        memmove(text, end + 1, length);
    }
    return length < sizeof text;
}

/* ---- The switch ---- */

static void send_due(void) {
    const ns_t now = now_ns();
    while (heap_count && heap[0].at <= now + EARLY_NS) {
        const struct event event = pop();
        if (now - event.at > latest) latest = now - event.at;
        if (event.stage == ON_THE_WAY) take_last_line(event.packet, event.at, now);
        else deliver(event.packet);
    }
}

static void take_packets(int host) {
    static unsigned char frame[MAX_FRAME];
    for (int i = 0; i < MAX_READ; i++) { /* then others have their turn */
        const ssize_t length = read(hosts[host].device, frame, sizeof frame);
        if (length < ETHERNET) return;
        carry(host, frame, (int)length, now_ns());
    }
}

static void serve(int poll) {
    struct epoll_event ready[64];
    for (;;) {
        send_due();
        struct timespec wait, *until = NULL;
        if (heap_count) {
            const ns_t left = heap[0].at - now_ns();
            wait.tv_sec = left > 0 ? left / NS_PER_S : 0, wait.tv_nsec = left > 0 ? left % NS_PER_S : 0;
            until = &wait;
        }
        const int count = epoll_pwait2(poll, ready, 64, until, NULL);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd >= 0) take_packets(ready[i].data.fd);
            else if (!take_commands()) return;
        }
    }
}

static void watch(int poll, int file, int host) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = host};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, file, &event)) die("epoll");
}

int main(int count, char **words) {
    if (count > 3 && !strcmp(words[1], "enter")) return enter(words + 2);
    if (count != 3 || (host_count = atoi(words[1])) < 1 || host_count > MAX_HOSTS) {
        fprintf(stderr, "usage: switch HOSTS SEED (at most %d hosts), or switch enter PATH COMMAND...\n", MAX_HOSTS);
        return 2;
    }
    dice[0] = 0x9E3779B97F4A7C15ull ^ strtoull(words[2], NULL, 10), dice[1] = 0xD1B54A32D192ED03ull;
    signal(SIGPIPE, SIG_IGN);
    const int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), poll = epoll_create1(EPOLL_CLOEXEC);
    watch(poll, 0, -1);
    for (int i = 0; i < host_count; i++) {
        make_host(&hosts[i], here);
        watch(poll, hosts[i].device, i);
        printf("/proc/%d/fd/%d%c", getpid(), hosts[i].namespace, i + 1 < host_count ? ' ' : '\n');
    }
    fflush(stdout);
    /* first in turn, so that packets leave in time although the hosts' programs keep all processors busy */
    const struct sched_param first = {.sched_priority = 10};
    if (sched_setscheduler(0, SCHED_RR, &first)) setpriority(PRIO_PROCESS, 0, -19);
    prctl(PR_SET_TIMERSLACK, 1UL);
    serve(poll);
    while (kill_all()) usleep(10000);
    return 0;
}
