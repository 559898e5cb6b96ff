/* A plain request is a batch of steps through the same layers, in the codecs that stages speak by default, each in order
 * in a session of its own, greedy at the tail. The code between two steps of one stream is cold in every cache, for the
 * weights have just gone through them: what takes Python 250 us there takes 10 here.
 *
 * Whatever is unusual or wrong is left to Python as it came, which knows what to say about it. So nothing is kept of a
 * request before all of it is well. Layouts are those of engine/messages.py.
 */
#include "serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "cpu.h"
#include "kernel.h"
#include "wire.h"

enum { IDS = 0, Q8O4 = 3 }; /* codecs */
enum { REPLY = 3 };         /* the kind of an answer */

#define LENGTH_BYTES 4
#define HEADER_BYTES 12       /* of a request: closed sessions, opened ones, steps */
#define REPLY_BYTES 13        /* kind, steps, seconds */
#define OUTPUT_BYTES 8        /* code, ids, bytes of text, bytes of data */
#define ID_BYTES 4
#define FIRST_ROOM (1 << 16)

struct session {
    struct session *next;
    uint32_t slot;
    int32_t held, room; /* positions written, positions the pages hold */
    uint64_t batch;     /* the last that had a step of it */
    int32_t pages[];
};

/* The head of a step, before the data of all steps. */
struct wire_step {
    uint32_t slot, position, bytes;
    uint8_t codec_in, codec_out, sampled, nothing;
    uint32_t first, last; /* layers; both 0 for all */
    uint32_t temperature, top_k, top_p, nothing_else;
    uint64_t seed;
};

/* Memory that grows. */
struct room {
    void *at;
    size_t bytes;
};

/* Layers of the span, and what stands before and after them in the model. */
struct part {
    int first, last;
    const uint16_t *embedding; /* where it begins the model */
    int tail;                  /* whether it ends it */
};

struct door {
    struct span *span;
    int socket;
    int first;             /* the model's number of the span's first layer */
    struct part all;       /* that is here */
    struct part asked_for; /* by the request that is looked at */
    uint64_t batches;
    struct room in, out, rows, asked, logits, steps, positions, tables, failed;
    size_t came, taken; /* bytes in `in`, and of them those of the last request */
};

/* A step that was looked at. */
struct work {
    struct session *session;
    const uint8_t *data;
    int first, count; /* rows */
    int position, sampled;
};

static int make_room(struct room *room, size_t bytes) {
    if (bytes <= room->bytes) return 1;
    const size_t more = bytes > 2 * room->bytes ? bytes : 2 * room->bytes;
    void *at = realloc(room->at, more);
    if (!at) return 0;
    *room = (struct room){at, more};
    return 1;
}

struct door *door_open(struct span *span, int socket, int first, const uint16_t *embedding, int tail) {
    struct door *door = calloc(1, sizeof *door);
    if (!door) return NULL;
    *door = (struct door){
        .span = span, .socket = socket, .first = first, .all = {0, span->is.layers, embedding, tail}};
    if (make_room(&door->in, FIRST_ROOM)) return door;
    door_close(door);
    return NULL;
}

void door_close(struct door *door) {
    if (!door) return;
    struct room *all[] = {&door->in,    &door->out,       &door->rows,   &door->asked, &door->logits,
                          &door->steps, &door->positions, &door->tables, &door->failed};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->at);
    free(door);
}

struct session *session_open(struct span *span, uint32_t slot, const int32_t *pages, int count) {
    struct session *session = malloc(sizeof *session + sizeof *pages * (size_t)count);
    if (!session) return NULL;
    *session = (struct session){span->sessions, slot, 0, count * PAGE, 0};
    memcpy(session->pages, pages, sizeof *pages * (size_t)count);
    return span->sessions = session;
}

void session_close(struct span *span, struct session *session) {
    struct session **at = &span->sessions;
    while (*at != session) at = &(*at)->next;
    *at = session->next;
    free(session);
}

void sessions_close(struct span *span) {
    while (span->sessions) session_close(span, span->sessions);
}

int32_t *session_held(struct session *session) { return &session->held; }
const int32_t *session_pages(const struct session *session) { return session->pages; }

static struct session *find(const struct span *span, uint32_t slot) {
    struct session *session = span->sessions;
    while (session && session->slot != slot) session = session->next;
    return session;
}

/* The layers that a step goes through, if they are all here. */
static int part_of(const struct door *door, const struct wire_step *step, struct part *part) {
    const struct part *all = &door->all;
    const int named = step->first || step->last;
    const int64_t first = named ? (int64_t)step->first - door->first : all->first;
    const int64_t last = named ? (int64_t)step->last - door->first : all->last;
    if (first < all->first || first >= last || last > all->last) return 0;
    const int begins = first == all->first, ends = last == all->last;
    *part = (struct part){(int)first, (int)last, begins ? all->embedding : NULL, ends && all->tail};
    return 1;
}

