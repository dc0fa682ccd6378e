/* Driver of a core of in-memory-computing tiles: write cells, calibrate, run a network, read its result.
 *
 * No allocation, no globals, C99 or C++. Needs four functions: two reach the registers, two the streams. Words have 32
 * bits. */

#ifndef SPIKELOOM_IMC_DRIVER_H
#define SPIKELOOM_IMC_DRIVER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the CPU reaches the core.
 *
 * write_register, read_register : one 32-bit access at a byte offset of the AXI4-Lite port
 * send : give s_axis a packet, tlast with its last word; return 0 when all words are taken or queued, else not 0
 * receive : return the number of words of the next packet of m_axis, whose first `most` go to `words`, or 0 at once when no
 *           whole packet is there
 * wait : NULL, or called between two looks at a core that runs: may sleep until irq rises or a packet comes
 * context : handed to the functions */
typedef struct {
    void (*write_register)(void *context, uint32_t offset, uint32_t value);
    uint32_t (*read_register)(void *context, uint32_t offset);
    int (*send)(void *context, const uint32_t *words, uint32_t count);
    uint32_t (*receive)(void *context, uint32_t *words, uint32_t most);
    void (*wait)(void *context);
    void *context;
} spikeloom_imc_device;

/* What the driver knows of one compiled network; SPIKELOOM_IMC_NETWORK of spikeloom_imc_program.h initialises one.
 *
 * program_words : of program.bin; input_words : of an input block
 * steps : timesteps of an image; exits : 1, an image may stop early
 * jobs, job_words, answer_words : packets of jobs.bin, the words of each, and of its answer */
typedef struct {
    uint32_t config_hash;
    uint32_t program_words, layers;
    uint32_t input_words;
    uint32_t channels, height, width;
    uint32_t steps, exits;
    uint32_t jobs, job_words, answer_words;
} spikeloom_imc_network;

/* Form of an image: SPIKELOOM_IMC_INPUT initialises one. `rows` channels of a pixel are a word of an activation memory. */
typedef struct {
    uint32_t channels, height, width;
    uint32_t rows, planes;
} spikeloom_imc_input;

/* Where a plane comes from: bit `bit` of the values of frame `frame`. SPIKELOOM_IMC_PLANES initialises an array of them. */
typedef struct {
    uint32_t frame, bit;
} spikeloom_imc_plane;

/* A register and what is written to it. SPIKELOOM_IMC_WRITE_<device> initialises an array of them: how cells are written. */
typedef struct {
    uint32_t offset, value;
} spikeloom_imc_setting;

/* A calibration. SPIKELOOM_IMC_OFFSETS and SPIKELOOM_IMC_TRIMS initialise one. */
typedef struct {
    uint32_t trims, log2, pedestal, limit;
} spikeloom_imc_calibration;

/* What came of jobs: how many there were, how many of them failed, what they did. */
typedef struct {
    uint32_t jobs, failed;
    uint32_t sets, resets, comparisons;
} spikeloom_imc_written;

/* Results below 0; results above 0 are codes of the register ERROR, see spikeloom_imc_text(). */
enum {
    SPIKELOOM_IMC_OK = 0,
    SPIKELOOM_IMC_NO_DEVICE = -1,
    SPIKELOOM_IMC_BAD_PROGRAM = -2,
    SPIKELOOM_IMC_NOT_SENT = -3,
    SPIKELOOM_IMC_TIMEOUT = -4,
    SPIKELOOM_IMC_OTHER_BUILD = -5,
    SPIKELOOM_IMC_BAD_ANSWER = -6
};

/* Compare the core with the network. Returns SPIKELOOM_IMC_NO_DEVICE or SPIKELOOM_IMC_OTHER_BUILD (compiled for other
 * parameters) when it is not the one. */
int spikeloom_imc_check(const spikeloom_imc_device *device, const spikeloom_imc_network *network);

/* Write all cells of the network: send the jobs of jobs.bin one after the other, and take their answers.
 *
 * settings : `count` registers, of the device that cells are
 * words : room for network->answer_words words
 * polls : looks at the stream, of each answer
 * A job whose cells failed is counted, and the next one goes on; the result then is the code of cells that are not at their
 * level. Other errors end it. */
int spikeloom_imc_write_cells(const spikeloom_imc_device *device, const spikeloom_imc_network *network,
                              const spikeloom_imc_setting *settings, uint32_t count, const uint32_t *jobs, uint32_t *words,
                              uint32_t polls, spikeloom_imc_written *written);

/* Measure offsets or search trim codes of all tiles, with the converters of the program; lost in an error and by reset. */
int spikeloom_imc_calibrate(const spikeloom_imc_device *device, const spikeloom_imc_network *network,
                            const uint32_t *program, const spikeloom_imc_calibration *calibration, uint32_t polls);

/* Make an input block of input_words words from one image.
 * values : quantised, [channel][y][x], or [step][channel][y][x] for a network that is shown frames */
void spikeloom_imc_encode(const spikeloom_imc_input *input, const spikeloom_imc_plane *planes, const int32_t *values,
                          uint32_t *block);

/* Run the network on an input block.
 *
 * polls : looks at a core that runs, of each layer
 * logits : channels x height x width sums over the steps that ran, channel first
 * steps : how many ran; NULL: nobody asks
 * Returns SPIKELOOM_IMC_OK, the code of an error, or a result below 0. */
int spikeloom_imc_run(const spikeloom_imc_device *device, const spikeloom_imc_network *network, const uint32_t *program,
                      const uint32_t *block, uint32_t polls, int32_t *logits, uint32_t *steps);

/* Return the index of the largest of `count` logits, the lowest one of ties. */
uint32_t spikeloom_imc_class(const int32_t *logits, uint32_t count);

/* Return a counter of the last layer that ran, by its offset, such as SPIKELOOM_IMC_CYCLES. */
uint32_t spikeloom_imc_counter(const spikeloom_imc_device *device, uint32_t offset);

/* Return what a result means. */
const char *spikeloom_imc_text(int result);

#ifdef __cplusplus
}
#endif

#endif
