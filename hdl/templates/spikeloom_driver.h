/* Driver of the accelerator: load a program, start it, wait for it, read its result.
 *
 * No allocation, no globals, C99 or C++. Needs two functions that reach the registers and one buffer that CPU and
 * accelerator both see. Offsets and sizes are bytes. */

#ifndef SPIKELOOM_DRIVER_H
#define SPIKELOOM_DRIVER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the CPU reaches the accelerator.
 *
 * write_register, read_register : one 32-bit access at a byte offset of the AXI4-Lite port
 * sync : NULL where the buffer is coherent; else called after the CPU wrote a range of it (to_device 1) and before the
 *        CPU reads one (to_device 0), to clean or to invalidate the data cache
 * context : handed to the three functions
 * memory : the buffer as the CPU sees it, spikeloom_memory_bytes() long
 * address : the same buffer on the bus of the accelerator, a multiple of 64 */
typedef struct {
    void (*write_register)(void *context, uint32_t offset, uint32_t value);
    uint32_t (*read_register)(void *context, uint32_t offset);
    void (*sync)(void *context, uint32_t offset, uint32_t bytes, int to_device);
    void *context;
    uint8_t *memory;
    uint64_t address;
} spikeloom_device;

/* What the driver knows of one compiled network; SPIKELOOM_NETWORK of spikeloom_program.h initialises one. */
typedef struct {
    uint32_t config_hash;
    uint32_t program_bytes;
    uint32_t inputs, input_bytes;
    uint32_t stats, layers;
    uint32_t readout, channels, height, width;
    uint32_t memory_bytes;
} spikeloom_network;

/* Form of an image: SPIKELOOM_NETWORK_INPUT initialises one. With `spikes`, word bit t is the value at step t. */
typedef struct {
    uint32_t channels, height, width;
    uint32_t steps, spikes, word_bits;
    uint32_t tensors, block_bytes;
} spikeloom_input;

/* One tensor of an input block, by offset in it: `bits` bits from bit `shift` of the values of frame `frame`.
 * SPIKELOOM_NETWORK_TENSORS initialises an array of them. */
typedef struct {
    uint32_t masks, values;
    uint32_t frame, shift, bits;
} spikeloom_tensor;

/* Results below 0; results above 0 are codes of the register ERROR, see spikeloom_text(). */
enum {
    SPIKELOOM_OK = 0,
    SPIKELOOM_NO_DEVICE = -1,
    SPIKELOOM_OTHER_FORMAT = -2,
    SPIKELOOM_BAD_ADDRESS = -3,
    SPIKELOOM_TIMEOUT = -4,
    SPIKELOOM_OTHER_BUILD = -5
};

/* Return the size of the buffer for `slots` input blocks (at least 1) that are there at the same time. */
uint64_t spikeloom_memory_bytes(const spikeloom_network *network, uint32_t slots);

/* Copy program.bin into the buffer and set the registers; once per network, while the accelerator is idle.
 * Returns SPIKELOOM_NO_DEVICE, SPIKELOOM_OTHER_FORMAT, SPIKELOOM_OTHER_BUILD (compiled for other parameters) or
 * SPIKELOOM_BAD_ADDRESS (not a multiple of 64, or wider than the accelerator's bus) when there is nothing to load into. */
int spikeloom_load(const spikeloom_device *device, const spikeloom_network *network, const uint8_t *program);

/* Compress one image into an input block of block_bytes bytes.
 * values : quantised, [channel][y][x], or [step][channel][y][x] for a network that is shown frames */
void spikeloom_encode(const spikeloom_input *input, const spikeloom_tensor *tensors, const int32_t *values,
                      uint8_t *block);

/* Copy one input block into slot 0, 1, ... A slot that is not being read may be written during a run. */
void spikeloom_write_input(const spikeloom_device *device, const spikeloom_network *network, uint32_t slot,
                           const uint8_t *block);

/* Run the network on the input block in `slot`; with `interrupt`, irq rises at the end. */
void spikeloom_start(const spikeloom_device *device, const spikeloom_network *network, uint32_t slot, int interrupt);

/* Read STATUS at most `polls` times until the run ends, then clear it, which lowers irq.
 * Returns SPIKELOOM_OK, SPIKELOOM_TIMEOUT, or the code of an error. */
int spikeloom_wait(const spikeloom_device *device, uint32_t polls);

/* Read the read-out of the last layer, summed over the timesteps: channels x height x width values, channel first. */
void spikeloom_read(const spikeloom_device *device, const spikeloom_network *network, int32_t *logits);

/* Return the index of the largest of `count` logits, the lowest one of ties. */
uint32_t spikeloom_class(const int32_t *logits, uint32_t count);

/* Return a counter of the last run, by the offset of its low word, such as SPIKELOOM_CYCLES_LO. */
uint64_t spikeloom_counter(const spikeloom_device *device, uint32_t offset);

/* Return what one layer of the last run added to counter `index`, such as SPIKELOOM_STATS_CYCLES: the difference of
 * two records, which hold running totals. */
uint32_t spikeloom_layer_counter(const spikeloom_device *device, const spikeloom_network *network, uint32_t layer,
                                 uint32_t index);

/* Return the index of the layer that ran when the last run ended with an error. */
uint32_t spikeloom_error_layer(const spikeloom_device *device);

/* Return what a result of spikeloom_load() or spikeloom_wait() means. */
const char *spikeloom_text(int result);

#ifdef __cplusplus
}
#endif

#endif
