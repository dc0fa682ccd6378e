#include "spikeloom_imc_driver.h"

#include <stddef.h>
#include <string.h>

#include "spikeloom_imc_program.h"

static const char *const ERRORS[] = SPIKELOOM_IMC_ERROR_TEXTS;

enum { HEAD = 4, ONCE = 1, READOUT = 2, ANSWER_FAILED = 1 };

/* One layer of a program: registers, two packets of parameters, and the words behind it. */
typedef struct {
    const uint32_t *registers, *bias, *second, *next;
    uint32_t flags, count, bias_words, second_words;
} record;

static void write_register(const spikeloom_imc_device *device, uint32_t offset, uint32_t value) {
    device->write_register(device->context, offset, value);
}

static uint32_t read_register(const spikeloom_imc_device *device, uint32_t offset) {
    return device->read_register(device->context, offset);
}

static int send(const spikeloom_imc_device *device, const uint32_t *words, uint32_t count) {
    return device->send(device->context, words, count) ? SPIKELOOM_IMC_NOT_SENT : SPIKELOOM_IMC_OK;
}

static uint32_t receive(const spikeloom_imc_device *device, uint32_t *words, uint32_t most) {
    return device->receive(device->context, words, most);
}

/* Leave out what an earlier run that failed has left. */
static void drain(const spikeloom_imc_device *device) {
    uint32_t word;
    while (receive(device, &word, 1)) continue;
}

static void rest(const spikeloom_imc_device *device) {
    if (device->wait) device->wait(device->context);
}

static void start(const spikeloom_imc_device *device, uint32_t command) {
    write_register(device, SPIKELOOM_IMC_STATUS, SPIKELOOM_IMC_STATUS_DONE_MASK | SPIKELOOM_IMC_STATUS_ERROR_MASK);
    write_register(device, SPIKELOOM_IMC_CONTROL, command | (device->wait ? SPIKELOOM_IMC_CONTROL_IRQ_ENABLE_MASK : 0));
}

/* Return 0 when a record would go beyond the end of the program. */
static int read_record(const uint32_t *at, const uint32_t *end, record *found) {
    const ptrdiff_t room = end - at;
    uint64_t words;
    if (room < HEAD) return 0;
    words = HEAD + 2 * (uint64_t)at[1] + at[2] + at[3];
    if (words > (uint64_t)room) return 0;
    found->flags = at[0];
    found->count = at[1];
    found->bias_words = at[2];
    found->second_words = at[3];
    found->registers = at + HEAD;
    found->bias = found->registers + 2 * (size_t)found->count;
    found->second = found->bias + found->bias_words;
    found->next = at + words;
    return 1;
}

static void write_registers(const spikeloom_imc_device *device, const record *layer) {
    for (uint32_t index = 0; index < layer->count; ++index)
        write_register(device, layer->registers[2 * index], layer->registers[2 * index + 1]);
}

/* Return 0 while the core runs, else 1 and how it ended in `result`. */
static int ended(const spikeloom_imc_device *device, int *result) {
    const uint32_t status = read_register(device, SPIKELOOM_IMC_STATUS);
    if (status & SPIKELOOM_IMC_STATUS_ERROR_MASK)
        *result = (int)(read_register(device, SPIKELOOM_IMC_ERROR) & SPIKELOOM_IMC_ERROR_CODE_MASK);
    else if (status & SPIKELOOM_IMC_STATUS_DONE_MASK)
        *result = SPIKELOOM_IMC_OK;
    else
        return 0;
    write_register(device, SPIKELOOM_IMC_STATUS, SPIKELOOM_IMC_STATUS_DONE_MASK | SPIKELOOM_IMC_STATUS_ERROR_MASK);
    return 1;
}

int spikeloom_imc_check(const spikeloom_imc_device *device, const spikeloom_imc_network *network) {
    if (read_register(device, SPIKELOOM_IMC_MAGIC) != SPIKELOOM_IMC_MAGIC_RESET) return SPIKELOOM_IMC_NO_DEVICE;
    if (read_register(device, SPIKELOOM_IMC_CONFIG_HASH) != network->config_hash) return SPIKELOOM_IMC_OTHER_BUILD;
    return SPIKELOOM_IMC_OK;
}