/* What a step asks for, if it is plain. */
static int look(struct door *door, const struct wire_step *step, const uint8_t *data, struct work *work) {
    const struct sizes *is = &door->span->is;
    const struct part *part = &door->asked_for;
    struct session *session = find(door->span, step->slot);
    const size_t row = part->embedding ? ID_BYTES : wire_bytes(is->hidden);
    const uint64_t last = step->position + (uint64_t)(step->bytes / row);
    if (!session || session->batch == door->batches) return 0;
    if (step->codec_in != (part->embedding ? IDS : Q8O4) || step->codec_out != (part->tail ? IDS : Q8O4)) return 0;
    if (step->sampled && (!part->tail || step->temperature)) return 0;
    if (!step->bytes || step->bytes % row || (int64_t)step->position > session->held) return 0;
    if (last > (uint64_t)session->room || last > (uint64_t)is->positions) return 0;
    session->batch = door->batches;
    *work = (struct work){session, data, 0, (int)(step->bytes / row), (int)step->position, step->sampled};
    return 1;
}

/* How many steps a plain request has, looked at one by one; 0 if it is not plain, -1 if there is no memory. */
static int look_at_all(struct door *door, const uint8_t *body, size_t bytes) {
    uint32_t counts[3];
    if (bytes < HEADER_BYTES) return 0;
    memcpy(counts, body, sizeof counts);
    const size_t steps = counts[2];
    if (counts[0] || counts[1] || !steps || steps > (bytes - HEADER_BYTES) / sizeof(struct wire_step)) return 0;
    if (!make_room(&door->steps, steps * sizeof(struct work))) return -1;
    struct work *works = door->steps.at;
    const uint8_t *heads = body + HEADER_BYTES, *data = heads + steps * sizeof(struct wire_step);
    size_t left = bytes - (size_t)(data - body);
    int rows = 0;
    door->batches++;
    for (size_t i = 0; i < steps; i++) {
        struct wire_step step;
        struct part part;
        memcpy(&step, heads + i * sizeof step, sizeof step);
        if (step.bytes > left || !part_of(door, &step, &part)) return 0;
        if (!i) door->asked_for = part;
        if (part.first != door->asked_for.first || part.last != door->asked_for.last) return 0;
        if (!look(door, &step, data, &works[i])) return 0;
        works[i].first = rows;
        rows += works[i].count;
        data += step.bytes;
        left -= step.bytes;
    }
    return left ? 0 : (int)steps;
}

/* Ids' rows of the embedding; 0 for an id that the model does not have. */
static int embed(const struct door *door, const uint8_t *ids, int count, float *rows) {
    const uint16_t *embedding = door->asked_for.embedding;
    const size_t width = (size_t)door->span->is.hidden;
    for (int i = 0; i < count; i++, ids += ID_BYTES) {
        const uint32_t id = (uint32_t)ids[0] << 24 | (uint32_t)ids[1] << 16 | (uint32_t)ids[2] << 8 | ids[3];
        if (id >= (uint32_t)door->span->is.vocabulary) return 0;
        const uint16_t *from = embedding + id * width;
        for (size_t k = 0; k < width; k++) {
            const uint32_t bits = (uint32_t)from[k] << 16;
            memcpy(&rows[i * width + k], &bits, sizeof bits);
        }
    }
    return 1;
}

/* Rows of all steps through the layers, in `rows`; 0 where Python has to see to it, -1 if there is no memory. */
static int compute(struct door *door, int steps) {
    const struct part *part = &door->asked_for;
    const struct work *works = door->steps.at, *last = &works[steps - 1];
    const int rows = last->first + last->count;
    const size_t width = (size_t)door->span->is.hidden;
    if (!make_room(&door->rows, sizeof(float) * width * (size_t)rows) ||
        !make_room(&door->positions, sizeof(int32_t) * (size_t)rows) ||
        !make_room(&door->tables, sizeof(int32_t *) * (size_t)rows) || !make_room(&door->failed, (size_t)rows))
        return -1;
    float *hidden = door->rows.at;
    int32_t *positions = door->positions.at;
    const int32_t **tables = door->tables.at;
    memset(door->failed.at, 0, (size_t)rows);
    for (const struct work *work = works; work <= last; work++) {
        float *to = hidden + width * (size_t)work->first;
        if (!(part->embedding ? embed(door, work->data, work->count, to)
                              : set_decode(door->span->set, work->data, work->count, (int)width, to)))
            return 0;
        for (int i = 0; i < work->count; i++) {
            positions[work->first + i] = work->position + i;
            tables[work->first + i] = work->session->pages;
        }
    }
    if (!span_step(door->span, part->first, part->last, hidden, rows, positions, tables, door->failed.at)) return -1;
    return !memchr(door->failed.at, 1, (size_t)rows);
}

