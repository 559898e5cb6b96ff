/* Random spans and random steps on every instruction set, thread count and batch; all must give the same bits.
 *
 * usage: exercise SEED COUNT   prints a line with a checksum of each span's outputs, and how it was computed
 *
 * Built by the tests with sanitizers, with emulated tiles, and for other processors.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cpu.h"
#include "kernel.h"
#include "serve.h"
#include "wire.h"

#define MOST_ROWS 48
#define SESSIONS 5
#define PAGES_EACH 4
#define HELD (PAGES_EACH * PAGE)
#define STEP_BYTES 48
#define MOST_REQUEST (16 + SESSIONS * (STEP_BYTES + 512))
#define FIRST_LAYER 10 /* the number that a model gives the first of the span */

static uint64_t state;

static uint32_t draw(uint32_t below) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32) % below;
}

static float draw_float(void) { return (float)draw(1u << 20) / (1 << 19) - 1.0f; }

static void *room(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (!memory) abort();
    return memory;
}

static uint64_t mixed(uint64_t sum, const void *data, size_t bytes) { /* FNV-1a */
    for (size_t i = 0; i < bytes; i++) sum = (sum ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return sum;
}

static struct sizes draw_sizes(void) {
    const int kv_heads = 1 + (int)draw(3), head_size = 16 * (1 + (int)draw(6));
    const int shared = head_size % 32 ? 2 + 2 * (int)draw(3) : 1 + (int)draw(7); /* heads x head size: whole groups */
    return (struct sizes){1 + (int)draw(3), 32 * (1 + (int)draw(6)), 32 * (1 + (int)draw(8)), kv_heads * shared, kv_heads,
                          head_size, 1 + (int)draw(300), draw(2) ? 0 : 1 + (int)draw(40), SESSIONS * PAGES_EACH, HELD,
                          1, 1 + (int)draw(2), 1e-5f};
}

static uint16_t *draw_matrix(int outputs, int inputs, float scale) {
    uint16_t *bits = room(sizeof *bits * (size_t)outputs * (size_t)inputs);
    for (int i = 0; i < outputs * inputs; i++) {
        const float x = draw(50) ? scale * draw_float() : 0.0f;
        uint32_t wide;
        memcpy(&wide, &x, sizeof wide);
        bits[i] = (uint16_t)(wide >> 16);
    }
    return bits;
}

static float *draw_vector(int count) {
    float *values = room(sizeof *values * (size_t)count);
    for (int i = 0; i < count; i++) values[i] = 1.0f + 0.2f * draw_float();
    return values;
}

static void must(int good, const char *what) {
    if (!good) {
        fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

static void set_matrix(struct span *span, int layer, int which, int outputs, int inputs) {
    /* of keys and values at times so little that their scales are subnormal, or zero */
    static const float scales[] = {0.3f, 0.3f, 1e-5f, 1e-6f};
    uint16_t *rows = draw_matrix(outputs, inputs, which == QKV ? scales[draw(4)] : 0.3f);
    must(span_matrix(span, layer, which, 0, outputs, rows), "a matrix was refused");
    free(rows);
}

static void set_vector(struct span *span, int layer, int which, int count) {
    float *values = draw_vector(count);
    must(span_vector(span, layer, which, 0, count, values), "a vector was refused");
    free(values);
}

static void fill(struct span *span, const struct sizes *is, int biased, int normed) {
    const int queries = is->heads * is->head_size, joined = queries + 2 * is->kv_heads * is->head_size;
    for (int layer = 0; layer < is->layers; layer++) {
        set_matrix(span, layer, QKV, joined, is->hidden);
        set_matrix(span, layer, OUTPUT, is->hidden, queries);
        set_matrix(span, layer, GATE, is->feed_forward, is->hidden);
        set_matrix(span, layer, UP, is->feed_forward, is->hidden);
        set_matrix(span, layer, DOWN, is->hidden, is->feed_forward);
        set_vector(span, layer, ATTENTION_NORM, is->hidden);
        set_vector(span, layer, MLP_NORM, is->hidden);
        if (biased) set_vector(span, layer, QKV_BIAS, joined), set_vector(span, layer, OUTPUT_BIAS, is->hidden);
        if (normed) set_vector(span, layer, QUERY_NORM, is->head_size), set_vector(span, layer, KEY_NORM, is->head_size);
    }
    set_matrix(span, 0, HEAD, is->vocabulary, is->hidden);
    set_vector(span, 0, FINAL_NORM, is->hidden);
}

/* Sessions advance by chunks or single positions, several in a step; `alone` gives each row a step of its own. */
static uint64_t run(struct span *span, const struct sizes *is, uint64_t seed, int alone) {
    int32_t tables[SESSIONS][PAGES_EACH], positions[MOST_ROWS];
    const int32_t *of[MOST_ROWS];
    int held[SESSIONS] = {0};
    uint8_t failed[MOST_ROWS] = {0};
    const size_t width = (size_t)is->hidden, stride = (size_t)span_logit_stride(span);
    float *hidden = room(sizeof *hidden * MOST_ROWS * width), *logits = room(sizeof *logits * MOST_ROWS * stride);
    uint8_t *wire = room(MOST_ROWS * wire_bytes(is->hidden));
    uint64_t sum = 0xcbf29ce484222325u;
    state = seed;
    for (int i = 0; i < SESSIONS * PAGES_EACH; i++) tables[i / PAGES_EACH][i % PAGES_EACH] = (i * 7) % (SESSIONS * PAGES_EACH);
    for (int step = 0; step < 6; step++) {
        int rows = 0;
        for (int session = 0; session < SESSIONS; session++) {
            const int wanted = draw(3) ? 1 : 1 + (int)draw(20);
            for (int i = 0; i < wanted && rows < MOST_ROWS && held[session] < HELD; i++, rows++) {
                positions[rows] = held[session]++;
                of[rows] = tables[session];
            }
        }
        for (size_t i = 0; i < (size_t)rows * width; i++) hidden[i] = 2.0f * draw_float();
        for (int row = 0; row < rows; row += alone ? 1 : rows)
            must(span_step(span, 0, is->layers, hidden + (size_t)row * width, alone ? 1 : rows, positions + row, of + row,
                           failed + row),
                 "a step found no memory");
        for (int row = 0; row < rows; row++) must(!failed[row], "a row failed");
        sum = mixed(sum, hidden, sizeof *hidden * (size_t)rows * width);
        set_encode(span->set, hidden, rows, is->hidden, wire);
        sum = mixed(sum, wire, (size_t)rows * wire_bytes(is->hidden));
        must(span_logits(span, hidden, rows, logits, failed), "logits found no memory");
        for (int row = 0; row < rows; row++)
            sum = mixed(sum, logits + (size_t)row * stride, sizeof *logits * (size_t)is->vocabulary);
        must(set_decode(span->set, wire, rows, is->hidden, hidden), "the codec refused its own bytes");
        sum = mixed(sum, hidden, sizeof *hidden * (size_t)rows * width);
    }
    free(hidden);
    free(logits);
    free(wire);
    return sum;
}

/* A request of single rows as engine/messages.py lays it out, with or without numbers of layers, at times a part of them:
 * its size. After the first, positions may leave gaps, and a few bytes are others at times. */
static size_t draw_request(const struct span *span, int number, int ids, int tail, uint8_t *to) {
    const int width = span->is.hidden;
    const uint32_t layers = (uint32_t)span->is.layers, named = draw(3);
    const uint32_t begin = named == 2 ? draw(layers) : 0, end = named == 2 ? begin + 1 + draw(layers - begin) : layers;
    ids &= !begin;
    tail &= end == layers;
    const uint32_t steps = 1 + draw(SESSIONS), counts[] = {0, 0, steps};
    const uint32_t kind = (ids ? 0 : 3) | (tail ? 0x10000 : 0x300); /* codecs in and out; whether to sample */
    const size_t row = ids ? 4 : wire_bytes(width);
    const uint32_t size = (uint32_t)(sizeof counts + steps * (STEP_BYTES + row));
    uint8_t *head = to + sizeof size + sizeof counts, *data = head + steps * STEP_BYTES;
    float *values = room(sizeof *values * (size_t)width);
    memcpy(to, &size, sizeof size);
    memcpy(to + sizeof size, counts, sizeof counts);
    for (uint32_t i = 0; i < steps; i++, head += STEP_BYTES, data += row) {
        const uint32_t fields[STEP_BYTES / 4] = {i, draw(number ? 4 : 1), (uint32_t)row, kind,
                                                 named ? FIRST_LAYER + begin : 0, named ? FIRST_LAYER + end : 0};
        memcpy(head, fields, sizeof fields);
        for (int k = 0; k < width; k++) values[k] = 2.0f * draw_float();
        if (ids)
            memcpy(data, (uint8_t[4]){0, 0, 0, (uint8_t)draw(span->is.vocabulary < 256 ? (uint32_t)span->is.vocabulary : 256)}, row);
        else
            set_encode(span->set, values, 1, width, data);
    }
    for (uint32_t changes = number ? draw(2) * draw(4) : 0; changes; changes--) to[sizeof size + draw(size)] = (uint8_t)draw(256);
    free(values);
    return sizeof size + size;
}

/* What lies in a socket, the seconds of each answer left out. */
static uint64_t mix_answers(int socket, uint64_t sum) {
    uint8_t head[17];
    while (recv(socket, head, sizeof head, MSG_DONTWAIT) == (ssize_t)sizeof head) {
        uint32_t size;
        memcpy(&size, head, sizeof size);
        uint8_t *rest = room(size);
        const size_t left = sizeof size + size - sizeof head;
        must(recv(socket, rest, left, MSG_WAITALL) == (ssize_t)left, "an answer ended early");
        sum = mixed(mixed(sum, head, 9), rest, left);
        free(rest);
    }
    return sum;
}

/* Requests through a socket, some of them nonsense: what is answered and what is left. */
static uint64_t serve(struct span *span, uint64_t seed) {
    const int ids = seed % 2, tail = seed / 2 % 2;
    uint16_t *embedding = ids ? draw_matrix(span->is.vocabulary, span->is.hidden, 0.3f) : NULL;
    uint8_t *request = room(MOST_REQUEST);
    const uint8_t *body;
    uint64_t sum = 0xcbf29ce484222325u;
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "there are no sockets");
    for (int i = 0; i < SESSIONS; i++) {
        const int32_t first = PAGES_EACH * i, pages[PAGES_EACH] = {first, first + 1, first + 2, first + 3};
        must(session_open(span, (uint32_t)i, pages, PAGES_EACH) != NULL, "a session found no memory");
    }
    struct door *door = door_open(span, ends[1], FIRST_LAYER, embedding, tail);
    must(door != NULL, "a door found no memory");
    for (int i = 0; i < 24; i++) {
        const size_t size = draw_request(span, i, ids, tail, request);
        must(write(ends[0], request, size) == (ssize_t)size, "a request was not taken");
    }
    shutdown(ends[0], SHUT_WR);
    for (int64_t left; (left = door_next(door, &body));) {
        must(left > 0, "a request found no memory");
        sum = mixed(sum, body, (size_t)left);
    }
    const uint64_t left_sum = sum;
    sum = mix_answers(ends[0], sum);
    must(sum != left_sum, "no request was answered");
    door_close(door);
    sessions_close(span);
    close(ends[0]);
    close(ends[1]);
    free(embedding);
    free(request);
    return sum;
}

static uint64_t one(const char *set, struct sizes is, uint64_t seed, int threads, int alone) {
    const int biased = seed % 2, normed = seed / 2 % 2, half = is.head_size / 2;
    float *angles = room(sizeof *angles * HELD * (size_t)is.head_size);
    state = seed;
    for (int i = 0; i < HELD * half; i++) {
        angles[i] = draw_float();
        angles[HELD * half + i] = draw_float();
    }
    is.threads = threads;
    struct span *span = span_open(&is, set, angles, angles + HELD * half, biased, biased, 1);
    must(span != NULL, "a span found no memory");
    fill(span, &is, biased, normed);
    uint64_t sum = run(span, &is, seed ^ 0x5eed, alone);
    sum = mixed(sum, &(uint64_t){serve(span, seed)}, sizeof sum);
    span_close(span);
    free(angles);
    return sum;
}

int main(int argc, char **argv) {
    must(argc == 3, "usage: exercise SEED COUNT");
    const uint64_t first = strtoull(argv[1], NULL, 10), count = strtoull(argv[2], NULL, 10);
    for (uint64_t seed = first; seed < first + count; seed++) {
        state = seed * 1000003;
        const struct sizes is = draw_sizes();
        const uint64_t expected = one("portable", is, seed, 1, 0);
        printf("%016llx", (unsigned long long)expected);
        for (int n = 0; set_name(n); n++) {
            must(one(set_name(n), is, seed, 1 + (int)(seed % 3), 0) == expected, set_name(n));
            must(one(set_name(n), is, seed, 1, 1) == expected, set_name(n));
            printf(" %s", set_name(n));
        }
        printf("\n");
    }
    return 0;
}