/* Take the answer to a job. */
static int take_answer(const spikeloom_imc_device *device, const spikeloom_imc_network *network, uint32_t *words,
                       uint32_t polls, spikeloom_imc_written *written) {
    uint32_t count = 0;
    int result = SPIKELOOM_IMC_OK;
    while (polls-- > 0 && !(count = receive(device, words, network->answer_words))) rest(device);
    if (!count) return SPIKELOOM_IMC_TIMEOUT;
    if (count != network->answer_words) return SPIKELOOM_IMC_BAD_ANSWER;
    ++written->jobs;
    written->failed += words[0] == ANSWER_FAILED;
    written->sets += words[count - 6];
    written->resets += words[count - 5];
    written->comparisons += words[count - 4];
    if (words[0] && !ended(device, &result)) return SPIKELOOM_IMC_BAD_ANSWER;
    return words[0] == ANSWER_FAILED ? SPIKELOOM_IMC_OK : result;
}

int spikeloom_imc_write_cells(const spikeloom_imc_device *device, const spikeloom_imc_network *network,
                              const spikeloom_imc_setting *settings, uint32_t count, const uint32_t *jobs, uint32_t *words,
                              uint32_t polls, spikeloom_imc_written *written) {
    int result = spikeloom_imc_check(device, network);
    memset(written, 0, sizeof *written);
    if (result != SPIKELOOM_IMC_OK) return result;
    drain(device);
    start(device, 0);
    for (uint32_t index = 0; index < count; ++index) write_register(device, settings[index].offset, settings[index].value);
    for (uint32_t job = 0; job < network->jobs && result == SPIKELOOM_IMC_OK; ++job) {
        result = send(device, jobs + (size_t)job * network->job_words, network->job_words);
        if (result == SPIKELOOM_IMC_OK) result = take_answer(device, network, words, polls, written);
    }
    return result == SPIKELOOM_IMC_OK && written->failed ? SPIKELOOM_IMC_ERROR_CELLS : result;
}

int spikeloom_imc_calibrate(const spikeloom_imc_device *device, const spikeloom_imc_network *network,
                            const uint32_t *program, const spikeloom_imc_calibration *calibration, uint32_t polls) {
    record layer;
    int result = spikeloom_imc_check(device, network);
    if (result != SPIKELOOM_IMC_OK) return result;
    if (!read_record(program, program + network->program_words, &layer)) return SPIKELOOM_IMC_BAD_PROGRAM;
    write_registers(device, &layer);
    write_register(device, SPIKELOOM_IMC_MACHINE_TRIMS, calibration->trims);
    write_register(device, SPIKELOOM_IMC_MACHINE_GAINS, 0);
    write_register(device, SPIKELOOM_IMC_MACHINE_LOG2, calibration->log2);
    write_register(device, SPIKELOOM_IMC_MACHINE_PEDESTAL, calibration->pedestal);
    write_register(device, SPIKELOOM_IMC_MACHINE_LIMIT, calibration->limit);
    start(device, SPIKELOOM_IMC_CONTROL_CALIBRATE_MASK);
    for (; polls > 0; --polls, rest(device))
        if (ended(device, &result)) return result;
    return SPIKELOOM_IMC_TIMEOUT;
}

void spikeloom_imc_encode(const spikeloom_imc_input *input, const spikeloom_imc_plane *planes, const int32_t *values,
                          uint32_t *block) {
    const uint32_t pixels = input->height * input->width, parts = (input->rows + 31) / 32;
    const uint32_t groups = (input->channels + input->rows - 1) / input->rows;
    memset(block, 0, sizeof *block * (1 + (size_t)input->planes * pixels * groups * parts));
    for (uint32_t plane = 0; plane < input->planes; ++plane)
        for (uint32_t channel = 0; channel < input->channels; ++channel)
            for (uint32_t pixel = 0; pixel < pixels; ++pixel) {
                const uint32_t value =
                    (uint32_t)values[(planes[plane].frame * input->channels + channel) * pixels + pixel];
                const uint32_t line = (plane * pixels + pixel) * groups + channel / input->rows;
                const uint32_t row = channel % input->rows;
                block[1 + line * parts + row / 32] |= (value >> planes[plane].bit & 1u) << row % 32;
            }
}