/* Ids after the steps that want one, in `asked`; otherwise as `compute`. */
static int choose(struct door *door, int steps) {
    const struct work *works = door->steps.at;
    const size_t width = (size_t)door->span->is.hidden, stride = (size_t)span_logit_stride(door->span);
    const float *hidden = door->rows.at;
    if (!make_room(&door->asked, sizeof(float) * width * (size_t)steps)) return -1;
    float *last_rows = door->asked.at;
    int asked = 0;
    for (int i = 0; i < steps; i++)
        if (works[i].sampled)
            memcpy(last_rows + width * (size_t)asked++, hidden + width * (size_t)(works[i].first + works[i].count - 1),
                   sizeof(float) * width);
    if (!asked) return 1;
    if (!make_room(&door->logits, sizeof(float) * stride * (size_t)asked)) return -1;
    float *logits = door->logits.at;
    if (!span_logits(door->span, last_rows, asked, logits, door->failed.at)) return -1;
    for (int i = 0; i < asked; i++) {
        const int id = span_best(door->span, logits + stride * (size_t)i);
        if (id < 0) return 0;
        memcpy((int32_t *)door->asked.at + i, &id, sizeof id);
    }
    return !memchr(door->failed.at, 1, (size_t)asked);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint8_t *put(uint8_t *to, const void *from, size_t bytes) { return (uint8_t *)memcpy(to, from, bytes) + bytes; }

/* The answer to a request that was computed, in `out`: its bytes, 0 if there is no memory. */
static size_t write_reply(struct door *door, int steps, double began) {
    const struct work *works = door->steps.at, *last = &works[steps - 1];
    const int tail = door->asked_for.tail;
    const size_t row = tail ? 0 : wire_bytes(door->span->is.hidden), rows = (size_t)(last->first + last->count);
    const size_t most = LENGTH_BYTES + REPLY_BYTES + (OUTPUT_BYTES + ID_BYTES) * (size_t)steps + row * rows;
    if (!make_room(&door->out, most)) return 0;
    uint8_t *start = door->out.at, *to = start + LENGTH_BYTES + REPLY_BYTES;
    for (int i = 0; i < steps; i++) {
        const uint32_t bytes = (uint32_t)(row * (size_t)works[i].count);
        const uint8_t head[OUTPUT_BYTES - sizeof bytes] = {0, (uint8_t)works[i].sampled};
        to = put(put(to, head, sizeof head), &bytes, sizeof bytes);
    }
    if (tail) {
        for (int i = 0, asked = 0; i < steps; i++)
            if (works[i].sampled) to = put(to, (int32_t *)door->asked.at + asked++, ID_BYTES);
    } else {
        set_encode(door->span->set, door->rows.at, (int)rows, door->span->is.hidden, to);
        to += row * rows;
    }
    const uint8_t kind = REPLY;
    const uint32_t size = (uint32_t)(to - start) - LENGTH_BYTES, count = (uint32_t)steps;
    const double seconds = now() - began;
    put(put(put(put(start, &size, sizeof size), &kind, sizeof kind), &count, sizeof count), &seconds, sizeof seconds);
    return (size_t)(to - start);
}

/* Compute a request and write its answer: the answer's bytes; 0 where Python has to see to it, -1 without memory. */
static int64_t answer(struct door *door, const uint8_t *body, size_t bytes) {
    const double began = now();
    const int steps = look_at_all(door, body, bytes);
    if (steps <= 0) return steps;
    int well = compute(door, steps);
    if (well > 0 && door->asked_for.tail) well = choose(door, steps);
    if (well <= 0) return well;
    const size_t size = write_reply(door, steps, began);
    if (!size) return -1;
    const struct work *works = door->steps.at;
    for (int i = 0; i < steps; i++) works[i].session->held = works[i].position + works[i].count;
    return (int64_t)size;
}

static int send_all(int socket, const uint8_t *data, size_t bytes) {
    while (bytes) {
        const ssize_t sent = send(socket, data, bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) return 0;
        if (sent > 0) {
            data += sent;
            bytes -= (size_t)sent;
        }
    }
    return 1;
}

/* Wait for bytes until there are so many: 1, or 0 when the parent is gone, -1 if there is no memory. */
static int fill(struct door *door, size_t wanted) {
    if (!make_room(&door->in, wanted)) return -1;
    while (door->came < wanted) {
        uint8_t *in = door->in.at;
        const ssize_t got = recv(door->socket, in + door->came, door->in.bytes - door->came, 0);
        if (got == 0 || (got < 0 && errno != EINTR)) return 0;
        if (got > 0) door->came += (size_t)got;
    }
    return 1;
}

/* The next request in `in`: as `fill`. */
static int receive(struct door *door, size_t *bytes) {
    uint32_t size;
    uint8_t *in = door->in.at;
    memmove(in, in + door->taken, door->came -= door->taken);
    door->taken = *bytes = 0;
    int well = fill(door, LENGTH_BYTES);
    if (well <= 0) return well;
    memcpy(&size, door->in.at, sizeof size);
    well = fill(door, LENGTH_BYTES + (size_t)size);
    door->taken = LENGTH_BYTES + (size_t)size;
    *bytes = size;
    return well;
}

int64_t door_next(struct door *door, const uint8_t **body) {
    for (size_t bytes;;) {
        int64_t well = receive(door, &bytes);
        if (well <= 0) return well;
        *body = (const uint8_t *)door->in.at + LENGTH_BYTES;
        well = answer(door, *body, bytes);
        if (well < 0) return well;
        if (well == 0) return (int64_t)bytes;
        if (!send_all(door->socket, door->out.at, (size_t)well)) return 0;
    }
}