/* Start a layer and wait for its end; take the sums of a read-out meanwhile. */
static int run_layer(const spikeloom_imc_device *device, const spikeloom_imc_network *network, int readout, uint32_t polls,
                     int32_t *logits) {
    const uint32_t pixels = network->height * network->width, sums = readout ? network->channels * pixels : 0;
    uint32_t taken = 0, over = 0, packet[2];
    int result = SPIKELOOM_IMC_OK;
    start(device, SPIKELOOM_IMC_CONTROL_START_MASK);
    for (uint32_t poll = 0; poll < polls; ++poll) {
        if (taken < sums) {
            const uint32_t count = receive(device, packet, 2);
            if (count) {
                if (count != 2 || packet[0] >= network->channels) return SPIKELOOM_IMC_BAD_ANSWER;
                logits[packet[0] * pixels + taken++ / network->channels] = (int32_t)packet[1];
                poll = 0;
                continue;
            }
        }
        if (!over) over = (uint32_t)ended(device, &result);
        if (over && (taken == sums || result != SPIKELOOM_IMC_OK)) return result;
        rest(device);
    }
    return SPIKELOOM_IMC_TIMEOUT;
}

/* Run one layer at its step, or all steps of it. */
static int run_record(const spikeloom_imc_device *device, const spikeloom_imc_network *network, const record *layer,
                      uint32_t step, uint32_t polls, int32_t *logits) {
    int result;
    write_registers(device, layer);
    if (step) {
        write_register(device, SPIKELOOM_IMC_LAYER_FIRST_STEP, step);
        write_register(device, SPIKELOOM_IMC_LAYER_FRESH, 0);
    }
    result = send(device, layer->bias, layer->bias_words);
    if (result == SPIKELOOM_IMC_OK) result = send(device, layer->second, layer->second_words);
    if (result != SPIKELOOM_IMC_OK) return result;
    return run_layer(device, network, (layer->flags & READOUT) != 0, polls, logits);
}

int spikeloom_imc_run(const spikeloom_imc_device *device, const spikeloom_imc_network *network, const uint32_t *program,
                      const uint32_t *block, uint32_t polls, int32_t *logits, uint32_t *steps) {
    const uint32_t *const end = program + network->program_words;
    const uint32_t rounds = network->exits ? network->steps : 1;
    uint32_t step = 0, stop = 0;
    int result = spikeloom_imc_check(device, network);
    drain(device);
    if (result == SPIKELOOM_IMC_OK) result = send(device, block, network->input_words);
    while (result == SPIKELOOM_IMC_OK && step < rounds && !stop) {
        const uint32_t *at = program;
        record layer;
        for (uint32_t index = 0; index < network->layers && result == SPIKELOOM_IMC_OK; ++index, at = layer.next) {
            if (!read_record(at, end, &layer)) return SPIKELOOM_IMC_BAD_PROGRAM;
            if (step && layer.flags & ONCE) continue;
            result = run_record(device, network, &layer, step, polls, logits);
        }
        ++step;
        if (network->exits)
            stop = read_register(device, SPIKELOOM_IMC_EXIT_VERDICT) & SPIKELOOM_IMC_EXIT_VERDICT_STOP_MASK;
    }
    if (steps) *steps = network->exits ? step : network->steps;
    return result;
}

uint32_t spikeloom_imc_class(const int32_t *logits, uint32_t count) {
    uint32_t best = 0;
    for (uint32_t index = 1; index < count; ++index)
        if (logits[index] > logits[best]) best = index;
    return best;
}

uint32_t spikeloom_imc_counter(const spikeloom_imc_device *device, uint32_t offset) { return read_register(device, offset); }

const char *spikeloom_imc_text(int result) {
    switch (result) {
        case SPIKELOOM_IMC_NO_DEVICE: return "no core of tiles answers at the registers";
        case SPIKELOOM_IMC_BAD_PROGRAM: return "the program ends within a layer";
        case SPIKELOOM_IMC_NOT_SENT: return "a packet was not taken";
        case SPIKELOOM_IMC_TIMEOUT: return "the core did not end in time";
        case SPIKELOOM_IMC_OTHER_BUILD: return "the network was compiled for other parameters than the core's";
        case SPIKELOOM_IMC_BAD_ANSWER: return "an answer does not belong to the network";
        default: break;
    }
    if (result >= 0 && (size_t)result < sizeof ERRORS / sizeof *ERRORS) return ERRORS[result];
    return "unknown";
}
